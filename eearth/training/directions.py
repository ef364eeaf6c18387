"""What pre-training learns at once, before any step: directions in which places differ and neighbours agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.data.series import samples
from eearth.models.contrast import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.data.series import Series
    from eearth.models.contrast import Directions, Pairs
    from eearth.models.encoder import Encoder
    from eearth.settings import PretrainSettings

# Part of the seed of what is drawn here.
DRAW_NEIGHBOURS = 6

# Contrastive steps of an encoder that has no closed form.
STEPS_WITHOUT = 150


def solved(encoder: Encoder, settings: PretrainSettings) -> bool:
    """Whether the encoder learns directions in closed form under these settings."""
    return encoder.solves and (settings.evening > 0 or settings.agreement > 0)


def planned_steps(encoder: Encoder, settings: PretrainSettings) -> int:
    """Contrastive steps: none after the closed form, which they made worse on most sites (docs/design/0009)."""
    if settings.steps is not None:
        return settings.steps
    return 0 if solved(encoder, settings) else STEPS_WITHOUT


def learn_directions(encoder: Encoder, series: Sequence[Series], settings: PretrainSettings) -> Directions | None:
    """Learn directions from neighbouring pixels of some windows of the imagery; the encoder is changed.

    Args:
        encoder: On the CPU, with random weights.
        series: The imagery.
        settings: How far, and from which pairs: `shuffle` pairs unrelated pixels, `identical` each with itself.

    Returns:
        What was found; None where nothing is learnt in closed form.
    """
    if not solved(encoder, settings):
        return None
    pairs: Pairs = "unrelated" if settings.shuffle else "identical" if settings.identical else "neighbours"
    recipe = Recipe(settings.evening, settings.agreement, pairs)
    random = np.random.default_rng([settings.seed, DRAW_NEIGHBOURS])
    return encoder.contrast_neighbours(samples(series, encoder.bands, settings.seed), recipe, random)

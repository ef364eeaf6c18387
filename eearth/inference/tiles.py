"""From a trained network to the class probabilities or the features of one tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import numpy as np
import torch

from eearth.data.sliding import Sliding, blended
from eearth.data.turning import from_all_sides
from eearth.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from eearth.data.series import Chips, Series
    from eearth.geo.grid import Window
    from eearth.models.segmentation import LandCoverModel


# Windows for an evaluation: large enough that the margin costs little, small enough for any memory.
EVALUATION_TILE, EVALUATION_WINDOW, EVALUATION_BATCH = 512, 128, 4


def predict_tile(
    model: nn.Module,
    source: Series,
    tile: Window,
    inside: NDArray[np.bool_] | None = None,
    *,
    augment: bool = False,
    **sliding: Unpack[Sliding],
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Class probabilities of one tile.

    Args:
        model: Chips → class scores (chip, class, y, x); must stand on the device and is set to evaluation.
        source: See `blended`.
        tile: See `blended`.
        inside: See `blended`.
        augment: Whether they are the mean over the eight flips and quarter turns of the imagery.
        **sliding: See `Sliding`.

    Returns:
        Probabilities (class, y, x), which sum to 1 wherever the map is wanted, and the number of clear
        observations (y, x). There is no class at all where `inside` is nowhere True.

    Raises:
        ModelError: The network's scores are not finite.
    """
    model.eval()

    def network(chips: Chips) -> Tensor:
        return model(chips).float().softmax(dim=1)  # type: ignore[no-any-return]

    shown = from_all_sides(network) if augment else network
    probabilities, observations = blended(shown, source, tile, inside, **sliding)
    _check(probabilities)
    return probabilities, observations


def map_tile(
    model: LandCoverModel,
    source: Series,
    tile: Window,
    inside: NDArray[np.bool_] | None = None,
    **sliding: Unpack[Sliding],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Class probabilities of one tile as a model wants to be shown, and how far it is from what the model knows.

    Args:
        model: On the device; it is set to evaluation.
        source: See `blended`.
        tile: See `blended`.
        inside: See `blended`.
        **sliding: See `Sliding`.

    Returns:
        Probabilities (class, y, x), see `predict_tile`; the distance (y, x) of `LandCoverModel.with_distance`, blended
        as they are; the number of clear observations (y, x).

    Raises:
        ModelError: The network's scores are not finite.
    """
    model.eval()

    def network(chips: Chips) -> Tensor:
        scores, distance = model.with_distance(chips)
        return torch.cat([scores.float().softmax(dim=1), distance.float()], dim=1)

    shown = from_all_sides(network) if model.augment else network
    found, observations = blended(shown, source, tile, inside, **sliding)
    _check(found[:-1])
    return found[:-1], found[-1], observations


def _check(probabilities: NDArray[np.float32]) -> None:
    if not np.isfinite(probabilities).all():
        msg = "expected finite class scores, found NaN or infinity: the model is damaged, run `eearth finetune` again"
        raise ModelError(msg)


def encode_tile(
    encoder: nn.Module,
    source: Series,
    tile: Window,
    inside: NDArray[np.bool_] | None = None,
    **sliding: Unpack[Sliding],
) -> NDArray[np.float32]:
    """Features of one tile.

    Args:
        encoder: Chips → features (chip, feature, y, x); must stand on the device and is set to evaluation.
        source: See `blended`.
        tile: See `blended`.
        inside: See `blended`.
        **sliding: See `Sliding`.

    Returns:
        (feature, y, x); NaN where not `inside`, and where no clear observation exists.

    Raises:
        ModelError: The encoder's features are not finite.
    """
    encoder.eval()
    features, observations = blended(encoder, source, tile, inside, **sliding)
    if not np.isfinite(features).all():
        msg = "expected finite features, found NaN or infinity: the encoder is damaged, run `eearth pretrain` again"
        raise ModelError(msg)
    unwanted = observations == 0 if inside is None else ~inside | (observations == 0)
    features[:, unwanted] = np.nan
    return features

"""What every process of a comparison knows: the regions, the contenders, and how networks are trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eearth.comparison.contenders import FOREST, PROBE, Contender, pixels_of
from eearth.settings import FinetuneSettings
from eearth.training.finetune import MOST_STEPS, planned_steps

# Steps of a training with a label budget.
FEWEST_STEPS, STEPS_FOR_A_LABEL = 60, 40


@dataclass(frozen=True)
class Source:
    """A region that takes part.

    Attributes:
        workspace: Folder with imagery and labels.
        split: Arguments of `split_blocks` beside the seed, as the labels were split.
    """

    workspace: Path
    split: dict[str, float | None]


@dataclass(frozen=True)
class Plan:
    """What every process of a comparison knows.

    Attributes:
        sources: The regions; labels, training and test pixels of all count together.
        contenders: Who takes part.
        network: Description of the network from scratch: that of the encoders, with these regions' band statistics.
        training: How networks are trained; budget, seed and learning rate are the run's.
        device: Where networks run.
        kept: Folder for what is computed once for all runs.
    """

    sources: tuple[Source, ...]
    contenders: tuple[Contender, ...]
    network: dict[str, Any]
    training: FinetuneSettings
    device: str
    kept: Path

    def schedule(self, contender: Contender, budget: str, seed: int = 0) -> FinetuneSettings:
        """How a network is trained: with more steps for more labels, at rate 0 with none."""
        per_class = pixels_of(budget)
        settings = replace(self.training, labels_per_class=per_class, seed=seed)
        if not contender.rate:
            return replace(settings, steps=0)
        steps = settings.steps
        if steps is None and per_class:
            steps = min(MOST_STEPS, FEWEST_STEPS + STEPS_FOR_A_LABEL * per_class)
        return replace(settings, learning_rate=contender.rate, head_learning_rate=contender.rate, steps=steps)

    def frozen(self, contender: Contender, budget: str) -> bool:
        """Whether a contender's features are those that its encoder starts with."""
        if contender.kind in (FOREST, PROBE):
            return contender.kind == PROBE
        return planned_steps(self.schedule(contender, budget)) == 0

"""What is watched while an encoder learns: loss, alignment, uniformity, and a probe where there are labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eearth.events import Advanced, Report, Started
from eearth.losses import alignment, uniformity
from eearth.training.distributed import Ranks
from eearth.training.history import Log
from eearth.training.probe import Probe

if TYPE_CHECKING:
    from torch import Tensor

    from eearth.models.encoder import Encoder
    from eearth.training.loop import TrainingState

# Pixels of a batch whose mutual distances give the uniformity.
UNIFORMITY_PIXELS = 2048

SAID = {"loss": "loss", "probe_miou": "probe mIoU"}


@dataclass
class Watcher:
    """Looks at the features every so many steps, and tells of each step.

    Attributes:
        every: Steps between two looks; 0 for none.
        steps: Of the training; the last is always looked at.
        ranks: The processes; the leading one has the probe.
        probe: None where there are no labels to watch by.
        log: Takes each row of the history.
        report: Receives progress.
    """

    every: int
    steps: int
    ranks: Ranks
    probe: Probe | None
    log: Log
    report: Report

    def begin(self, task: str, state: TrainingState, encoder: Encoder) -> None:
        """Before the first step of a run: where it starts, and, for a fresh one, how good its features are by then."""
        self.report(Started(task=task, total=self.steps, unit="step", done=state.step))
        if self.probe and not state.history:
            state.history.append({"step": 0, "probe_miou": self.probe.mean_iou(encoder, self.ranks.device)})
            self.log(state.history[-1])

    def look(self, row: dict[str, float], encoder: Encoder, views: Tensor) -> None:
        """Add to a step's row what is due after it.

        Args:
            row: Of the history, with `step`.
            encoder: As it is after the step.
            views: (2, pixel, feature) embeddings that the step's loss was computed from.
        """
        step = int(row["step"])
        if not self.every or (step % self.every and step != self.steps):
            return
        if views.shape[1] > 1:
            row["alignment"] = alignment(*views).item()
            row["uniformity"] = uniformity(views[0, :UNIFORMITY_PIXELS]).item()
        if self.probe:
            row["probe_miou"] = self.probe.mean_iou(encoder, self.ranks.device)

    def tell(self, task: str, row: dict[str, float]) -> None:
        """Log a row and report a step."""
        self.log(row)
        said = [f"{text} {row[key]:.3f}" for key, text in SAID.items() if key in row]
        self.report(Advanced(task=task, detail=", ".join(said)))

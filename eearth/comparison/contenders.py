"""Who takes part in a comparison, and what a run of it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PRETRAINED, SCRATCH, PROBE, FOREST = "pretrained", "scratch", "probe", "forest"

LABELS = {PRETRAINED: "pre-trained", SCRATCH: "scratch", PROBE: "frozen probe", FOREST: "random forest"}

ALL = "all"


@dataclass(frozen=True)
class Pretrained:
    """A pre-trained encoder.

    Attributes:
        path: Its file.
        source: Name of the region it comes from; empty for that of the workspace itself.
    """

    path: Path
    source: str = ""


@dataclass(frozen=True)
class Contender:
    """One way to learn from labels.

    Attributes:
        kind: One of the keys of `LABELS`.
        encoder: What it starts from; None where it starts from nothing.
        rate: Learning rate of a network, one of several that are tried; None for the others.
    """

    kind: str
    encoder: Pretrained | None = None
    rate: float | None = None

    @property
    def label(self) -> str:
        """Name in a table; that of a network is the same for all its learning rates."""
        source = self.encoder.source if self.encoder else ""
        return f"{LABELS[self.kind]} on {source}" if source else LABELS[self.kind]

    @property
    def name(self) -> str:
        """Name in the list of runs, different for each contender."""
        return self.label if self.rate is None else f"{self.label}, rate {self.rate:g}"


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        contender: Its name.
        budget: Labelled pixels of each class, or `ALL`.
        seed: Of the split, the chosen pixels, the weights and every draw.
    """

    contender: str
    budget: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a run gave; pixels are counted whether they were ever seen clearly or not.

    Attributes:
        task: The run.
        train_pixels: Training pixels of the split, whatever the budget.
        test_pixels: Its test pixels.
        test_classes: Classes among them.
        labels: Labelled pixels that were learnt from.
        classes: Classes among them.
        miou: Mean intersection over union over the test classes, 0 to 1.
        overall: Overall accuracy, 0 to 1.
        seconds: Time that the run took.
    """

    task: Task
    train_pixels: int
    test_pixels: int
    test_classes: int
    labels: int
    classes: int
    miou: float
    overall: float
    seconds: float


def line_up(kinds: Sequence[str], encoders: Sequence[Pretrained], rates: Sequence[float]) -> tuple[Contender, ...]:
    """Every contender, in the order in which tables show them: encoders first, then what they are compared with."""
    by_kind = {
        PRETRAINED: [Contender(PRETRAINED, encoder, rate) for encoder in encoders for rate in rates],
        SCRATCH: [Contender(SCRATCH, rate=rate) for rate in rates],
        PROBE: [Contender(PROBE, encoder) for encoder in encoders],
        FOREST: [Contender(FOREST)],
    }
    return tuple(contender for kind in LABELS if kind in kinds for contender in by_kind[kind])


def pixels_of(budget: str) -> int | None:
    """Labelled pixels of each class; None for all."""
    return None if budget == ALL else int(budget)

"""Settings of `eearth compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting
from eearth.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """Does pre-training help here? Pre-trained against scratch, a frozen probe and a random forest, with few labels."""

    stage: ClassVar[str] = "compare"
    also: tuple[Path, ...] = setting(
        (),
        text="Other workspaces with the same bands and classes: labels, splits and test pixels of all count together.",
        incidental=True,
    )
    budgets: tuple[str, ...] = setting(
        ("1", "5", "20", "100"),
        text="Labelled pixels of each class to learn from, or 'all'; a class that has fewer gives all that it has.",
    )
    seeds: int | None = setting(
        None,
        least=1,
        text="Repetitions, each with another split, other pixels, weights and draws, the same for all; with "
        "--precision, the most. Default: 5; with --precision, 20.",
    )
    precision: float | None = setting(
        None,
        least=0.01,
        text="Repeat, at least 5 times, until the 95 % interval of pre-trained minus scratch is narrower than this to "
        "either side, in points of mIoU.",
    )
    contenders: tuple[Literal["pretrained", "scratch", "probe", "forest"], ...] = setting(
        ("pretrained", "scratch", "probe", "forest"), text="Who takes part."
    )
    encoder: tuple[Path, ...] = setting(
        (),
        text="Other workspaces or encoder files that take part as well, beside this workspace's pretrain/ if it is "
        "there.",
        incidental=True,
    )
    rates: tuple[float, ...] = setting(
        (0.0, 1e-3),
        text="Learning rates of the encoder that are tried; for each network and budget the best one "
        "counts. 0 is the linear start alone.",
    )
    steps: int | None = setting(
        None,
        text="Training steps after the linear start. Default: with a budget of K pixels 60 + 40 K, up to 300; with all "
        "labels 300, of which the best validation counts.",
    )
    workers: int | None = setting(
        None, least=1, text="Runs at the same time, each a process. Default: the CPU cores.", incidental=True
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", text="Where to compute.", incidental=True)

    def __post_init__(self) -> None:
        """Refuse what cannot be compared."""
        super().__post_init__()
        for budget in self.budgets:
            if budget != "all" and not (budget.isdecimal() and budget == str(int(budget)) != "0"):
                msg = f"expected budgets that are whole numbers above 0, or 'all', found {budget!r}"
                raise UsageError(msg)
        if min(self.rates) < 0:
            msg = f"expected rates of at least 0, found {min(self.rates):g}"
            raise UsageError(msg)
        for name in ("budgets", "contenders", "rates"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                msg = f"expected each of the {name} once, found {', '.join(map(str, getattr(self, name)))}"
                raise UsageError(msg)
        if self.precision is not None and not {"pretrained", "scratch"} <= set(self.contenders):
            msg = f"expected pretrained and scratch among the contenders with --precision, found {self.contenders}"
            raise UsageError(msg)

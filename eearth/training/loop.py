"""What both training loops share: seeded draws, schedule, precision, checkpoints, and one loop over steps.

Everything random at a step is a function of (seed, step), and the state after a step is written in one rename, so that
a run that was killed and resumed gives the same weights on a CPU, bit by bit.
"""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from eearth.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKPOINT = "state.pt"
CHECKPOINT_SECONDS = 20.0

# Share of the steps over which the learning rate rises from zero; it then falls along a cosine.
WARM_UP = 0.1

Batch = TypeVar("Batch")


def learning_rate_factor(step: int, steps: int) -> float:
    """Share of the peak learning rate: a linear warm-up, then half a cosine down to zero."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def prefetched(make: Callable[[int], Batch], first: int, steps: int) -> Iterator[tuple[int, Batch]]:
    """Batches of the steps first, ..., steps − 1; the next one is made in a thread while one is learnt from.

    Args:
        make: Step → its batch, a function of nothing else.
        first: First step.
        steps: One past the last step.
    """
    if first >= steps:
        return
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(make, first)
        for step in range(first, steps):
            batch = coming.result()
            if step + 1 < steps:
                coming = pool.submit(make, step + 1)
            yield step, batch


@dataclass
class TrainingState:
    """Everything that a resumed run needs.

    Attributes:
        modules: Name → network whose weights are trained or kept.
        optimizer: Of the networks.
        folder: Where the state is kept between attempts; None to keep none.
        step: Steps done.
        history: One row of figures for each step or validation.
        best: Extra state that a loop wants back, such as the best weights so far.
    """

    modules: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    folder: Path | None
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    written: float = field(default_factory=time.monotonic)

    def restore(self) -> None:
        """Take up the state that an interrupted run left behind, if there is one."""
        path = self.folder / CHECKPOINT if self.folder else None
        if path is None or not path.is_file():
            return
        kept = torch.load(path, map_location="cpu", weights_only=True)
        self.modules.load_state_dict(kept["modules"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.step, self.history, self.best = kept["step"], kept["history"], kept["best"]

    def keep(self) -> None:
        """Write the state if it is due: whole or not at all, whenever the process is killed."""
        if self.folder is None or time.monotonic() - self.written < CHECKPOINT_SECONDS:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": self.history,
            "best": self.best,
        }
        fresh = self.folder / f"{CHECKPOINT}.new"
        with fresh.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.folder / CHECKPOINT)
        self.written = time.monotonic()


def update(optimizer: torch.optim.Optimizer, loss: torch.Tensor, factor: float) -> None:
    """One optimiser step at `factor` times each group's peak learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU, float32 elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def choose_device(name: str) -> torch.device:
    """The device of a setting: `auto` is the first GPU if there is one.

    Raises:
        UsageError: A GPU is asked for where there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        msg = "expected a CUDA device for --device cuda, found none: use --device cpu"
        raise UsageError(msg)
    return torch.device("cuda" if available and name != "cpu" else "cpu")

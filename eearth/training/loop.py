"""What both training loops share: seeded draws, schedule, precision, checkpoints, and one loop over steps.

Everything random at a step is a function of (seed, step), and the state after a step is written in one rename, so that
a run that was killed and resumed gives the same weights on a CPU, bit by bit.
"""

from __future__ import annotations

import io
import math
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKPOINT = "state.pt"
# The state is written when this time has passed since it was last written, or, where writing takes long, when writing
# has taken less than this share of the time. What a kill loses is then about a second, or fifty times a writing.
CHECKPOINT_SECONDS = 1.0
CHECKPOINT_SHARE = 0.02

# Share of the steps over which the learning rate rises from zero; it then falls along a cosine.
WARM_UP = 0.1

Batch = TypeVar("Batch")


def learning_rate_factor(step: int, steps: int) -> float:
    """Share of the peak learning rate: a linear warm-up, then half a cosine down to zero."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@dataclass
class DataWait:
    """How long a loop waited for its batches.

    Attributes:
        waited: Seconds.
        total: Seconds from the first batch asked for to the end of the last step.
    """

    waited: float = 0.0
    total: float = 0.0

    @property
    def share(self) -> float:
        """Of the total; 0 where there was no step."""
        return self.waited / self.total if self.total else 0.0


def prefetched(
    make: Callable[[int], Batch], first: int, steps: int, *, ahead: int = 1, wait: DataWait | None = None
) -> Iterator[tuple[int, Batch]]:
    """Batches of the steps first, ..., steps − 1; the next ones are made in threads while one is learnt from.

    Args:
        make: Step → its batch, a function of nothing else.
        first: First step.
        steps: One past the last step.
        ahead: Batches made ahead, each in a thread of its own.
        wait: Takes the time.
    """
    wait, begun = wait or DataWait(), time.perf_counter()
    coming: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(max_workers=ahead) as pool:
        for step in range(first, steps):
            asked = time.perf_counter()
            while len(coming) <= ahead and step + len(coming) < steps:
                coming.append(pool.submit(make, step + len(coming)))
            batch = coming.popleft().result()
            wait.waited += time.perf_counter() - asked
            yield step, batch
            wait.total = time.perf_counter() - begun


def _itself(value: Any) -> Any:
    return value


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
        share: Gives every process that trains together what the leading one read; by itself where there is one.
        written: When the state was last written, on the monotonic clock.
        cost: Seconds that this took.
    """

    modules: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    folder: Path | None
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    share: Callable[[Any], Any] = _itself
    written: float = field(default_factory=time.monotonic)
    cost: float = 0.0

    def restore(self) -> bool:
        """Take up the state that an interrupted run left behind, if there is one; whether there was."""
        path = self.folder / CHECKPOINT if self.folder else None
        there = path if path is not None and path.is_file() else None
        kept = self.share(torch.load(there, map_location="cpu", weights_only=True) if there else None)
        if kept is None:
            return False
        self.modules.load_state_dict(kept["modules"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.step, self.history, self.best = kept["step"], kept["history"], kept["best"]
        return True

    def keep(self) -> None:
        """Write the state if it is due: whole or not at all, whenever the process is killed."""
        begun = time.monotonic()
        if self.folder is None or begun - self.written < max(CHECKPOINT_SECONDS, self.cost / CHECKPOINT_SHARE):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "modules": self.modules.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": self.history,
            "best": self.best,
        }
        fresh, packed = self.folder / f"{CHECKPOINT}.new", io.BytesIO()
        torch.save(state, packed)  # into memory first: torch takes a full disk for a defect of its own
        with fresh.open("wb") as file:
            file.write(packed.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.folder / CHECKPOINT)
        self.written = time.monotonic()
        self.cost = self.written - begun


def update(
    optimizer: torch.optim.Optimizer,
    loss: torch.Tensor,
    factor: float,
    add_up: Callable[[Sequence[torch.Tensor]], None] | None = None,
) -> None:
    """One optimiser step at `factor` times each group's peak learning rate.

    Args:
        optimizer: Its groups say their `peak`.
        loss: Of this process's share of the batch.
        factor: Of the schedule.
        add_up: Adds up the gradients of all processes in place; None where there is one.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    if add_up is not None:
        add_up([weight.grad for weight in parameters if weight.grad is not None])
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU, float32 elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")

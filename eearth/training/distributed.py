"""Several processes that train one network: `torchrun --nproc-per-node N -m eearth pretrain ...`.

Each process makes its share of a batch, all see the features of all, and the gradients are added up before the step:
what is learnt is what one process would learn from the whole batch. The collectives are called here and nowhere else.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from eearth.config import launched
from eearth.errors import EearthError, UsageError
from eearth.models.device import choose_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch._C._distributed_c10d import Store

# Where the first process that fails says so, and the others find that there is nothing more to say.
FAILURES = "eearth/failures"

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: Number of this process.
        size: How many there are.
        local_size: How many there are on this machine.
        device: Where this process computes.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    device: torch.device = CPU

    @property
    def leads(self) -> bool:
        """Writes and reports: one process does."""
        return self.rank == 0

    @property
    def own(self) -> slice:
        """Which parts of a batch this process makes."""
        return slice(self.rank, None, self.size)

    def share(self, value: Any) -> Any:
        """What the leading process gives, on all of them; the others' values count for nothing."""
        if self.size == 1:
            return value
        given = [value]
        dist.broadcast_object_list(given, src=0)
        return given[0]

    def gather(self, rows: Tensor) -> tuple[Tensor, slice]:
        """The rows of all processes, and where among them this process's are; gradients flow back to their process."""
        if self.size == 1:
            return rows, slice(0, len(rows))
        count = torch.zeros(self.size, dtype=torch.int64, device=rows.device)
        count[self.rank] = len(rows)
        dist.all_reduce(count)
        counts = count.tolist()
        first = sum(counts[: self.rank])
        gathered: Tensor = _Gather.apply(rows, counts, self.rank)  # type: ignore[no-untyped-call]
        return gathered, slice(first, first + len(rows))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by the sum over all processes, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))


class _Gather(torch.autograd.Function):
    """Rows of all processes; backwards, the sum of what all processes ask of this one's rows."""

    @staticmethod
    def forward(context: Any, rows: Tensor, counts: list[int], rank: int) -> Tensor:
        """Fill up to the longest, for a collective moves equal parts."""
        context.span = sum(counts[:rank]), counts[rank]
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Each process has a part of the loss; a row's gradient is the sum over all parts."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        first, count = context.span
        return total[first : first + count], None, None


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Take part in the training that a launcher started, or train alone where none did.

    Args:
        device: The setting: auto, cpu or cuda.

    Raises:
        EearthError: What this process failed of, if it is the first that fails.
        SystemExit: Another process failed, and has said why.
    """
    if launched()[1] == 1:
        yield Ranks(device=choose_device(device))
        return
    store, rank, size = next(rendezvous("env://"))
    try:
        yield _join(store, rank, size, device)
    except Exception as error:  # noqa: BLE001 - raised again by the first process that fails
        _fail(error, store)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _join(store: Store, rank: int, size: int, device: str) -> Ranks:
    """Meet the other processes."""
    chosen = choose_device(device)
    local, local_size = int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size))
    if chosen.type == "cuda":
        chosen = _own_gpu(local, local_size)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", store=store, rank=rank, world_size=size)
    return Ranks(rank, size, local_size, chosen)


def _own_gpu(local: int, local_size: int) -> torch.device:
    found = torch.cuda.device_count()
    if local >= found:
        msg = f"expected a GPU for each of {local_size} processes, found {found}: start fewer, or use --device cpu"
        raise UsageError(msg)
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def _fail(error: Exception, store: Store) -> None:
    """Say what went wrong if no other process did; a lost connection is only what the others hear of a failure."""
    try:
        first = store.add(FAILURES, 1) == 1
    except RuntimeError:  # the store went down with the process that held it, which has said why
        first = False
    if not first:
        raise SystemExit(1) from error
    if isinstance(error, dist.DistError) or "onnection" in str(error):
        msg = "another process of this training ended without a word: see its log, then run the same command again"
        raise EearthError(msg) from error
    raise error

"""Time and memory of one step of the pixel InfoNCE loss, forward and backward, beside the ways it is usually written.

    python benchmarks/contrastive_loss.py [--pixels 16384 65536] [--contenders eearth matrix rows] [--threads 2]

`matrix` holds all logits and leaves the gradient to autograd; `rows` makes 1024 rows at a time, and makes them again in
the backward pass (torch.utils.checkpoint). Each row of the table is a fresh process; memory is how much the step raises
its peak, so the views do not count, and their gradients do. Seconds are those of the fastest of the repetitions; the
CPU's seconds stand beside them, for a busy machine stretches the others.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from eearth.losses import info_nce

if TYPE_CHECKING:
    from collections.abc import Callable

TEMPERATURE, EXCLUSION = 0.5, 16.0
REGIONS, SIDE = 4, 1000
WARM_UP = 512


def rows_loss(query: Tensor, own: Tensor, keys: Tensor, here: Tensor, place: Tensor) -> Tensor:
    """Summed InfoNCE of some rows against all keys."""
    region, row, col = (here[:, None, axis] - place[None, :, axis] for axis in range(3))
    near = (region == 0) & (row.abs() <= EXCLUSION) & (col.abs() <= EXCLUSION)
    logits = (query @ keys.T / TEMPERATURE).masked_fill(near, -torch.inf)
    positive = (query * own).sum(dim=1) / TEMPERATURE
    return F.softplus(torch.logsumexp(logits, dim=1) - positive).sum()


def matrix(first: Tensor, second: Tensor, place: Tensor) -> Tensor:
    """The loss from the full matrix."""
    first, second, place = F.normalize(first), F.normalize(second), place.float()
    both = ((first, second), (second, first))
    return torch.stack([rows_loss(query, key, key, place, place) for query, key in both]).sum() / (2 * len(first))


def rows(first: Tensor, second: Tensor, place: Tensor, chunk: int = 1024) -> Tensor:
    """The loss row by row, with recomputation."""
    first, second, place = F.normalize(first), F.normalize(second), place.float()
    parts = [
        checkpoint(rows_loss, *part, key, here, place, use_reentrant=False)
        for query, key in ((first, second), (second, first))
        for *part, here in zip(query.split(chunk), key.split(chunk), place.split(chunk), strict=True)
    ]
    return torch.stack(parts).sum() / (2 * len(first))


def eearth(first: Tensor, second: Tensor, place: Tensor) -> Tensor:
    """This package's."""
    return info_nce(first, second, place, temperature=TEMPERATURE, exclusion=EXCLUSION)


CONTENDERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"eearth": eearth, "matrix": matrix, "rows": rows}


def batch(pixels: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two views that agree in part, in windows of 64 pixels at random places of some regions."""
    draw = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, pixels, width, generator=draw).unbind()
    windows = -(-pixels // 64)
    corner = torch.stack([torch.randint(high, (windows,), generator=draw) for high in (REGIONS, SIDE, SIDE)], dim=1)
    inside = F.pad(torch.randint(32, (pixels, 2), generator=draw), (1, 0))
    return first, first + second, corner.repeat_interleave(64, dim=0)[:pixels] + inside


def measure(contender: str, pixels: int, width: int, threads: int, repeats: int) -> str:
    """A row of the table."""
    torch.set_num_threads(threads)
    first, second, place = batch(pixels, width)
    loss = CONTENDERS[contender]
    loss(*(view[:WARM_UP].clone().requires_grad_() for view in (first, second)), place[:WARM_UP]).backward()
    before, best = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [float("inf")] * 3
    for _ in range(repeats):
        inputs = [view.detach().requires_grad_() for view in (first, second)]
        clocks = [(time.perf_counter(), time.process_time())]
        value = loss(*inputs, place)
        clocks.append((time.perf_counter(), time.process_time()))
        value.backward()
        clocks.append((time.perf_counter(), time.process_time()))
        taken = clocks[1][0] - clocks[0][0], clocks[2][0] - clocks[1][0], clocks[2][1] - clocks[0][1]
        best = [min(pair) for pair in zip(best, taken, strict=True)]
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    times = " | ".join(f"{seconds:.2f}" for seconds in best)
    return f"| {contender} | {pixels} | {times} | {extra:.0f} | {value.item():.6f} |"


def main() -> None:
    """Measure each contender at each size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, nargs="+", default=[16384])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(measure(given.contenders[0], given.pixels[0], given.width, given.threads, given.repeats))
        return
    print("| | pixels | forward, s | backward, s | CPU, s | extra memory, MB | loss |\n|---|---|---|---|---|---|---|")
    for pixels in given.pixels:
        for contender in given.contenders:
            options = {"--pixels": pixels, "--contenders": contender, "--width": given.width}
            options |= {"--threads": given.threads, "--repeats": given.repeats}
            words = [str(word) for option in options.items() for word in option]
            subprocess.run([sys.executable, __file__, "--here", *words], check=True)


if __name__ == "__main__":
    main()

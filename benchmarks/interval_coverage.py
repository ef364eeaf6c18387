"""How often 95 % intervals of accuracy and area hold the truth, where the truth is known.

    python benchmarks/interval_coverage.py [sample] [blocks] [--samples 10000] [--draws 1000] [--seed 0]

`sample` draws stratified random samples without replacement from maps whose every error is known, and asks the code of
`eearth assess --reference` for its intervals (wilson, the default, and wald, the published formulas). `blocks` makes
up regions of many blocks whose accuracy differs from block to block, tests on some of them, and asks the bootstrap of
`eearth assess`. Printed are the shares of samples, in percent, whose interval holds the true value; a sample in which a
measure has no interval does not count. With 10,000 samples a share of 95 % is known to ± 0.4; those of the last map, of
40 classes, take minutes (`--maps 8 --samples 2000`).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eearth.accuracy.bootstrap import bootstrap
from eearth.accuracy.stratified import StratifiedSample, assess
from eearth.metrics import measures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eearth.accuracy.intervals import Interval


@dataclass(frozen=True)
class Known:
    """A map whose errors are known: pixels by mapped class (row) and true class, and the points of each stratum."""

    name: str
    pixels: NDArray[np.int64]
    points: tuple[int, ...]


def _known(name: str, strata: Sequence[int], shares: Sequence[Sequence[float]], points: Sequence[int]) -> Known:
    rows = np.asarray(shares, dtype=float)
    pixels = np.rint(np.asarray(strata)[:, None] * rows / rows.sum(axis=1, keepdims=True)).astype(np.int64)
    return Known(name, pixels, tuple(points))


def _many(classes: int, points: int, omitted: float) -> Known:
    """Equal classes, 90 % right, and last a rare one of 0.2 % of the map that each of the others hides some of."""
    others, rare = classes - 1, 0.002
    shares = np.full((classes, classes), 0.1 / (others - 1))
    np.fill_diagonal(shares, 0.9)
    shares[:, -1], shares[-1] = omitted, 0.1 / others
    shares[-1, -1] = 0.9
    weights = np.append(np.full(others, (1 - rare) / others), rare)
    name = f"{classes} classes, {points} points"
    return _known(name, np.rint(1e8 * weights).tolist(), shares.tolist(), np.maximum(weights * points, 50).astype(int))


# The published example's own matrix as the truth, with its points and with four times as many: two classes of 2 % and
# 1.5 % of the map, whose omissions lie one point in 325.
PUBLISHED = ((66, 0, 5, 4), (0, 55, 8, 12), (1, 0, 153, 11), (2, 1, 9, 313))
LAND = ((90, 6, 4, 0, 0), (5, 85, 8, 2, 0), (3, 7, 88, 1, 1), (0, 3, 5, 90, 2), (0, 1, 3, 4, 92))
SURE = ((990, 5, 5), (20, 970, 10), (10, 10, 980))
PIXELS = (200_000, 150_000, 3_200_000, 6_450_000)
MAPS = (
    _known(
        "five classes, 711 points", (400_000, 900_000, 1_700_000, 3_000_000, 4_000_000), LAND, (50, 62, 117, 206, 276)
    ),
    _known("five classes, 50 each", (400_000, 900_000, 1_700_000, 3_000_000, 4_000_000), LAND, (50,) * 5),
    _known("published, 640 points", PIXELS, PUBLISHED, (75, 75, 165, 325)),
    _known("published, 2560 points", PIXELS, PUBLISHED, (300, 300, 660, 1300)),
    _known("97 to 99 % right, 350 points", (1_000_000, 3_000_000, 6_000_000), SURE, (50, 100, 200)),
    _known("97 to 99 % right, 120 points", (1_000_000, 3_000_000, 6_000_000), SURE, (30, 30, 60)),
    _known(
        "three classes, 20 each", (2_000_000, 3_000_000, 5_000_000), ((18, 1, 1), (1, 17, 2), (1, 2, 17)), (20,) * 3
    ),
    _many(11, 1000, 0.002),
    _many(40, 2000, 0.001),
)


def _truth(known: Known) -> dict[str, NDArray[np.float64]]:
    pixels, right = known.pixels, np.diagonal(known.pixels)
    return {
        "OA": np.array([right.sum() / pixels.sum()]),
        "UA": right / pixels.sum(axis=1),
        "PA": right / pixels.sum(axis=0),
        "area": pixels.sum(axis=0) / pixels.sum(),
    }


def drawn(known: Known, samples: int, seed: int) -> Iterator[StratifiedSample]:
    """Stratified random samples without replacement, summed up."""
    random = np.random.default_rng(seed)
    counts = np.stack(
        [
            random.multivariate_hypergeometric(row, number, size=samples)
            for row, number in zip(known.pixels, known.points, strict=True)
        ],
        axis=1,
    )
    codes, strata = range(1, len(known.points) + 1), known.pixels.sum(axis=1)
    yield from (StratifiedSample.of_counts(codes, each, strata) for each in counts)


def coverage(known: Known, method: str, samples: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Measure → share of the samples whose interval holds the truth, one for each class."""
    truth, held, counted = _truth(known), {}, {}
    for sample in drawn(known, samples, seed):
        found = assess(sample, method)  # type: ignore[arg-type]
        lists = {
            "OA": (found.overall_accuracy,),
            "UA": found.users_accuracy,
            "PA": found.producers_accuracy,
            "area": found.area_shares,
        }
        for name, intervals in lists.items():
            there = np.array([not np.isnan(each.low) for each in intervals])
            held[name] = held.get(name, 0) + (there & _holds(intervals, truth[name]))
            counted[name] = counted.get(name, 0) + there
    return {name: held[name] / counted[name] for name in held}


def _holds(intervals: Sequence[Interval], truth: NDArray[np.float64]) -> NDArray[np.bool_]:
    low, high = (np.array([getattr(each, end) for each in intervals]) for end in ("low", "high"))
    return (low <= truth) & (truth <= high)


def _regions(groups: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(a large region's blocks, some of them drawn to be tested on), each (block, K, K + 1).

    A block holds one to three of four classes; its accuracy varies around the class's with a standard deviation of
    about 0.2, and its size by a factor of three either way.
    """
    random = np.random.default_rng(seed)
    classes, every = 4, 20_000
    sizes = np.rint(200 * np.exp(random.normal(0, 0.6, (every, classes)))).astype(np.int64)
    sizes *= random.random((every, classes)) < np.array([0.8, 0.6, 0.4, 0.3])
    mean = np.array([0.9, 0.8, 0.7, 0.6])
    right = random.beta(4 * mean, 4 * (1 - mean), (every, classes))
    counts = np.zeros((every, classes, classes + 1), dtype=np.int64)
    for k in range(classes):
        wrong = (1 - right[:, k, None]) * np.where(np.arange(classes) == k, 0, 1 / (classes - 1))
        wrong[:, k] = right[:, k]
        counts[:, k, :classes] = random.multinomial(sizes[:, k], wrong / wrong.sum(axis=1, keepdims=True))
    return counts, random.integers(0, every, groups)


def block_coverage(groups: int, draws: int, seed: int) -> dict[str, float]:
    """Measure → share of the draws whose bootstrap interval holds the value of the whole region, over classes."""
    counts, _ = _regions(groups, seed)
    truth, random = measures(counts.sum(axis=0)), np.random.default_rng(seed + 1)
    held: dict[str, list[bool]] = {"OA": [], "mIoU": [], "UA": [], "PA": [], "IoU": []}
    for _ in range(draws):
        found = bootstrap(counts[random.integers(0, len(counts), groups)], replicates=1000, seed=0)
        pairs = [("OA", found.overall_accuracy, truth.overall_accuracy), ("mIoU", found.mean_iou, truth.mean_iou)]
        for name, part, true in (
            ("UA", found.users_accuracy, truth.users_accuracy),
            ("PA", found.producers_accuracy, truth.producers_accuracy),
            ("IoU", found.iou, truth.iou),
        ):
            pairs += [(name, each, value) for each, value in zip(part, true, strict=True)]
        for name, each, value in pairs:
            if not np.isnan(each.low):
                held[name].append(bool(each.low <= value <= each.high))
    return {name: float(np.mean(each)) for name, each in held.items()}


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["sample", "blocks"])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--maps", type=int, nargs="*", default=range(len(MAPS)))
    parser.add_argument("--groups", type=int, nargs="*", default=(5, 10, 20, 40, 80))
    asked = parser.parse_args()
    if "sample" in asked.what:
        for known in (MAPS[number] for number in asked.maps):
            for method in ("wilson", "wald"):
                found = coverage(known, method, asked.samples, asked.seed)
                cells = "  ".join(
                    f"{name} {' '.join(f'{100 * s:.1f}' for s in share)}" for name, share in found.items()
                )
                print(f"{known.name:30s} {method:6s} {cells}", flush=True)
    if "blocks" in asked.what:
        for groups in asked.groups:
            found_in_blocks = block_coverage(groups, asked.draws, asked.seed)
            cells = "  ".join(f"{name} {100 * share:.1f}" for name, share in found_in_blocks.items())
            print(f"bootstrap of {groups:3d} blocks: {cells}", flush=True)


if __name__ == "__main__":
    main()

"""A new spatial split for each seed: blocks in each region, or whole regions where there are many."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from eearth.errors import LabelError
from eearth.geo.aoi import lonlat_footprint
from eearth.geo.grid import Grid
from eearth.geo.splits.attempts import MOST_ATTEMPTS, TOLERATED
from eearth.geo.splits.blocks import NONE, PARTS, TEST, TRAIN, VALIDATION, Blocks, assign
from eearth.geo.splits.split import FEW_LABELLED, split_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence


# Share of a region's area that another must cover to overlap it; less comes from the edges of neighbouring tiles.
LEAST_OVERLAP = 1e-3

# Of latitude, at the least.
METRES_OF_A_DEGREE = 110_574


@dataclass(frozen=True)
class Ground:
    """The labels of one region.

    Attributes:
        labels: (y, x) uint8 class codes, 0 = no label.
        grid: Their grid.
        split: Arguments of `split_blocks` beside the seed, as `eearth rasterize` split them.
    """

    labels: NDArray[np.uint8]
    grid: Grid
    split: dict[str, float | None]


class _Units(NamedTuple):
    """What is held out in one piece: a region, or several that lie close together.

    Attributes:
        number: (region,) the unit that each belongs to.
        counts: Labelled pixels, (unit, class).
    """

    number: NDArray[np.int32]
    counts: NDArray[np.int64]


def split_regions(grounds: Sequence[Ground], seed: int) -> list[NDArray[np.uint8]]:
    """Split the labels of one or several regions into training, validation and test.

    Nine regions or more are held out whole, as blocks of one region would be, if each class lies in at least two of
    them: labels of one region are alike, and the way to the next is the widest buffer there is. Regions closer together
    than the buffer count as one.
    With fewer regions only few such splits exist, and a class of one region could not be tested. Then each region is
    split by blocks of its own, and one that is too small for that is for training; if all are, they are held out whole
    after all.

    Args:
        grounds: The regions.
        seed: Other seeds give other splits.

    Returns:
        For each region (y, x) uint8 part codes, see `eearth.geo.splits.blocks`. A class with too few blocks or regions
        may be missing from a part.

    Raises:
        LabelError: There are too few labels for a training and a test part.
    """
    if len(grounds) == 1:
        return [_blocks(grounds[0], seed)]
    units = _units(grounds)
    if _many(units.counts):
        return _whole(grounds, units, seed)
    parts = [_blocks_if_any(one, seed) for one in grounds]
    if all(part is None for part in parts):
        return _whole(grounds, units, seed)
    return [_spread(one, TRAIN) if part is None else part for one, part in zip(grounds, parts, strict=True)]


def _many(counts: NDArray[np.int64]) -> bool:
    """Three parts with three units each, as for blocks, and two units for every class."""
    return len(counts) >= FEW_LABELLED and bool(((counts > 0).sum(axis=0) > 1).all())


def _counts(grounds: Sequence[Ground]) -> NDArray[np.int64]:
    """Labelled pixels, (region, class)."""
    counts = np.stack([np.bincount(one.labels.ravel(), minlength=256)[1:] for one in grounds])
    return counts[:, counts.any(axis=0)]


def _blocks(ground: Ground, seed: int) -> NDArray[np.uint8]:
    return split_blocks(ground.labels, ground.grid, seed=seed, **ground.split).part  # type: ignore[arg-type]


def _blocks_if_any(ground: Ground, seed: int) -> NDArray[np.uint8] | None:
    """None where the labels are too few or too close together."""
    try:
        return _blocks(ground, seed)
    except LabelError:
        return None


def _spread(ground: Ground, part: int) -> NDArray[np.uint8]:
    """All labels of a region in one part."""
    return np.where(ground.labels > 0, part, NONE).astype(np.uint8)


def _whole(grounds: Sequence[Ground], units: _Units, seed: int) -> list[NDArray[np.uint8]]:
    """Deal whole regions out as blocks are: of some random assignments the one that loses the fewest classes.

    Regions that lie closer together than the buffer are one: a field on their border is in both.
    """
    counts, random = units.counts, np.random.default_rng(seed)
    blocks = Blocks(1, 1, len(counts), np.arange(len(counts)), counts)
    shares = _shares(grounds)
    best: tuple[tuple[float, ...], NDArray[np.uint8]] | None = None
    for _ in range(MOST_ATTEMPTS):
        of_region = assign(blocks, shares, np.zeros(len(counts), bool), random)
        score = _score(of_region, counts, shares)
        if best is None or score < best[0]:
            best = score, of_region
        if not any(best[0][:-1]) and best[0][-1] <= TOLERATED:
            break
    if best is None or best[0][0]:
        msg = (
            f"expected labels that can be split into training and test, found none of the {len(grounds)} regions large "
            "enough for blocks, and no class in two of them: label more of a region"
        )
        raise LabelError(msg)
    return [_spread(one, int(best[1][number])) for one, number in zip(grounds, units.number, strict=True)]


def overlapping(grids: Sequence[Grid]) -> tuple[int, int] | None:
    """Two regions that show the same ground, if there are any: what one is tested on the other would be trained on."""
    shapes = [lonlat_footprint(grid.bounds, grid.crs) for grid in grids]
    pairs = ((i, j) for i, j in itertools.combinations(range(len(grids)), 2) if shapes[i].intersects(shapes[j]))
    return next(
        ((i, j) for i, j in pairs if shapes[i].intersection(shapes[j]).area > LEAST_OVERLAP * shapes[i].area), None
    )


def _units(grounds: Sequence[Ground]) -> _Units:
    number, counts = neighbours(grounds), _counts(grounds)
    return _Units(number, np.stack([counts[number == each].sum(axis=0) for each in range(number.max() + 1)]))


def neighbours(grounds: Sequence[Ground]) -> NDArray[np.int32]:
    """(region,) number of the group that each lies in: those of one group lie, one by one, within the widest buffer."""
    shapes = [lonlat_footprint(one.grid.bounds, one.grid.crs) for one in grounds]
    widest = max(float(one.split["buffer"] or 0) for one in grounds)
    wide = [shape.buffer(_degrees(widest, shape.centroid.y), join_style="mitre") for shape in shapes]
    near = [[one.intersects(other) for other in shapes] for one in wide]
    number: NDArray[np.int32] = connected_components(np.array(near), directed=False)[1]
    return number


def _degrees(metres: float, latitude: float) -> float:
    """At least so many metres in every direction."""
    return metres / (METRES_OF_A_DEGREE * math.cos(math.radians(latitude)))


def _shares(grounds: Sequence[Ground]) -> dict[int, float]:
    """Of labelled pixels in each part, the mean over the regions."""
    names = ("test_fraction", "validation_fraction")
    test, validation = (fmean(float(one.split[name] or 0) for one in grounds) for name in names)
    return {TRAIN: 1 - test - validation, TEST: test, VALIDATION: validation}


def _score(of_region: NDArray[np.uint8], counts: NDArray[np.int64], shares: dict[int, float]) -> tuple[float, ...]:
    """The smaller the better: parts without a pixel; classes without training, test, validation; error of shares."""
    held = {part: counts[of_region == part].sum(axis=0) for part in PARTS if shares[part] > 0}
    empty = sum(not held[part].any() for part in (TRAIN, TEST))
    missing = (float((one == 0).sum()) for one in held.values())
    error = sum(abs(one.sum() / counts.sum() - shares[part]) for part, one in held.items())
    return float(empty), *missing, float(error)

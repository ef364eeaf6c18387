"""Square blocks of pixels: what labels they hold, and how they are dealt out to training, validation and test.

A block holds the labelled pixels in its square. Where features are kept whole, it holds the whole features instead
whose middle lies in its square, wherever their pixels are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon, box

from eearth.geo.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eearth.geo.grid import Grid
    from eearth.geo.splits.footprints import Footprints

NONE, TRAIN, VALIDATION, TEST, BUFFER = range(5)
NAMES = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
PARTS = (TRAIN, TEST, VALIDATION)  # a class with few blocks gets into the first of these that it can
STRIP = 512  # rows that are looked at at once


@dataclass(frozen=True)
class Blocks:
    """The grid's blocks and what they hold.

    Attributes:
        height, width: Pixels of a block.
        columns: Blocks in a row of blocks.
        numbers: The blocks that hold labels, rising; number = row of blocks x columns + column of blocks.
        counts: Labelled pixels, (block, class) int64, in the order of `numbers`.
        features: (y, x) the feature of each pixel, 0 = none; None where pixels are held alone.
        homes: (feature + 1,) number of the block that holds each feature; -1 where its pixels are held alone.
    """

    height: int
    width: int
    columns: int
    numbers: NDArray[np.int64]
    counts: NDArray[np.int64]
    features: NDArray[np.uint32] | None = None
    homes: NDArray[np.int64] | None = None


def classes_of(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The class codes that occur, rising."""
    codes = np.unique(labels)
    return codes[codes > 0]


def cut(labels: NDArray[np.uint8], sides: tuple[float, float], side: float) -> Blocks:
    """Count classes in blocks of about `side` metres, aligned on the grid's upper left corner."""
    height, width = (max(1, round(side / pixel)) for pixel in sides)
    columns = math.ceil(labels.shape[1] / width)
    counts = _counted(labels, classes_of(labels), height, width)
    numbers = np.flatnonzero(counts.any(axis=1))
    return Blocks(height, width, columns, numbers, counts[numbers])


def gather(labels: NDArray[np.uint8], squares: Blocks, footprints: Footprints, whole: NDArray[np.bool_]) -> Blocks:
    """The same squares, each with the whole features whose middle lies in it.

    Args:
        labels: (y, x) class codes.
        squares: From `cut`.
        footprints: The labels' features.
        whole: (feature + 1,) which are to be kept whole; pixels of the others stay in the block that they lie in.
    """
    classes = classes_of(labels)
    whole = whole & (footprints.pixels > 0)
    rows, columns = (middle[whole].astype(np.int64) for middle in (footprints.row, footprints.column))
    homes = np.full(whole.size, -1, dtype=np.int64)
    homes[whole] = rows // squares.height * squares.columns + columns // squares.width
    if footprints.pixels[whole].sum() == squares.counts.sum():  # all that is labelled
        number = math.ceil(labels.shape[0] / squares.height) * squares.columns
        counts = np.zeros((number, classes.size), dtype=np.int64)
    else:
        alone = labels.copy()
        for strip in strips_of(labels):
            alone[strip][whole[footprints.raster[strip]]] = NONE
        counts = _counted(alone, classes, squares.height, squares.width)
    position = np.searchsorted(classes, footprints.code[whole])
    np.add.at(counts, (homes[whole], position), footprints.pixels[whole])
    numbers = np.flatnonzero(counts.any(axis=1))
    held = squares.height, squares.width, squares.columns, numbers, counts[numbers]
    return Blocks(*held, footprints.raster, homes)


def strips_of(raster: NDArray[np.generic]) -> Iterator[slice]:
    """Strips of rows: what is computed for each pixel takes several times its bytes."""
    yield from (slice(row, row + STRIP) for row in range(0, len(raster), STRIP))


def _counted(labels: NDArray[np.uint8], classes: NDArray[np.uint8], height: int, width: int) -> NDArray[np.int64]:
    """Labelled pixels, (block, class), in every block of the grid."""
    columns = math.ceil(labels.shape[1] / width)
    position = np.full(256, classes.size)  # of "no label": a last column, cut off below
    position[classes] = np.arange(classes.size)
    column = np.arange(labels.shape[1]) // width * (classes.size + 1)
    rows = (labels[row : row + height] for row in range(0, labels.shape[0], height))
    counts: NDArray[np.int64] = np.stack(
        [np.bincount((column + position[strip]).ravel(), minlength=columns * (classes.size + 1)) for strip in rows]
    ).reshape(-1, classes.size + 1)[:, :-1]
    return counts


def assign(
    blocks: Blocks,
    shares: dict[int, float],
    pinned: NDArray[np.bool_],
    rng: np.random.Generator,
    fixed: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Deal blocks out to the parts.

    Args:
        blocks: What to deal out.
        shares: Share of the labelled pixels for each part; nothing is dealt to one of share 0.
        pinned: (block,) those that are for training.
        rng: Decides between parts that are equally good.
        fixed: (block,) the part of each block that has one already; None = none has.

    Returns:
        The part of each block.
    """
    parts = [part for part in PARTS if shares[part] > 0]
    settled = np.where(pinned, TRAIN, NONE) if fixed is None else np.where(fixed != NONE, fixed, pinned * TRAIN)
    # A block that is settled for a part outside the deal is in none of its places, but is not dealt out either.
    place = np.full(max(PARTS) + 1, len(parts))
    place[parts] = np.arange(len(parts))
    places = np.where(settled == NONE, -1, place[settled])
    dealt = deal(blocks.counts, [shares[part] for part in parts], places, rng)
    return np.where(settled == NONE, np.array([*parts, NONE])[dealt], settled).astype(np.uint8)


def deal(
    counts: NDArray[np.int64], shares: Sequence[float], settled: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal blocks out, rarest class first and each class's richest blocks first.

    Args:
        counts: Labelled pixels, (block, class).
        shares: Of all pixels, for each place to deal to; a class with few blocks gets to the first places.
        settled: (block,) places that are settled already, one beyond the last of them for a block that gets none;
            -1 = to be dealt.
        rng: Decides between places that are equally good.

    Returns:
        (block,) the place of each.
    """
    total, given = counts.sum(), settled.copy()
    wanted = np.array([[share] for share in shares]) * counts.sum(axis=0)
    wanted -= np.stack([counts[settled == place].sum(axis=0) for place in range(len(shares))])
    absent = np.stack([~(counts[settled == place] > 0).any(axis=0) for place in range(len(shares))])
    for position in np.argsort(counts.sum(axis=0) + rng.random(counts.shape[1]), kind="stable"):
        weight = counts[:, position] * rng.uniform(0.5, 1, len(counts)) * (given < 0)
        for block in np.argsort(-weight, kind="stable")[: np.count_nonzero(weight)]:
            # What this class lacks decides; of equal lacks, what all classes together lack; then chance.
            lack = wanted[:, position] + 1e-3 * wanted.sum(axis=1) / total + 1e-6 * rng.random(len(shares))
            choice = int(np.argmax(absent[:, position] if absent[:, position].any() else lack))
            given[block] = choice
            wanted[choice] -= counts[block]
            absent[choice] &= counts[block] == 0
    return given


def pin(pinned: NDArray[np.bool_], lost: NDArray[np.int64], blocks: Blocks) -> None:
    """Keep for training, from now on, the richest block of each lost class; its neighbours too if that was not enough.

    Changes `pinned` in place.
    """
    rows, columns = np.divmod(blocks.numbers, blocks.columns)
    for position in lost:
        richest = int(np.argmax(blocks.counts[:, position]))
        near = np.maximum(abs(rows - rows[richest]), abs(columns - columns[richest])) <= 1
        pinned[near if pinned[richest] else richest] = True


def spread(of_block: NDArray[np.uint8], blocks: Blocks, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What each block has got, such as its part, for each labelled pixel that it holds, (y, x) uint8."""
    table = table_of(of_block, blocks, labels.shape)
    rows, columns = (
        np.arange(length) // side for length, side in zip(labels.shape, (blocks.height, blocks.width), strict=True)
    )
    found = np.where(labels > 0, table[rows[:, None], columns], np.uint8(NONE))
    if blocks.features is None or blocks.homes is None:
        return found
    of_feature = np.where(blocks.homes >= 0, table.ravel()[blocks.homes], NONE).astype(np.uint8)
    for strip in strips_of(found):
        own = of_feature[blocks.features[strip]]
        np.copyto(found[strip], own, where=(own != NONE) & (labels[strip] > 0))
    return found


def table_of(of_block: NDArray[np.uint8], blocks: Blocks, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """(row of blocks, column of blocks) what each has got; 0 for those without labels."""
    table = np.zeros((math.ceil(shape[0] / blocks.height), blocks.columns), dtype=np.uint8)
    table.flat[blocks.numbers] = of_block
    return table


def rectangles(blocks: Blocks, of_block: NDArray[np.uint8], grid: Grid) -> Iterator[tuple[Polygon, str]]:
    """The blocks' rectangles with the names of their parts."""
    for number, part in zip(blocks.numbers, of_block, strict=True):
        row, col = (int(place) for place in divmod(number, blocks.columns))
        top, left = row * blocks.height, col * blocks.width
        height, width = min(blocks.height, grid.height - top), min(blocks.width, grid.width - left)
        yield box(*grid.crop(Window(top, left, height, width)).bounds), NAMES[int(part)]

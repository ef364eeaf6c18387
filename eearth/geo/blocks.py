"""Square blocks of pixels: what labels they hold, and how they are dealt out to training, validation and test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon, box

from eearth.geo.grid import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eearth.geo.grid import Grid

NONE, TRAIN, VALIDATION, TEST, BUFFER = range(5)
NAMES = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
PARTS = (TRAIN, TEST, VALIDATION)  # a class with few blocks gets into the first of these that it can


@dataclass(frozen=True)
class Blocks:
    """The grid's blocks and what they hold.

    Attributes:
        height, width: Pixels of a block.
        columns: Blocks in a row of blocks.
        numbers: The blocks that hold labels, rising; number = row of blocks x columns + column of blocks.
        counts: Labelled pixels, (block, class) int64, in the order of `numbers`.
    """

    height: int
    width: int
    columns: int
    numbers: NDArray[np.int64]
    counts: NDArray[np.int64]


def classes_of(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The class codes that occur, rising."""
    codes = np.unique(labels)
    return codes[codes > 0]


def cut(labels: NDArray[np.uint8], sides: tuple[float, float], side: float) -> Blocks:
    """Count classes in blocks of about `side` metres, aligned on the grid's upper left corner."""
    height, width = (max(1, round(side / pixel)) for pixel in sides)
    columns = math.ceil(labels.shape[1] / width)
    classes = classes_of(labels)
    position = np.full(256, classes.size)  # of "no label": a last column, cut off below
    position[classes] = np.arange(classes.size)
    column = np.arange(labels.shape[1]) // width * (classes.size + 1)
    strips = (labels[row : row + height] for row in range(0, labels.shape[0], height))
    counts = np.stack(
        [np.bincount((column + position[strip]).ravel(), minlength=columns * (classes.size + 1)) for strip in strips]
    ).reshape(-1, classes.size + 1)[:, :-1]
    numbers = np.flatnonzero(counts.any(axis=1))
    return Blocks(height, width, columns, numbers, counts[numbers])


def assign(
    blocks: Blocks, shares: dict[int, float], pinned: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Deal blocks out, rarest class first and each class's richest blocks first; returns the part of each block."""
    counts, total = blocks.counts, blocks.counts.sum()
    of_block = np.where(pinned, TRAIN, NONE).astype(np.uint8)
    parts = [part for part in PARTS if shares[part] > 0]
    wanted = np.array([[shares[part]] for part in parts]) * counts.sum(axis=0)
    wanted[0] -= counts[pinned].sum(axis=0)
    absent = np.ones(wanted.shape, dtype=bool)
    absent[0] = ~(counts[pinned] > 0).any(axis=0)
    for position in np.argsort(counts.sum(axis=0) + rng.random(counts.shape[1]), kind="stable"):
        weight = counts[:, position] * rng.uniform(0.5, 1, len(counts)) * (of_block == NONE)
        for block in np.argsort(-weight, kind="stable")[: np.count_nonzero(weight)]:
            # What this class lacks decides; of equal lacks, what all classes together lack; then chance.
            lack = wanted[:, position] + 1e-3 * wanted.sum(axis=1) / total + 1e-6 * rng.random(len(parts))
            choice = int(np.argmax(absent[:, position] if absent[:, position].any() else lack))
            of_block[block] = parts[choice]
            wanted[choice] -= counts[block]
            absent[choice] &= counts[block] == 0
    return of_block


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
    """The part of each labelled pixel, (y, x), before the buffer."""
    height, width = labels.shape
    table = np.zeros((math.ceil(height / blocks.height), blocks.columns), dtype=np.uint8)
    table.flat[blocks.numbers] = of_block
    rows, columns = np.arange(height) // blocks.height, np.arange(width) // blocks.width
    return np.where(labels > 0, table[rows[:, None], columns], np.uint8(NONE))


def rectangles(blocks: Blocks, of_block: NDArray[np.uint8], grid: Grid) -> Iterator[tuple[Polygon, str]]:
    """The blocks' rectangles with the names of their parts."""
    for number, part in zip(blocks.numbers, of_block, strict=True):
        row, col = (int(place) for place in divmod(number, blocks.columns))
        top, left = row * blocks.height, col * blocks.width
        height, width = min(blocks.height, grid.height - top), min(blocks.width, grid.width - left)
        yield box(*grid.crop(Window(top, left, height, width)).bounds), NAMES[int(part)]

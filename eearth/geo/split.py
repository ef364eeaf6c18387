"""Spatial split of labelled pixels into training, validation and test: whole blocks, kept apart by a buffer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon

from eearth.errors import LabelError, UsageError
from eearth.events import Report, Warned, silent
from eearth.geo.blocks import (
    BUFFER,
    NAMES,
    PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    Blocks,
    assign,
    classes_of,
    cut,
    pin,
    rectangles,
    spread,
)
from eearth.geo.distance import ROUNDING, near, nearest, pixel_sides

if TYPE_CHECKING:
    from eearth.geo.grid import Grid

# Blocks to each side of the labelled area. Five are the fewest that give three parts room and two blocks a choice;
# more than ten leave blocks that are mostly buffer.
FEWEST_BLOCKS, MOST_BLOCKS = 5, 10
PIXELS_PER_BLOCK = 20  # the side of a block between those two limits
FEW_LABELLED = 9  # blocks with labels below which blocks are halved: three parts with three blocks each
# The default buffer is three pixels: beyond the 3 x 3 neighbourhood that a point spread function mixes, and beyond
# the mixed pixels along a field's edge. Smaller blocks get a smaller one, or nothing would be left of them.
BUFFER_PIXELS, BUFFER_SHARE = 3, 0.15
# Assignments tried before the best is taken: fewer for large rasters, which have many blocks and rarely need them.
MOST_ATTEMPTS, FEWEST_ATTEMPTS, PIXELS_OF_ALL_ATTEMPTS = 48, 4, 30_000_000
TOLERATED = 0.1  # summed error of the parts' shares below which no better assignment is looked for
STRIP = 512  # rows that are counted at once


@dataclass(frozen=True)
class Split:
    """Which labelled pixel serves what.

    Attributes:
        part: (y, x) uint8: 0 no label, 1 train, 2 validation, 3 test, 4 labelled but dropped, too near another part.
        blocks: Each block that has labels: its rectangle in the grid's CRS, cut at the grid's edge, and the name of its
            part ("train", "validation", "test"), row by row.
        block_size_m: Side of a block in metres, as used: a whole number of pixels.
        buffer_m: The buffer in metres: pixels of two parts are farther apart than this, centre to centre.
        min_distance_m: The measured distance from a test pixel to the nearest training pixel.
    """

    part: NDArray[np.uint8]
    blocks: tuple[tuple[Polygon, str], ...]
    block_size_m: float
    buffer_m: float
    min_distance_m: float


@dataclass(frozen=True)
class _Attempt:
    """One assignment of blocks to parts, and what became of it.

    Attributes:
        of_block: Part of each block.
        part: Part of each pixel, buffer applied.
        lost: Classes (positions) left without a training pixel.
        score: The smaller the better: parts (train, test) without a pixel; classes without train, test, validation;
            summed error of the test and validation shares.
    """

    of_block: NDArray[np.uint8]
    part: NDArray[np.uint8]
    lost: NDArray[np.int64]
    score: tuple[float, ...]


def split_blocks(
    labels: NDArray[np.uint8],
    grid: Grid,
    *,
    block_size: float | None,
    buffer: float | None,
    test_fraction: float,
    validation_fraction: float,
    seed: int,
    report: Report = silent,
) -> Split:
    """Split labelled pixels by square blocks that lie on the grid.

    Blocks are dealt out class by class, the rarest first (iterative stratification: Sechidis, Tsoumakas & Vlahavas
    2011, ECML PKDD), so that each class gets into each part where its blocks allow: a class confined to one block is
    for training, one in two blocks for training and test. Then pixels within `buffer` of another part are dropped:
    training and validation give way to test, training to validation. Of several assignments the one is kept that
    loses the fewest classes from training, then from test, then from validation, then comes nearest the fractions.
    The same arguments always give the same split.

    Args:
        labels: Class codes, (y, x) uint8; 0 = no label.
        grid: The grid of `labels`.
        block_size: Side of a block in metres; None = a fifth to a tenth of the labelled area's side.
        buffer: Metres; two pixels of different parts are farther apart than this, centre to centre. None = 3 pixels,
            or less where blocks are smaller than 20 pixels.
        test_fraction: Share of the labelled pixels to be tested on.
        validation_fraction: Share to validate on; 0 = no validation part.
        seed: Decides between assignments that are equally good.
        report: Hears of classes that are missing from a part.

    Raises:
        UsageError: A size or fraction is out of its range.
        LabelError: There are too few labels for a training and a test part.
    """
    if labels.shape != grid.shape:
        msg = f"labels of shape {labels.shape} do not lie on a grid of shape {grid.shape}"
        raise ValueError(msg)
    _check(block_size, buffer, test_fraction, validation_fraction)
    sides = pixel_sides(grid)
    side = _block_side(labels, sides, buffer) if block_size is None else block_size
    blocks = cut(labels, sides, side)
    while block_size is None and len(blocks.numbers) < FEW_LABELLED and side / 2 >= max(3 * (buffer or 0), *sides):
        side /= 2  # labels in a few clusters: blocks within the clusters
        blocks = cut(labels, sides, side)
    reach = _default_buffer(side, sides) if buffer is None else buffer
    shares = {TRAIN: 1 - test_fraction - validation_fraction, TEST: test_fraction, VALIDATION: validation_fraction}
    best = _best(labels, blocks, (sides, reach), shares, np.random.default_rng(seed))
    if best is None:
        raise LabelError(_too_few(labels, blocks, side, reach))
    _tell(labels, best.part, validation=validation_fraction > 0, report=report)
    return Split(
        part=best.part,
        blocks=tuple(rectangles(blocks, best.of_block, grid)),
        block_size_m=math.sqrt(blocks.height * sides[0] * blocks.width * sides[1]),
        buffer_m=float(reach),
        min_distance_m=nearest(best.part == TEST, best.part == TRAIN, sides, reach),
    )


def _check(block_size: float | None, buffer: float | None, test: float, validation: float) -> None:
    """Refuse arguments that cannot be meant."""
    if block_size is not None and not 0 < block_size < math.inf:
        msg = f"expected a block size above 0 m, found {block_size:g}: run again with, say, --block-size 500"
        raise UsageError(msg)
    if buffer is not None and not 0 <= buffer < math.inf:
        msg = f"expected a buffer of 0 m or more, found {buffer:g}: run again with, say, --buffer 30"
        raise UsageError(msg)
    if not (test > 0 and validation >= 0 and test + validation < 1):
        msg = (
            f"expected a test fraction above 0, a validation fraction of 0 or more and a sum below 1, found {test:g} "
            f"and {validation:g}: run again with, say, --test-fraction 0.2 --validation-fraction 0.2"
        )
        raise UsageError(msg)


def _block_side(labels: NDArray[np.uint8], sides: tuple[float, float], buffer: float | None) -> float:
    """The side of a block in metres, from the extent of the labels."""
    pixel = math.sqrt(sides[0] * sides[1])
    rows, columns = np.flatnonzero(labels.any(axis=1)), np.flatnonzero(labels.any(axis=0))
    if not rows.size:
        return pixel
    extent = math.sqrt(float((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
    number = min(max(extent / PIXELS_PER_BLOCK, FEWEST_BLOCKS), MOST_BLOCKS)
    side = max(1, math.floor(extent / number + ROUNDING)) * pixel
    # Blocks below three buffers would be dropped to the last pixel; fewer than three to a side leave no choice.
    return side if buffer is None else max(side, min(3 * buffer, extent / 3 * pixel))


def _default_buffer(side: float, sides: tuple[float, float]) -> float:
    """Metres: three pixels, fewer in small blocks, at least one."""
    pixel = math.sqrt(sides[0] * sides[1])
    return min(max(round(BUFFER_SHARE * side / pixel), 1), BUFFER_PIXELS) * max(sides)


def _best(
    labels: NDArray[np.uint8],
    blocks: Blocks,
    apart: tuple[tuple[float, float], float],
    shares: dict[int, float],
    rng: np.random.Generator,
) -> _Attempt | None:
    """The best of some random assignments; None where none has both a training and a test pixel."""
    if blocks.numbers.size < 2:  # noqa: PLR2004 - train and test
        return None
    pinned = np.zeros(blocks.numbers.size, dtype=bool)
    best: _Attempt | None = None
    ideal = _ideal(blocks, validation=shares[VALIDATION] > 0)
    cost = labels.size + PIXELS_PER_BLOCK**2 * blocks.numbers.size
    for _ in range(min(max(PIXELS_OF_ALL_ATTEMPTS // cost, FEWEST_ATTEMPTS), MOST_ATTEMPTS)):
        of_block = assign(blocks, shares, pinned, rng)
        part = _separated(spread(of_block, blocks, labels), *apart)
        attempt = _judged(of_block, part, labels, blocks, shares)
        if best is None or attempt.score < best.score:
            best = attempt
        if best.score[:4] <= ideal and best.score[4] <= TOLERATED:
            break
        pin(pinned, attempt.lost, blocks)
        if pinned.all():
            pinned[:] = False
    return None if best is None or best.score[0] else best


def _ideal(blocks: Blocks, *, validation: bool) -> tuple[float, ...]:
    """The best that the first four figures of a score can be: classes in one or two blocks cannot be everywhere."""
    homes = (blocks.counts > 0).sum(axis=0)
    return 0, 0, int((homes < 2).sum()), int((homes < 3).sum()) if validation else 0  # noqa: PLR2004


def _judged(
    of_block: NDArray[np.uint8],
    part: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    blocks: Blocks,
    shares: dict[int, float],
) -> _Attempt:
    """Count what an assignment lost, and how far its shares (before the buffer) are from those asked for."""
    table = _tally(labels, part)
    missing = {name: int((table[:, name] == 0).sum()) if shares[name] > 0 else 0 for name in PARTS}
    empty = sum(not table[:, name].any() for name in (TRAIN, TEST))
    totals = blocks.counts.sum(axis=1)
    error = sum(abs(totals[of_block == name].sum() / totals.sum() - shares[name]) for name in (TEST, VALIDATION))
    score = (empty, missing[TRAIN], missing[TEST], missing[VALIDATION], float(error))
    return _Attempt(of_block, part, np.flatnonzero(table[:, TRAIN] == 0), score)


def _tally(labels: NDArray[np.uint8], part: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels by class, rising, and part: (class, 5)."""
    width = BUFFER + 1
    table = np.zeros(256 * width, dtype=np.int64)
    for row in range(0, len(labels), STRIP):  # in strips: the sums are eight times the size of the raster
        key = labels[row : row + STRIP].astype(np.int64) * width + part[row : row + STRIP]
        table += np.bincount(key.ravel(), minlength=table.size)
    return table.reshape(256, width)[classes_of(labels)]


def _too_few(labels: NDArray[np.uint8], blocks: Blocks, side: float, reach: float) -> str:
    """What to say where labels cannot be split."""
    pixels, number = int((labels > 0).sum()), blocks.numbers.size
    if number < 2:  # noqa: PLR2004 - train and test
        return (
            f"expected labelled pixels in at least 2 blocks of {side:.4g} m, one to train on and one to test on, found "
            f"{pixels} in {number}: label more of the region, or run again with a smaller --block-size"
        )
    return (
        f"expected training and test pixels more than {reach:.4g} m apart, found that the {pixels} labelled pixels in "
        f"{number} blocks of {side:.4g} m leave none: label more of the region, or run again with a smaller --buffer"
    )


def _tell(labels: NDArray[np.uint8], part: NDArray[np.uint8], *, validation: bool, report: Report) -> None:
    """Warn of classes that a part lacks."""
    classes, table = classes_of(labels), _tally(labels, part)
    for code in (TRAIN, TEST, *((VALIDATION,) if validation else ())):
        absent = classes[table[:, code] == 0]
        if absent.size:
            codes = ", ".join(str(value) for value in absent)
            report(Warned(text=f"the {NAMES[code]} part has no pixel of the classes with the codes {codes}"))


def _separated(part: NDArray[np.uint8], sides: tuple[float, float], reach: float) -> NDArray[np.uint8]:
    """Drop pixels within `reach` metres of another part: train and validation near test, then train near validation."""
    part = part.copy()
    part[near((part == TRAIN) | (part == VALIDATION), part == TEST, sides, reach)] = BUFFER
    part[near(part == TRAIN, part == VALIDATION, sides, reach)] = BUFFER
    return part

"""Spatial split of labelled pixels into training, validation and test: whole blocks, kept apart by a buffer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eearth.config import listed
from eearth.errors import LabelError, UsageError
from eearth.events import Report, Warned, silent
from eearth.geo.distance import ROUNDING, nearest, pixel_sides
from eearth.geo.splits.attempts import PIXELS_PER_BLOCK, Aim, best_attempt
from eearth.geo.splits.blocks import (
    NAMES,
    TEST,
    TRAIN,
    VALIDATION,
    Blocks,
    classes_of,
    cut,
)
from eearth.geo.splits.territories import Territory, territories

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eearth.geo.grid import Grid

# Blocks to each side of the labelled area. Five are the fewest that give three parts room and two blocks a choice;
# more than ten leave blocks that are mostly buffer.
FEWEST_BLOCKS, MOST_BLOCKS = 5, 10
FEW_LABELLED = 9  # blocks with labels below which blocks are halved: three parts with three blocks each
# The default buffer is three pixels: beyond the 3 x 3 neighbourhood that a point spread function mixes, and beyond
# the mixed pixels along a field's edge. Smaller blocks get a smaller one, or nothing would be left of them.
BUFFER_PIXELS, BUFFER_SHARE = 3, 0.15


@dataclass(frozen=True)
class Split:
    """Which labelled pixel serves what.

    Attributes:
        part: (y, x) uint8: 0 no label, 1 train, 2 validation, 3 test, 4 labelled but dropped, too near another part.
        blocks: Each block that has labels, cut at the grid's edge, row by row; then features that lie in another block
            than the one that holds them.
        block_size_m: Side of a block in metres, as used: a whole number of pixels, the mean of two sides that differ a
            little; None without blocks.
        buffer_m: The buffer in metres: pixels of two parts are farther apart than this, centre to centre.
        min_distance_m: The measured distance from a test pixel to the nearest training pixel.
        whole: Whether features were kept whole, but for those below; False where there are none.
        divided: Numbers of the features that have pixels in several parts; empty where features were not heeded.
        folds: (y, x) uint8 fold of each labelled pixel, from 1, 0 = no label; None without folds.
        block_pixels: (height, width) of a block in pixels; None without blocks.
    """

    part: NDArray[np.uint8]
    blocks: tuple[Territory, ...]
    block_size_m: float | None
    buffer_m: float
    min_distance_m: float
    whole: bool = False
    divided: tuple[int, ...] = ()
    folds: NDArray[np.uint8] | None = None
    block_pixels: tuple[int, int] | None = None


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
    check_arguments(block_size, buffer, test_fraction, validation_fraction)
    sides = pixel_sides(grid)
    blocks, reach = laid_out(labels, sides, block_size, buffer)
    shares = {TRAIN: 1 - test_fraction - validation_fraction, TEST: test_fraction, VALIDATION: validation_fraction}
    best = best_attempt(labels, blocks, Aim(sides, reach, shares, seed))
    if best is None:
        raise LabelError(too_few(labels, blocks, sides, reach))
    tell(classes_of(labels), best.table, validation=validation_fraction > 0, report=report)
    return Split(
        part=best.part,
        blocks=territories(labels, blocks, best.of_block, None, grid),
        block_size_m=side_of(blocks, sides),
        block_pixels=(blocks.height, blocks.width),
        buffer_m=float(reach),
        min_distance_m=nearest(best.part == TEST, best.part == TRAIN, sides, reach),
    )


def laid_out(
    labels: NDArray[np.uint8], sides: tuple[float, float], block_size: float | None, buffer: float | None
) -> tuple[Blocks, float]:
    """The blocks, and the buffer in metres: those asked for, or those that suit the labels."""
    side = _block_side(labels, sides, buffer) if block_size is None else block_size
    blocks = cut(labels, sides, side)
    while block_size is None and len(blocks.numbers) < FEW_LABELLED and side / 2 >= max(3 * (buffer or 0), *sides):
        side /= 2  # labels in a few clusters: blocks within the clusters
        blocks = cut(labels, sides, side)
    return blocks, _default_buffer(side, sides) if buffer is None else buffer


def side_of(blocks: Blocks, sides: tuple[float, float]) -> float:
    """The side of a block in metres; the mean of two that differ a little."""
    return math.sqrt(blocks.height * sides[0] * blocks.width * sides[1])


def check_arguments(block_size: float | None, buffer: float | None, test: float, validation: float) -> None:
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


def too_few(labels: NDArray[np.uint8], blocks: Blocks, sides: tuple[float, float], reach: float) -> str:
    """What to say where labels cannot be split."""
    pixels, number, side = int((labels > 0).sum()), blocks.numbers.size, side_of(blocks, sides)
    if number < 2:  # noqa: PLR2004 - train and test
        return (
            f"expected labelled pixels in at least 2 blocks of {side:.4g} m, one to train on and one to test on, found "
            f"{pixels} in {number}: label more of the region, or run again with a smaller --block-size"
        )
    return (
        f"expected training and test pixels more than {reach:.4g} m apart, found that the {pixels} labelled pixels in "
        f"{number} blocks of {side:.4g} m leave none: label more of the region, or run again with a smaller --buffer"
    )


def tell(
    classes: NDArray[np.uint8],
    table: NDArray[np.int64],
    *,
    validation: bool,
    names: Mapping[int, str] | None = None,
    report: Report,
) -> None:
    """Warn of classes that a part lacks, from their pixels by class and part."""
    for code in (TRAIN, TEST, *((VALIDATION,) if validation else ())):
        absent = classes[table[:, code] == 0]
        if absent.size:
            report(Warned(text=f"the {NAMES[code]} part has no pixel of {named(absent, names)}"))


def named(codes: NDArray[np.uint8], names: Mapping[int, str] | None) -> str:
    """Classes for a message, by their names where these are known."""
    return listed([(names or {}).get(code, f"class {code}") for code in codes.tolist()])

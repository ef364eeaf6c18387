"""A split that leaves features whole: those of a block go to one part together, and every pixel of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from eearth.errors import LabelError, UsageError
from eearth.events import Note, Report, silent
from eearth.geo.distance import nearest, pixel_sides
from eearth.geo.splits.attempts import Aim, Attempt, best_attempt
from eearth.geo.splits.blocks import (
    PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    Blocks,
    classes_of,
    gather,
    spread,
)
from eearth.geo.splits.folds import deal_folds
from eearth.geo.splits.footprints import Footprints, footprints_of, torn_features
from eearth.geo.splits.split import Split, check_arguments, laid_out, named, side_of, tell, too_few
from eearth.geo.splits.territories import territories

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eearth.geo.grid import Grid

Polygons = Literal["auto", "whole", "cut"]

# A class is missing from a part, or as good as missing, with less than this share of the pixels that it should have
# there: a few pixels of a small patch say nothing about a class.
NEARLY_MISSING = 0.1
MOST_FOLDS = 100  # far more than anybody trains; their numbers must fit a uint8 raster
NAMED = 10  # features named in a message; all are in the manifest
NO_FEATURES = (
    "expected features for --polygons whole, found none: the labels are a raster of which more than half is labelled, "
    "and the patches of such a map are no features; run again with --polygons auto, which splits it by blocks"
)


@dataclass(frozen=True)
class Folds:
    """Cross-validation.

    Attributes:
        number: Into how many folds the labels are dealt.
        tested: The fold to test on, 1 to `number`; training and validation come from the others.
    """

    number: int
    tested: int


@dataclass(frozen=True)
class _Deal:
    """One assignment of blocks, and which features were not divided in it.

    Attributes:
        blocks: What was dealt out.
        attempt: What became of it; None where it left no training or no test pixel.
        faults: What there is against it, the smaller the better: whether it is none; how many classes are short. Of
            folds only the latter, so that what is divided is the same whichever is tested on.
        fold: (block,) fold of each, from 1; None without folds.
        whole: (feature + 1,) which were kept whole.
        classes: The class codes, rising.
        short: Those that are missing, or nearly, from a part.
    """

    blocks: Blocks
    attempt: Attempt | None
    faults: tuple[bool, int]
    fold: NDArray[np.uint8] | None
    whole: NDArray[np.bool_]
    classes: NDArray[np.uint8]
    short: NDArray[np.uint8]


def split_features(
    labels: NDArray[np.uint8],
    features: NDArray[np.uint32],
    grid: Grid,
    *,
    polygons: Polygons,
    block_size: float | None,
    buffer: float | None,
    test_fraction: float,
    validation_fraction: float,
    seed: int,
    folds: Folds | None = None,
    names: Mapping[int, str] | None = None,
    report: Report = silent,
) -> Split:
    """Split labelled pixels as `split_blocks` does, but with every feature in one part.

    A feature belongs to the block in which its middle lies. One that is longer than a block can make that impossible:
    what a map was vectorised to may be one polygon across the whole region. With "auto" such features are divided
    between the blocks that they lie in, if the class would be missing, or nearly, from a part otherwise.

    Args:
        labels: Class codes, (y, x) uint8; 0 = no label.
        features: (y, x) number of the feature that labels each pixel; 0 = none, such pixels stay with their block.
        grid: The grid of `labels`.
        polygons: "whole" never divides a feature, "cut" heeds blocks only, "auto" divides where it must.
        block_size: As for `split_blocks`, like the next four.
        buffer: Metres.
        test_fraction: Not heeded with folds.
        validation_fraction: Of all labelled pixels.
        seed: Of the assignments, and of the folds.
        folds: Deal into folds instead, and test on one of them; the fraction of test pixels follows from their number.
        names: Of the classes by code, for messages.
        report: Hears of classes that are missing from a part, and of features that were divided.

    Raises:
        UsageError: A size, fraction or fold is out of its range, or features are to be whole where there are none.
        LabelError: There are too few labels for a training and a test part.
    """
    _check_folds(folds)
    test = test_fraction if folds is None else 1 / folds.number
    check_arguments(block_size, buffer, test, validation_fraction)
    if polygons == "whole" and not features.any():
        raise UsageError(NO_FEATURES)
    sides = pixel_sides(grid)
    squares, reach = laid_out(labels, sides, block_size, buffer)
    shares = {TRAIN: 1 - test - validation_fraction, TEST: test, VALIDATION: validation_fraction}
    aim, footprints = Aim(sides, reach, shares, seed), footprints_of(labels, features)

    def dealt(whole: NDArray[np.bool_]) -> _Deal:
        return _dealt(labels, gather(labels, squares, footprints, whole), whole, aim, folds)

    deal = _least_divided(footprints, squares, polygons, dealt)
    if deal.attempt is None:
        raise LabelError(_too_few(labels, deal.blocks, aim, polygons))
    part = deal.attempt.part
    divided = np.zeros(0, np.int64) if deal.whole[1:].all() else torn_features(part, features)
    if polygons == "auto" and divided.size:
        report(Note(text=_told(divided, footprints, side_of(squares, sides), names)))
    tell(deal.classes, deal.attempt.table, validation=validation_fraction > 0, names=names, report=report)
    return Split(
        part=part,
        blocks=territories(labels, deal.blocks, deal.attempt.of_block, deal.fold, grid),
        block_size_m=side_of(squares, sides),
        block_pixels=(squares.height, squares.width),
        buffer_m=float(reach),
        min_distance_m=nearest(part == TEST, part == TRAIN, sides, reach),
        whole=polygons != "cut" and bool(features.any()),
        divided=tuple(divided.tolist()),
        folds=None if deal.fold is None else spread(deal.fold, deal.blocks, labels),
    )


def _check_folds(folds: Folds | None) -> None:
    if folds is None:
        return
    if not 2 <= folds.number <= MOST_FOLDS:  # noqa: PLR2004 - one to test on, one to train on
        msg = f"expected 2 to {MOST_FOLDS} folds, found {folds.number}: run again with, say, --folds 5"
        raise UsageError(msg)
    if not 1 <= folds.tested <= folds.number:
        msg = f"expected a fold of 1 to {folds.number} to test on, found {folds.tested}: run again with, say, --fold 1"
        raise UsageError(msg)


def _least_divided(
    footprints: Footprints, squares: Blocks, polygons: Polygons, dealt: Callable[[NDArray[np.bool_]], _Deal]
) -> _Deal:
    """The deal that divides no feature; with "auto", one that divides some if that makes fewer classes short."""
    best = dealt(np.full(footprints.pixels.size, polygons != "cut"))
    if polygons != "auto":
        return best
    long = footprints.longer_than(squares)
    while best.short.size:
        whole = best.whole & ~(long & np.isin(footprints.code, best.short))
        if (whole == best.whole).all():
            break
        rival = dealt(whole)
        if rival.faults >= best.faults:
            break
        best = rival
    return best


def _dealt(labels: NDArray[np.uint8], blocks: Blocks, whole: NDArray[np.bool_], aim: Aim, folds: Folds | None) -> _Deal:
    """Deal the blocks out, and find the classes that fare badly."""
    if folds is None:
        attempt, fold = best_attempt(labels, blocks, aim), None
        short = _short(attempt.table, aim) if attempt else np.ones(blocks.counts.shape[1], bool)
    else:
        fold = deal_folds(blocks, folds.number, aim.seed)
        fixed = np.where(fold == folds.tested, TEST, 0).astype(np.uint8)
        attempt = best_attempt(labels, blocks, aim, fixed)
        held = np.stack([blocks.counts[fold == each].sum(axis=0) for each in range(1, folds.number + 1)])
        short = (held < NEARLY_MISSING / folds.number * held.sum(axis=0)).any(axis=0)
    classes, faults = classes_of(labels), (folds is None and attempt is None, int(short.sum()))
    return _Deal(blocks, attempt, faults, fold, whole, classes, classes[short])


def _short(table: NDArray[np.int64], aim: Aim) -> NDArray[np.bool_]:
    """The classes, rising, that have hardly a pixel in one of the parts that are asked for."""
    wanted = NEARLY_MISSING * table.sum(axis=1)
    return np.asarray(np.any([table[:, part] < wanted * aim.shares[part] for part in PARTS], axis=0))


def _too_few(labels: NDArray[np.uint8], blocks: Blocks, aim: Aim, polygons: Polygons) -> str:
    """What to say where labels cannot be split; whole features may be why."""
    return too_few(labels, blocks, aim.sides, aim.reach) + (
        "" if polygons == "cut" else ", or with --polygons cut, which divides features between blocks"
    )


def _told(divided: NDArray[np.int64], footprints: Footprints, side: float, names: Mapping[int, str] | None) -> str:
    """Which features were divided, and why."""
    some = ", ".join(str(feature) for feature in divided[:NAMED]) + (", ..." if divided.size > NAMED else "")
    short = named(np.unique(footprints.code[divided]), names)
    return (
        f"features divided between parts: {divided.size} of {np.count_nonzero(footprints.pixels)}, longer than a block "
        f"of {side:.4g} m (numbers in the file: {some}), as a part would hardly have a pixel of {short} otherwise; "
        "--polygons whole divides none"
    )

"""A split of the user's own: a column that says what each feature is for, honoured and checked."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio.features
from shapely.geometry import shape

from eearth.errors import LabelError
from eearth.events import Note, Report, silent
from eearth.geo.distance import near, nearest, pixel_sides
from eearth.geo.ground import lonlat_of
from eearth.geo.labels.layer import find_layer, read_features
from eearth.geo.splits.attempts import Aim, separated, tally
from eearth.geo.splits.blocks import BUFFER, NAMES, NONE, TEST, TRAIN, VALIDATION, classes_of, strips_of
from eearth.geo.splits.split import BUFFER_PIXELS, Split, tell
from eearth.geo.splits.territories import Territory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.geo.grid import Grid

# What people call the parts.
WORDS = {
    "train": TRAIN, "training": TRAIN,
    "validation": VALIDATION, "val": VALIDATION, "valid": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST, "holdout": TEST, "hold-out": TEST,
}  # fmt: skip
SHOWN = 5  # values named in a message


def read_parts(path: Path, column: str, where: str | None, features: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The part that a column gives each feature.

    Args:
        path: The vector file.
        column: Values are words for training, validation and test in any case, see `WORDS`.
        where: The condition that its features met, as for `read_labels`.
        features: (y, x) number of the feature that labels each pixel; only these need a part.

    Returns:
        (feature + 1,) part codes by number, 0 for those that have none and need none.

    Raises:
        LabelError: The column is not there, or has values that are no part.
    """
    layer = find_layer(path)
    layer.require(column, "train, validation or test", "--split-column")
    values = read_features(layer, [column], where, silent)[column]
    words = values.astype("string").str.strip().str.casefold()
    known = words.map(WORDS)
    part = np.zeros(max(int(values.index.max()) + 2, int(features.max(initial=0)) + 1), dtype=np.uint8)
    part[values.index[known.notna()] + 1] = known[known.notna()].astype(np.uint8)
    used = np.zeros(part.size, dtype=bool)
    for strip in strips_of(features):
        used[features[strip]] = True
    wrong = known.isna() & used[values.index + 1]
    if wrong.any():
        found = _counted(values[wrong])
        msg = f"expected {', '.join(NAMES.values())} (or {', '.join(sorted(set(WORDS) - set(NAMES.values())))}) for "
        msg += f"each feature in the column `{column}` of {path}, found {found}: mend the column, or leave those "
        raise LabelError(msg + "features out with --where")
    return part


def _counted(values: Any) -> str:
    """The values that occur most, with how often they do."""
    counts = values.astype("string").fillna("no value").value_counts()
    named = ", ".join(
        f"{value!r} ({count} feature{'s' if count > 1 else ''})" for value, count in counts[:SHOWN].items()
    )
    return named + (", ..." if len(counts) > SHOWN else "")


def split_as_given(
    labels: NDArray[np.uint8],
    features: NDArray[np.uint32],
    part_of: NDArray[np.uint8],
    grid: Grid,
    *,
    buffer: float | None,
    drop_near: bool,
    source: str,
    names: Mapping[int, str] | None = None,
    report: Report = silent,
) -> Split:
    """Split labelled pixels as the user says, and make sure that no two parts lie too near each other.

    Args:
        labels: Class codes, (y, x) uint8; 0 = no label.
        features: (y, x) number of the feature that labels each pixel.
        part_of: (feature + 1,) part of each, from `read_parts`.
        grid: The grid of `labels`.
        buffer: Metres; two pixels of different parts must be farther apart, centre to centre. None = 3 pixels.
        drop_near: Drop pixels that are nearer, as `split_blocks` does, instead of refusing the split.
        source: What to call the split in a message.
        names: Of the classes by code, for messages.
        report: Hears of dropped pixels, and of classes that are missing from a part.

    Raises:
        LabelError: A pixel has no feature, training or test has no pixel, or parts lie too near each other.
    """
    sides = pixel_sides(grid)
    aim = Aim(sides, BUFFER_PIXELS * max(sides) if buffer is None else buffer, {}, 0)
    given = np.zeros_like(labels)
    for strip in strips_of(labels):
        given[strip] = np.where(labels[strip] > 0, part_of[features[strip]], NONE)
    _require_both(given, source)
    part = separated(given, aim)
    dropped = int((part == BUFFER).sum())
    if dropped and not drop_near:
        raise LabelError(_leaking(given, dropped, features, grid, reach=aim.reach, source=source))
    if dropped:
        report(
            Note(text=f"{dropped} pixels lie at most {aim.reach:.4g} m from a pixel of another part and are dropped")
        )
        _require_both(part, f"{source}, pixels within {aim.reach:.4g} m of another part dropped")
    table = tally(labels, part)
    tell(classes_of(labels), table, validation=bool((given == VALIDATION).any()), names=names, report=report)
    return Split(
        part=part,
        blocks=_outlines(part, grid),
        block_size_m=None,
        buffer_m=float(aim.reach),
        min_distance_m=nearest(part == TEST, part == TRAIN, sides, aim.reach),
        whole=True,
    )


def _require_both(part: NDArray[np.uint8], source: str) -> None:
    """Training and test each need a pixel."""
    for code in (TRAIN, TEST):
        if not (part == code).any():
            found = ", ".join(f"{int((part == each).sum())} {name}" for each, name in NAMES.items())
            msg = f"expected training and test pixels in {source}, found {found} pixels: name features of both"
            raise LabelError(msg)


def _leaking(
    given: NDArray[np.uint8],
    count: int,
    features: NDArray[np.uint32],
    grid: Grid,
    *,
    reach: float,
    source: str,
) -> str:
    """What to say of parts that are too near each other: how many pixels, how near, and the nearest two."""
    sides = pixel_sides(grid)
    least, place = _nearest_pair(given, sides)
    other = _nearest_other(given, place, sides, reach)
    lon, lat = lonlat_of(grid, *place)
    allowed = max(0, math.ceil(least) - 1)
    names = [f"feature {features[pixel]} ({NAMES[int(given[pixel])]})" for pixel in (place, other)]
    return (
        f"expected parts more than {reach:.4g} m apart in {source}, found {count} pixels nearer to another part, the "
        f"nearest {least:.4g} m: {names[0]} at longitude {lon:.5f}, latitude {lat:.5f} from {names[1]}; run again with "
        f"--drop-near to drop these pixels, or with --buffer {allowed} to allow them"
    )


def _nearest_pair(given: NDArray[np.uint8], sides: tuple[float, float]) -> tuple[float, tuple[int, int]]:
    """Metres between the two nearest pixels of different parts, and where one of the two is."""
    parts = [given == part for part in NAMES]
    pairs = [(one, other) for one, other in itertools.combinations(parts, 2) if one.any() and other.any()]
    metres = [nearest(one, other, sides, 0.0) for one, other in pairs]
    least = min(metres)
    there = near(*pairs[metres.index(least)], sides, least)
    row, col = np.unravel_index(there.argmax(), there.shape)
    return least, (int(row), int(col))


def _nearest_other(
    given: NDArray[np.uint8], place: tuple[int, int], sides: tuple[float, float], reach: float
) -> tuple[int, int]:
    """The nearest pixel of another part than a pixel's own; there is one within `reach` metres."""
    margins = [int(reach / side) + 1 for side in sides]
    top, left = (max(0, at - by) for at, by in zip(place, margins, strict=True))
    around = given[top : place[0] + margins[0] + 1, left : place[1] + margins[1] + 1]
    rows, cols = np.nonzero((around != NONE) & (around != given[place]))
    metres = np.hypot((rows + top - place[0]) * sides[0], (cols + left - place[1]) * sides[1])
    first = int(metres.argmin())
    return int(rows[first]) + top, int(cols[first]) + left


def _outlines(part: NDArray[np.uint8], grid: Grid) -> tuple[Territory, ...]:
    """Outlines of the pixels of each part."""
    wanted = (part != NONE) & (part != BUFFER)
    found = rasterio.features.shapes(part, mask=wanted, transform=grid.transform)
    return tuple(Territory(shape(outline), NAMES[int(code)]) for outline, code in found)

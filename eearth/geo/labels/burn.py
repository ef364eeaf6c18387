"""Labelled polygons or points → a raster of class codes on the imagery's grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eearth.errors import LabelError
from eearth.events import Note, Report, Warned, silent
from eearth.geo.labels.legend import MAX_CODE, LandCoverClass, classes_on
from eearth.geo.labels.naming import in_order
from eearth.geo.labels.outlines import Outlines, outlines_of
from eearth.geo.labels.overlaps import OUTCOMES, Conflicts, Policy
from eearth.geo.labels.places import apart
from eearth.geo.labels.strips import Burning

if TYPE_CHECKING:
    from collections.abc import Sequence

    import geopandas as gpd

    from eearth.geo.grid import Grid


NO_LABEL = 0
NAMED = 10  # features that a note names


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How labels become pixels.

    Attributes:
        least: Share of a pixel that a polygon must cover to label it; None: its centre decides. See `least_share`.
        inner_buffer: Metres that each polygon loses along its edge first.
        overlap: Whose a pixel is that labels of different classes claim.
    """

    least: float | None
    inner_buffer: float
    overlap: Policy


@dataclass(frozen=True)
class Burnt:
    """Labels on a grid.

    Attributes:
        codes: Class codes, (y, x) uint8, 0 = no label.
        features: The feature that labels each pixel, as its number in the file, from 1: (y, x) uint32, 0 = none.
        classes: The legend by rising code.
        conflicts: Where labels of different classes meet.
        vanished: Numbers of the polygons of which the inner buffer leaves nothing.
        left_out: How many features were left out before they were burnt, by reason.
    """

    codes: NDArray[np.uint8]
    features: NDArray[np.uint32]
    classes: tuple[LandCoverClass, ...]
    conflicts: Conflicts
    vanished: tuple[int, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def burn(labels: gpd.GeoDataFrame, grid: Grid, rules: Rules, report: Report = silent) -> Burnt:
    """Rasterise labels onto a grid, strip by strip.

    A polygon labels the pixels whose centre lies inside it, or of which it covers the share that the rules ask for; a
    point the pixel it lies in: of a point on the edge between two pixels the right or lower one, and none where that
    is outside the grid.

    Args:
        labels: From `read_labels`; reprojected here, once. The index counts the file's features from 0.
        grid: The imagery's grid.
        rules: How labels become pixels.
        report: Hears of the progress, of polygons that vanish, of classes without a pixel, and of pixels whose labels
            disagree.

    Returns:
        The labels. Codes are the file's own (column `code`), or 1..K in alphabetical order of all the file's classes
        (code-point order; numerical where every name is an integer). A class of the file without a pixel on the grid
        stays in the legend with `pixels` 0.

    Raises:
        LabelError: No label meets the grid, fewer than two classes have a pixel on it, or labels of different classes
            meet and the rules forbid that.
    """
    by_name = _numbered(labels)
    values = labels["class"].map(by_name).to_numpy().astype(np.uint8)
    numbers = labels.index.to_numpy().astype(np.int64) + 1
    outlines = outlines_of(labels, grid, inner_buffer=rules.inner_buffer, report=report)
    _check_place(outlines, labels, grid, report)
    vanished = tuple(numbers[outlines.vanished].tolist())
    if vanished:
        report(Note(text=_vanishing(vanished, rules.inner_buffer)))
    features, ledger = Burning(outlines, values, rules.least, rules.overlap).on(grid, numbers, report)
    conflicts = ledger.close(numbers, labels["class"].to_numpy(), grid)
    _tell(conflicts, labels, rules, report)
    codes = _codes_of(features, values, numbers)
    _, once = np.unique(numbers[outlines.meets], return_index=True)  # one with polygons and points stands there twice
    polygons = np.bincount(values[outlines.meets][once], minlength=MAX_CODE + 1)
    classes = classes_on(codes, {code: name for name, code in by_name.items()}, labels.attrs.get("colours"), polygons)
    _check_classes(classes, labels, rules, report)
    total = labels.index.nunique()
    beside = total - len(once)
    if beside:
        report(Note(text=f"{beside} of {total} features lie outside the imagery"))
    left_out = {**labels.attrs.get("left_out", {}), "outside the imagery": beside}
    return Burnt(codes, features, classes, conflicts, vanished, left_out)


def _codes_of(features: NDArray[np.uint32], values: NDArray[np.uint8], numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The class code of each pixel's feature."""
    of_number = np.zeros(int(numbers.max()) + 1, dtype=np.uint8)
    of_number[numbers] = values
    codes: NDArray[np.uint8] = of_number[features]
    return codes


def _check_place(outlines: Outlines, labels: gpd.GeoDataFrame, grid: Grid, report: Report) -> None:
    """Refuse labels beside the grid, and tell of those that have no place in its CRS."""
    lost = int((~outlines.placed).sum())
    if lost:
        report(Warned(text=f"{lost} labels lie outside the domain of the imagery's CRS and are left out"))
    if not outlines.meets.any():
        source, bounds = labels.attrs.get("source", "the labels"), tuple(labels.total_bounds.tolist())
        raise LabelError(apart(source, labels.crs, bounds, grid))


def _vanishing(vanished: Sequence[int], metres: float) -> str:
    """What a note says of polygons that the inner buffer leaves nothing of."""
    named = ", ".join(str(number) for number in vanished[:NAMED])
    more = f" and {len(vanished) - NAMED} more" if len(vanished) > NAMED else ""
    return f"{len(vanished)} polygons vanish within the inner buffer of {metres:g} m: features {named}{more}"


def _tell(conflicts: Conflicts, labels: gpd.GeoDataFrame, rules: Rules, report: Report) -> None:
    """Tell of contested pixels, or refuse them."""
    if not conflicts.pixels:
        return
    if rules.overlap == "error":
        msg = (
            f"expected no overlap of different classes in {labels.attrs.get('source', 'the labels')}, found "
            f"{conflicts.pixels} pixels that several claim, such as those of {conflicts.listed[0]}: mend the file, or "
            "run again with another --overlap"
        )
        raise LabelError(msg)
    outcome = OUTCOMES[rules.overlap]
    report(Note(text=f"{conflicts.pixels} pixels lie in labels of different classes; {outcome}"))


def _numbered(labels: gpd.GeoDataFrame) -> dict[str, int]:
    """Class name → code, by rising code."""
    if "code" in labels:
        pairs = labels[["class", "code"]].drop_duplicates().sort_values("code")
        return {str(name): int(code) for name, code in pairs.itertuples(index=False)}
    ordered = in_order(str(name) for name in labels["class"].unique())
    return {name: code for code, name in enumerate(ordered, start=1)}


def _check_classes(classes: Sequence[LandCoverClass], labels: gpd.GeoDataFrame, rules: Rules, report: Report) -> None:
    """Refuse a legend that no classifier can learn; name the classes without a pixel."""
    seen = [entry.name for entry in classes if entry.pixels]
    source = labels.attrs.get("source", "the labels")
    if len(seen) < 2:  # noqa: PLR2004 - one class leaves nothing to tell apart
        found = f"only `{seen[0]}`" if seen else "none"
        msg = f"expected at least 2 classes of {source} with pixels on the imagery's grid, found {found}: "
        raise LabelError(msg + _remedy(rules, labels.attrs.get("where")))
    unseen = [f"`{entry.name}`" for entry in classes if not entry.pixels]
    if unseen:
        report(Warned(text=f"classes of {source} without a pixel on the imagery's grid: {', '.join(unseen)}"))


def _remedy(rules: Rules, where: str | None) -> str:
    """What gives more classes a pixel."""
    ways = [f"run again with a --where that keeps more than `{where}`"] if where else []
    ways.append("label more of the region")
    if rules.inner_buffer > 0:
        ways.append("run again with a smaller --inner-buffer")
    if rules.overlap == "drop":
        ways.append("run again with another --overlap")
    if rules.least != 0:
        ways.append("where polygons are smaller than a pixel, run again with --coverage touched")
    return ", or ".join(ways)

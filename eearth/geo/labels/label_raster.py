"""A raster of class codes, such as another map → labels on the imagery's grid."""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from eearth.errors import LabelError
from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.geo.labels.categories import Categories, read_categories
from eearth.geo.labels.legend import MAX_CODE, LandCoverClass, classes_on
from eearth.geo.labels.mapping import Legend, Subject, agreed
from eearth.geo.labels.naming import listed
from eearth.geo.labels.patches import patches_of
from eearth.geo.labels.places import apart
from eearth.geo.labels.regrid import copied, own_grid, read_window, warped, window_under

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eearth.geo.grid import Grid

Choice = Literal["majority", "nearest"]

SUFFIXES = (".tif", ".tiff", ".img", ".vrt")
METHODS = {"majority": Resampling.mode, "nearest": Resampling.nearest}
TILE = 2048  # pixels of the grid that are read at once
MARGIN = 2  # pixels of the file beyond those under a tile
TASK = "reading the label raster"


@dataclass(frozen=True)
class RasterLabels:
    """Labels from a raster.

    Attributes:
        codes: Class codes on the imagery's grid, (y, x) uint8, 0 = no label.
        features: The number of the patch of each labelled pixel, (y, x) uint32; all 0 where the raster is a map.
        classes: The classes that have a pixel, by rising code.
    """

    codes: NDArray[np.uint8]
    features: NDArray[np.uint32]
    classes: tuple[LandCoverClass, ...]


def is_raster(path: Path) -> bool:
    """Whether a label file is to be read as a raster: by its suffix, and because GDAL takes it for one."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            rasterio.open(path).close()
    except RasterioError:
        return False
    return True


def read_label_raster(
    path: Path,
    grid: Grid,
    *,
    legend: Legend | None = None,
    skip_unmapped: bool = False,
    resampling: Choice = "majority",
    report: Report = silent,
) -> RasterLabels:
    """Read a raster of class codes.

    The file's nodata value, its mask, and 0 are no label; 0 is a class only where a legend says so. On the imagery's
    own lattice the codes are copied. Elsewhere the grid's pixel gets the class of most of its area, where "no label"
    counts like a class, or that of the file's pixel at its centre.

    Args:
        path: One band of whole numbers, in any coordinate reference system.
        grid: The imagery's grid.
        legend: Which values mean which class; None = each value is a class, with the file's own name and colour.
        skip_unmapped: Leave out values that the legend does not know, instead of refusing the file.
        resampling: What to do where the file has another grid.
        report: Hears of the progress and of what is left out.

    Raises:
        LabelError: The file cannot be used; the message says what to do.
    """
    categories = read_categories(path)
    with _opened(path) as file:
        _check(file, path)
        counts = _count(file, grid, path, report)
        if not counts:
            msg = f"expected labelled pixels of {path} on the imagery, found none: give another file"
            raise LabelError(msg)
        names = _names(counts, categories, legend, Subject(str(path), "pixels", skip_unmapped, raster=True), report)
        codes_of = _numbered(names, legend, path)
        codes = _resampled(file, grid, codes_of, METHODS[resampling], report)
    colours = {names[v]: c for v, c in categories.colours.items() if v in names}
    colours |= dict(legend.colours) if legend else {}
    features, patches = patches_of(codes)
    by_code = {code: names[value] for value, code in codes_of.items()}
    return RasterLabels(codes, features, _classes(codes, by_code, colours, patches, path))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, whose faults become one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                yield file
    except RasterioError as error:
        msg = f"expected a raster of class codes, found that {path} cannot be read ({error}): write it again"
        raise LabelError(msg) from error


def _check(file: Any, path: Path) -> None:
    """Refuse what is no raster of class codes in a known place."""
    if file.count != 1:
        msg = (
            f"expected one band of class codes in {path}, found {file.count}: "
            f"run `gdal_translate -b 1 {path} labels.tif` with the right band, then use labels.tif"
        )
        raise LabelError(msg)
    if file.crs is None or file.transform == Affine.identity():
        msg = (
            f"expected georeferencing in {path}, found none: run `gdal_translate -a_srs EPSG:<code> "
            f"-a_ullr LEFT TOP RIGHT BOTTOM {path} labels.tif` with the right ones, then use labels.tif"
        )
        raise LabelError(msg)
    if np.dtype(file.dtypes[0]).kind not in "iuf":
        msg = f"expected whole numbers in {path}, found values of the type {file.dtypes[0]}: write it as uint8"
        raise LabelError(msg)


def _count(file: Any, grid: Grid, path: Path, report: Report) -> Counter[int]:
    """How often each value occurs where the grid is; nodata is none."""
    counts: Counter[int] = Counter()
    tiles = list(grid.windows(TILE))
    report(Started(task=TASK, total=2 * len(tiles), unit="tiles"))
    reached = False
    for tile in tiles:
        window = window_under(file, grid.crop(tile), margin=0)
        reached |= window is not None
        if window:
            values, there = read_window(file, window)
            found, numbers = np.unique(values[there], return_counts=True)
            _check_whole(found, path)
            counts.update(dict(zip((int(value) for value in found), numbers.tolist(), strict=True)))
        report(Advanced(task=TASK))
    if not reached:
        raise LabelError(apart(str(path), file.crs, tuple(file.bounds), grid))
    return counts


def _check_whole(values: NDArray[Any], path: Path) -> None:
    broken = values[values % 1 != 0] if values.dtype.kind == "f" else values[:0]
    if broken.size:
        msg = (
            f"expected class codes in {path}, found numbers that are not whole, such as {broken[0]:g}: "
            "give a raster of classes, not of measurements"
        )
        raise LabelError(msg)


def _names(
    counts: Counter[int], categories: Categories, legend: Legend | None, subject: Subject, report: Report
) -> dict[int, str]:
    """Value → class name, for the values that are labels."""
    zero_means = legend.meanings(["0"], raster=True).get("0") if legend else None
    values = [value for value in sorted(counts) if value or zero_means]
    if not legend:
        return _own_names(values, categories)
    known = legend.meanings([str(value) for value in values], raster=True)
    texts = {value: str(value) if str(value) in known else categories.names.get(value, str(value)) for value in values}
    by_text: Counter[str] = Counter()
    for value, text in texts.items():
        by_text[text] += counts[value]
    meanings = agreed(legend, by_text, subject, report)
    return {value: name for value, text in texts.items() if (name := meanings[text])}


def _own_names(values: list[int], categories: Categories) -> dict[int, str]:
    """The file's names, or the numbers; of several values with one name all but the first get their number, too."""
    names: dict[int, str] = {}
    for value in values:
        name = categories.names.get(value, str(value))
        names[value] = f"{name} ({value})" if name in names.values() else name
    return names


def _numbered(names: dict[int, str], legend: Legend | None, path: Path) -> dict[int, int]:
    """Value → code."""
    if legend:
        return {value: legend.codes[name] for value, name in names.items()}
    outside = [str(value) for value in names if not 1 <= value <= MAX_CODE]
    if outside:
        msg = (
            f"expected class codes from 1 to {MAX_CODE} in {path}, found {listed(outside)}: "
            "give a --legend that maps its values to classes"
        )
        raise LabelError(msg)
    return {value: value for value in names}


def _resampled(
    file: Any, grid: Grid, codes_of: dict[int, int], method: Resampling, report: Report
) -> NDArray[np.uint8]:
    """The class codes on the grid, (y, x), tile by tile."""
    codes = np.zeros(grid.shape, dtype=np.uint8)
    own = own_grid(file)
    values, mapped = np.array(sorted(codes_of)), np.array([codes_of[value] for value in sorted(codes_of)], np.uint8)
    for tile in grid.windows(TILE):
        place = grid.crop(tile)
        window = window_under(file, place, margin=MARGIN)
        if window and values.size:
            read, there = read_window(file, window)
            found = np.clip(np.searchsorted(values, read), 0, values.size - 1)
            source = np.where(there & (values[found] == read), mapped[found], np.uint8(0))
            offset = own.crop(window).offset_of(place) if own else None
            codes[tile.slices] = (
                copied(source, offset, place.shape) if offset else warped(source, file, window, place, method)
            )
        report(Advanced(task=TASK))
    report(Finished(task=TASK))
    return codes


def _classes(
    codes: NDArray[np.uint8],
    names: dict[int, str],
    colours: dict[str, str],
    patches: dict[int, int],
    path: Path,
) -> tuple[LandCoverClass, ...]:
    """The classes with a pixel."""
    there = set(np.unique(codes).tolist())
    seen = {code: names[code] for code in sorted(names) if code in there}
    if len(seen) < 2:  # noqa: PLR2004 - one class leaves nothing to tell apart
        found = listed(seen.values()) if seen else "none"
        msg = f"expected at least 2 classes of {path} with pixels on the imagery's grid, found {found}: "
        raise LabelError(msg + "give another file")
    return classes_on(codes, seen, colours, [patches.get(code, 0) for code in range(MAX_CODE + 1)])

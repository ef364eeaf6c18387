"""The labels that a user gives, a vector file or a raster → labels on the imagery's grid."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from eearth.errors import UsageError
from eearth.events import Report, silent
from eearth.geo.labels.burn import Burnt, Rules, burn
from eearth.geo.labels.categories import read_categories
from eearth.geo.labels.file import read_labels
from eearth.geo.labels.label_raster import is_raster, read_label_raster
from eearth.geo.labels.mapping import BUILT_IN, read_legend
from eearth.geo.labels.overlaps import Conflicts
from eearth.geo.labels.validity import Validity

if TYPE_CHECKING:
    import geopandas as gpd

    from eearth.geo.cube import Cube
    from eearth.geo.labels.mapping import Legend
    from eearth.settings import RasterizeSettings

# Settings that say something of features, which a raster does not have; and the one that says something of rasters.
OF_FEATURES = (
    "class_column",
    "skip_null",
    "where",
    "start_column",
    "end_column",
    "coverage",
    "inner_buffer",
    "overlap",
    "split_column",
)
OF_RASTERS = ("resampling",)


def legend_file(settings: RasterizeSettings) -> Path | None:
    """The user's legend, if there is one and it is not built in."""
    given = settings.legend not in (None, *BUILT_IN)
    return Path(settings.legend) if settings.legend and given and Path(settings.legend).is_file() else None


def names_digest(path: Path) -> str | None:
    """sha256 of what a raster and its side files say of its classes; None where the labels are no raster.

    The side files themselves do not count: GDAL and QGIS write notes into them whenever somebody looks at the raster.
    """
    if not is_raster(path):
        return None
    said = json.dumps(asdict(read_categories(path)), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def labels_on_grid(settings: RasterizeSettings, cube: Cube, rules: Rules, report: Report = silent) -> Burnt:
    """Read the label file, whatever it is, and bring it onto the imagery's grid.

    Args:
        settings: Which file, and what of it.
        cube: The imagery, for its grid and its dates.
        rules: How polygons become pixels.
        report: Hears of the progress, and of everything that is left out or repaired.

    Raises:
        LabelError: The file cannot be used.
        UsageError: Settings do not suit the kind of file.
    """
    legend = read_legend(settings.legend) if settings.legend else None
    raster = is_raster(settings.labels)
    _refuse_settings(settings, OF_FEATURES if raster else OF_RASTERS, raster=raster)
    if raster:
        return _from_raster(settings, cube, legend, report)
    return burn(_from_features(settings, cube, legend, report), cube.grid, rules, report)


def _refuse_settings(settings: RasterizeSettings, unsuited: tuple[str, ...], *, raster: bool) -> None:
    """Settings that would be ignored are refused, if somebody chose them."""
    given = settings.chosen(unsuited)
    if given:
        kinds = ("a vector file", "a raster") if raster else ("a raster", "a vector file")
        msg = f"expected {kinds[0]} for {', '.join(given)}, found {kinds[1]} ({settings.labels}): leave it out"
        raise UsageError(msg)


def _from_raster(settings: RasterizeSettings, cube: Cube, legend: Legend | None, report: Report) -> Burnt:
    read = read_label_raster(
        settings.labels,
        cube.grid,
        legend=legend,
        skip_unmapped=settings.skip_unmapped,
        resampling=settings.resampling,
        report=report,
    )
    return Burnt(read.codes, read.features, read.classes, Conflicts(0, 0, 0, ()), ())


def _from_features(settings: RasterizeSettings, cube: Cube, legend: Legend | None, report: Report) -> gpd.GeoDataFrame:
    return read_labels(
        settings.labels,
        class_column=settings.class_column,
        skip_null=settings.skip_null,
        where=settings.where,
        legend=legend,
        skip_unmapped=settings.skip_unmapped,
        validity=Validity(cube.times[0], cube.times[-1], settings.start_column, settings.end_column),
        report=report,
    )

"""Files of polygons that are written some at a time: GeoPackage and GeoParquet."""

from __future__ import annotations

import json
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pyogrio
import pyproj
import shapely

from eearth.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import geopandas as gpd

    from eearth.geo.grid import Grid

LAYER = "landcover"

# A GeoPackage stores when it was written; the same map is to be the same file.
WRITTEN = "2000-01-01T00:00:00.000Z"


def check_format(kind: str) -> None:
    """Find out early that a file of a kind ("gpkg", "parquet", "none") cannot be written.

    Raises:
        UsageError: A library is missing.
    """
    if kind == "parquet" and find_spec("pyarrow") is None:
        msg = "expected pyarrow for --vector parquet, found none: run `pip install pyarrow`, or take --vector gpkg"
        raise UsageError(msg)


@contextmanager
def appending(path: Path, grid: Grid) -> Iterator[Callable[[gpd.GeoDataFrame], None]]:
    """What appends polygons to a new file, of the kind that its name ends on; the first ones may be none at all.

    Args:
        path: `<name>.gpkg` or `<name>.parquet`; what lies there is replaced.
        grid: Whose CRS the polygons have.

    Raises:
        OSError: The file could not be written.
    """
    path.unlink(missing_ok=True)
    with _geopackage(path) if path.suffix == ".gpkg" else _geoparquet(path, grid) as append:
        yield append


@contextmanager
def _geopackage(path: Path) -> Iterator[Callable[[gpd.GeoDataFrame], None]]:
    count = 0

    def append(polygons: gpd.GeoDataFrame) -> None:
        nonlocal count
        count += len(polygons)
        there = path.exists()
        if len(polygons) or not there:
            pyogrio.write_dataframe(polygons, path, layer=LAYER, driver="GPKG", geometry_type="Polygon", append=there)

    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": WRITTEN})
    try:
        yield append
        found = pyogrio.read_info(path)["features"]
    except RuntimeError as error:  # what pyogrio's own errors have in common
        raise OSError(str(error)) from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    if found != count:
        msg = f"the file holds {found} of {count} polygons"
        raise OSError(msg)


@contextmanager
def _geoparquet(path: Path, grid: Grid) -> Iterator[Callable[[gpd.GeoDataFrame], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(grid)

    def append(polygons: gpd.GeoDataFrame) -> None:
        columns = [pa.array(polygons[name].to_numpy(), schema.field(name).type) for name in schema.names[:-1]]
        shapes = pa.array(shapely.to_wkb(polygons.geometry.to_numpy()), pa.binary())
        file.write_table(pa.Table.from_arrays([*columns, shapes], schema=schema))

    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        yield append


def _schema(grid: Grid) -> Any:
    """Columns, and what GeoParquet 1.1 asks for (https://geoparquet.org/releases/v1.1.0/)."""
    import pyarrow as pa

    crs = pyproj.CRS.from_wkt(grid.crs.to_wkt()).to_json_dict()
    geometry = {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": crs}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    columns = [
        ("code", pa.int16()),
        ("name", pa.string()),
        ("area_ha", pa.float64()),
        ("confidence", pa.float32()),
        ("geometry", pa.binary()),
    ]
    return pa.schema(columns, metadata={"geo": json.dumps(geo)})

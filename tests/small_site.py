"""A small region of made-up scenes whose every pixel is noise, so that a wrong byte anywhere shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import rasterio
from forked import eearth
from scenery import lonlat_outline, utm_grid
from shapely.geometry import box, shape

from eearth.geo.cube import CUBE, Cube

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from eearth.geo.grid import Grid

COLLECTION = "small"
# The tests' server issues tokens as the Planetary Computer does.
PROVIDER = """
[providers.small]
extends = "generic"
collections = ["small"]

[providers.small.access]
kind = "sas"
endpoint = "{url}/api/sas/v1/token"
hosts = ["127.0.0.1"]
"""
PIXELS, TILE = 768, 64
BANDS = ("red", "nir", "swir16")
PASSES = ("2023-06-01", "2023-06-11", "2023-06-21", "2023-07-01", "2023-07-11", "2023-07-21")
# On this date there are two tiles: the western one ends in the middle, the eastern one goes on.
SHARED = PASSES[3]
EAST_BY, WEST_ENDS = 300, 500


@dataclass(frozen=True)
class Site:
    """Scenes on disk: `root/<item id>/<asset>.tif`.

    Attributes:
        root: The folder to serve.
        items: STAC items whose asset hrefs are relative to the root.
        region: The region to download.
    """

    root: Path
    items: tuple[dict[str, Any], ...]
    region: Path

    @property
    def ids(self) -> list[str]:
        return [item["id"] for item in self.items]

    def at(self, base: str, without: Iterable[str] = ()) -> list[dict[str, Any]]:
        """The items as they are where `base` serves the root."""
        return [
            {**item, "assets": {k: {**a, "href": f"{base}/{a['href']}"} for k, a in item["assets"].items()}}
            for item in self.items
            if item["id"] not in set(without)
        ]

    def catalog(self, path: Path, base: str, without: Iterable[str] = ()) -> Path:
        """Write a static collection with those items into a new folder, and return its file."""
        items = self.at(base, without)
        path.mkdir(parents=True)
        for item in items:
            (path / f"{item['id']}.json").write_text(json.dumps(item), encoding="utf-8")
        links = [{"rel": "item", "href": f"./{item['id']}.json", "type": "application/geo+json"} for item in items]
        (path / "collection.json").write_text(json.dumps({**collection_of(items), "links": links}), encoding="utf-8")
        return path / "collection.json"


def collection_of(items: list[dict[str, Any]]) -> dict[str, Any]:
    times = sorted(item["properties"]["datetime"] for item in items)
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": COLLECTION,
        "description": "Noise",
        "license": "CC0-1.0",
        "extent": {
            "spatial": {"bbox": [list(shape(items[0]["geometry"]).bounds)]},
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        "links": [],
    }


def make_site(folder: Path, compress: str, *, late: bool = True) -> Site:
    """Six passes, one of them of two tiles: two bands of 10 m, one of 20 m, and a scene classification of 20 m.

    With `late`, every other scene's files have their directory, and so the index of their tiles, at the end.
    """
    folder.mkdir()
    west = utm_grid(PIXELS, PIXELS)
    east = utm_grid(PIXELS, PIXELS, left=500_000 + 10 * EAST_BY)
    scenes = [(f"W_{day}", day, west) for day in PASSES]
    scenes.insert(4, (f"X_{SHARED}", SHARED, east))
    items = []
    for number, (name, day, grid) in enumerate(scenes):
        rng = np.random.default_rng(number)
        for band in (*BANDS, "scl"):
            values = _noise(rng, band, ends=WEST_ENDS if name == f"W_{SHARED}" else PIXELS)
            _write(folder / "files" / name / f"{band}.tif", values, grid, compress, late=late and number % 2 == 1)
        items.append(_item(name, day, grid))
    region = folder / "region.geojson"
    outline = box(500_000 + 700, 5_000_000 - 7000, 500_000 + 7000, 5_000_000 - 700)
    gpd.GeoDataFrame(geometry=[outline], crs=32633).to_crs(4326).to_file(region, driver="GeoJSON")
    return Site(folder / "files", tuple(items), region)


def _noise(rng: np.random.Generator, band: str, *, ends: int) -> NDArray[Any]:
    side = PIXELS if band in ("red", "nir") else PIXELS // 2
    values: NDArray[Any] = rng.integers(1, 4096, (side, side)).astype(np.uint16)
    if band == "scl":
        values = rng.choice(np.array([4, 5, 8, 9], dtype=np.uint8), (side, side))
    values[:, ends * side // PIXELS :] = 0
    return values


def _write(path: Path, values: NDArray[Any], grid: Grid, compress: str, *, late: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    side = grid.height * 10 // len(values)
    own = utm_grid(*values.shape, left=grid.transform.c, top=grid.transform.f, side=side)
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=own.height, width=own.width, dtype=values.dtype, crs=own.crs,
        transform=own.transform, nodata=0, tiled=True, blockxsize=TILE, blockysize=TILE, compress=compress,
    ) as file:  # fmt: skip
        file.write(values, 1)
    if late:  # a directory that has outgrown its place moves to the end
        with rasterio.open(path, "r+") as file:
            file.update_tags(NOTE="x" * 100)


def _item(name: str, day: str, grid: Grid) -> dict[str, Any]:
    facts = {"nodata": 0, "scale": 1e-4, "offset": 0.0}
    kinds = {band: {**facts, "data_type": "uint16"} for band in BANDS} | {"scl": {"nodata": 0, "data_type": "uint8"}}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": COLLECTION,
        "geometry": lonlat_outline(grid),
        "bbox": list(shape(lonlat_outline(grid)).bounds),
        "properties": {
            "datetime": f"{day}T10:00:{'00' if name.startswith('W') else '14'}Z",
            "platform": "sentinel-2a",
            "grid:code": f"MGRS-33T{'WM' if name.startswith('W') else 'XM'}",
            "eo:cloud_cover": 10,
            "s2:processing_baseline": "05.00",
            "earthsearch:boa_offset_applied": True,
        },
        "links": [],
        "assets": {
            key: {"href": f"{name}/{key}.tif", "type": "image/tiff; application=geotiff", "raster:bands": [kind]}
            for key, kind in kinds.items()
        },
    }


def download_words(site: Site, catalog: Path | str, workspace: Path) -> list[str]:
    """The words of `eearth download` of the site."""
    return [
        "download", str(site.region), "--catalog", str(catalog), "--collection", COLLECTION,
        "--bands", ",".join(BANDS), "--datetime", "2023", "--max-cloud", "100", "-w", str(workspace),
    ]  # fmt: skip


def download(
    site: Site, catalog: Path | str, workspace: Path, prelude: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, where warnings are errors; `prelude` is Python that runs before."""
    return eearth(*download_words(site, catalog, workspace), prelude=prelude, env=env)


def differing_pixels(workspace: Path, reference: Path) -> int:
    """Pixels (of a date) that differ in any band or in validity; everything else must be the same."""
    one, other = (Cube.open(folder / "imagery" / CUBE) for folder in (workspace, reference))
    assert one.items == other.items
    assert one.times.tolist() == other.times.tolist()
    assert (one.grid, one.bands, one.encoding) == (other.grid, other.bands, other.encoding)
    values = (np.asarray(one.reflectance[...]) != np.asarray(other.reflectance[...])).any(axis=1)
    return int((values | (np.asarray(one.valid[...]) != np.asarray(other.valid[...]))).sum())

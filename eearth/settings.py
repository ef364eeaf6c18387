"""Every setting of every stage: its default, written once, with its sentence beside it.

The command line is generated from these classes; so is what `eearth.toml` and the environment may set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting

# The ten bands of Sentinel-2 at 10 and 20 m, by the common names of the STAC eo extension.
SENTINEL_2_BANDS = (
    "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DownloadSettings(Settings):
    """Imagery of a region: STAC search → one clean data cube."""

    stage: ClassVar[str] = "download"
    region: Path = setting(text="Polygon file that geopandas reads: GeoJSON, GPKG, Shapefile ...", argument=True)
    catalog: str = setting(
        "https://earth-search.aws.element84.com/v1", text="STAC API by URL, or a static STAC catalog by URL or path."
    )
    collection: str | None = setting(
        None, text="Collection id. Default: sentinel-2-l2a, or the only collection of a static catalog."
    )
    datetime: str | None = setting(
        None, text="A year (2024), a month (2024-05), a day, or START/END. Default: the last full calendar year."
    )
    bands: tuple[str, ...] = setting(
        SENTINEL_2_BANDS, text="Bands by asset key, common name or eo:bands name, separated by commas."
    )
    max_cloud: float = setting(60.0, text="Leave out scenes with a higher eo:cloud_cover, in percent.")
    resolution: float = setting(
        10.0, below=1e-9, text="Pixel size in units of the CRS; with --grid native, the source grid nearest to it."
    )
    crs: str | None = setting(None, text="CRS of the cube, such as EPSG:32633. Default: the UTM zone of the region.")
    grid: Literal["snap", "native"] = setting(
        "snap", text="snap: edges on whole multiples of the resolution; native: the source's own grid, no resampling."
    )
    resampling: Literal["bilinear", "nearest"] = setting(
        "bilinear", text="How reflectance on another grid is warped; masks are always taken from the nearest pixel."
    )
    mask_asset: str | None = setting(
        None, text="Asset that classifies pixels; 'none' for no mask. Default: scl where the scenes have it."
    )
    mask_valid: tuple[int, ...] = setting(
        (4, 5, 6, 7, 11),
        text="Values of the mask asset that are a clear observation; default: vegetation, soil, water, unclassified, "
        "snow of the Sentinel-2 scene classification.",
    )
    workers: int = setting(8, below=1, text="Assets read at the same time.")


@dataclass(frozen=True, kw_only=True)
class RasterizeSettings(Settings):
    """Ground-truth polygons → labels on the imagery's grid, and a leak-free split."""

    stage: ClassVar[str] = "rasterize"
    labels: Path = setting(text="Polygons or points with a class column: GPKG, GeoJSON, Shapefile ...", argument=True)
    class_column: str = setting("class", text="Column with the class names.")
    skip_null: bool = setting(False, text="Leave out features without a class instead of refusing the file.")
    all_touched: bool = setting(
        False, text="Burn every pixel that a polygon touches, instead of those whose centre lies inside."
    )
    block_size: float | None = setting(
        None, text="Side of a split block in metres. Default: chosen from the region's size."
    )
    buffer: float | None = setting(
        None, text="Least distance in metres between pixels of different parts. Default: three pixels."
    )
    test_fraction: float = setting(0.25, text="Share of the labelled pixels to test on.")
    validation_fraction: float = setting(0.15, text="Share of the labelled pixels to validate on.")
    seed: int = setting(0, text="Seed of the split.")


SETTINGS: dict[str, type[Settings]] = {cls.stage: cls for cls in (DownloadSettings, RasterizeSettings)}

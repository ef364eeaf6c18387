"""Settings of `eearth download`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from datetime import datetime as clock
from pathlib import Path
from typing import ClassVar, Literal

from eearth.config import Settings, setting


@dataclass(frozen=True, kw_only=True)
class DownloadSettings(Settings):
    """Imagery of a region: STAC search → one clean data cube."""

    stage: ClassVar[str] = "download"
    region: Path = setting(
        text="Polygon file that geopandas reads: GeoJSON, GPKG, Shapefile ...", argument=True, incidental=True
    )
    catalog: str = setting(
        "https://earth-search.aws.element84.com/v1",
        text="STAC API by URL, a static STAC catalog by URL or path, or a folder of dated GeoTIFFs.",
    )
    collection: str | None = setting(
        None, text="Collection id. Default: sentinel-2-l2a, or the only collection of a static catalog."
    )
    datetime: str | None = setting(
        None, text="A year (2024), a month (2024-05), a day, or START/END. Default: the last full calendar year."
    )
    provider: str | None = setting(
        None,
        text="How the catalog's items are meant: a name from the list of providers, or from [providers.NAME] in "
        "eearth.toml. Default: found by the catalog's address and the collection.",
    )
    bands: tuple[str, ...] | None = setting(
        None,
        text="Bands by asset key, common name or eo:bands name, separated by commas. Default: the provider's; for "
        "Sentinel-2 the ten bands of 10 and 20 m.",
    )
    max_cloud: float = setting(
        80.0,
        most=100,
        text="Leave out acquisitions whose clouds cover more of the region, in percent, by their masks; where they "
        "have none, by eo:cloud_cover.",
    )
    max_dates: int | None = setting(
        None, least=1, text="Most acquisitions to fetch: the clearest ones, spread over the time. Default: all."
    )
    composite: Literal["none", "monthly"] = setting(
        "none", text="monthly: one date a month, the median of the clear observations; none: every acquisition."
    )
    resolution: float | None = setting(
        None,
        least=1e-9,
        text="Pixel size in units of the CRS; with --grid native, the source grid nearest to it. Default: the "
        "provider's, 10 for Sentinel-2.",
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
    mask_valid: tuple[int, ...] | None = setting(
        None,
        text="Values of the mask asset that are a clear observation. Default: the provider's; for Sentinel-2's scene "
        "classification 4,5,6,7,11: vegetation, soil, water, unclassified, snow.",
    )
    min_coverage: float = setting(
        50.0,
        most=100,
        text="Fail unless this share of the region is seen clearly at least once, in percent.",
        incidental=True,
    )
    update: bool = setting(
        False, text="Add what is new to the finished cube, and what could not be read before.", incidental=True
    )
    estimate: bool = setting(
        False, text="Only say what the download takes: scenes, requests, bytes, memory, time.", incidental=True
    )
    rate: float | None = setting(None, text="MB/s to reckon with for --estimate. Default: measured.", incidental=True)
    workers: int = setting(32, least=1, text="Files read at the same time.", incidental=True)
    scheduler: str | None = setting(
        None,
        text="Address of a dask.distributed scheduler, such as tcp://HOST:8786, whose workers read. Default: this "
        "machine.",
        incidental=True,
    )

    def __post_init__(self) -> None:
        """Settle what depends on the day and on the folder of the call, so that the record says what was meant."""
        super().__post_init__()
        if self.datetime is None:
            object.__setattr__(self, "datetime", str(clock.now(UTC).year - 1))
        if "://" not in self.catalog:
            object.__setattr__(self, "catalog", str(Path(self.catalog).resolve()))

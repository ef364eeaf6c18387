"""Settings of `eearth rasterize`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eearth.config import Settings, setting


@dataclass(frozen=True, kw_only=True)
class RasterizeSettings(Settings):
    """Ground-truth polygons → labels on the imagery's grid, and a leak-free split."""

    stage: ClassVar[str] = "rasterize"
    labels: Path = setting(
        text="Polygons or points with a class column: GPKG, GeoJSON, Shapefile ...", argument=True, incidental=True
    )
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
    test_fraction: float = setting(0.25, most=1, text="Share of the labelled pixels to test on.")
    validation_fraction: float = setting(0.15, most=1, text="Share of the labelled pixels to validate on.")
    seed: int = setting(0, text="Seed of the split.")

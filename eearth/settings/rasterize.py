"""Settings of `eearth rasterize`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from eearth.config import Settings, setting, spelled

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, kw_only=True)
class RasterizeSettings(Settings):
    """Ground-truth polygons → labels on the imagery's grid, and a leak-free split."""

    stage: ClassVar[str] = "rasterize"
    labels: Path = setting(
        text="Polygons or points with a class column (GPKG, GeoJSON, Shapefile ...), or a GeoTIFF of class codes.",
        argument=True,
        incidental=True,
    )
    class_column: str = setting("class", text="Column with the class names.")
    skip_null: bool = setting(False, text="Leave out features without a class instead of refusing the file.")
    where: str | None = setting(
        None,
        text="Only features that meet this condition on their columns, as in SQL: \"area > 900 AND source = 'field'\".",
    )
    legend: str | None = setting(
        None,
        text="Which values mean which class: a CSV or TOML file, or worldcover, dynamic-world, corine, corine-2 or "
        "corine-1 (CORINE's levels 3, 2 and 1).",
    )
    skip_unmapped: bool = setting(
        False, text="Leave out values that the legend does not know instead of refusing the file."
    )
    start_column: str | None = setting(
        None,
        text="Column with the date from which a label is true; those that do not hold for the imagery's dates are left "
        "out.",
    )
    end_column: str | None = setting(None, text="Column with the last date on which a label is true.")
    resampling: Literal["majority", "nearest"] = setting(
        "majority",
        text="Class of a pixel from a GeoTIFF on another grid: that of most of its area, or at its centre.",
    )
    coverage: str = setting(
        "centre",
        text="Pixels that a polygon labels: centre (the pixel's centre lies inside), touched (any part of it does), or "
        "at least a share of its area, such as 0.5 or 50%.",
    )
    inner_buffer: float = setting(0.0, text="Metres taken off along each polygon's edge, where pixels are mixed.")
    overlap: Literal["last", "first", "error", "largest", "drop"] = setting(
        "last",
        text="Where labels of different classes meet: the last or first in the file counts, the one that covers the "
        "largest share of the pixel, none (drop), or stop (error).",
    )
    block_size: float | None = setting(
        None, text="Side of a split block in metres. Default: chosen from the region's size."
    )
    buffer: float | None = setting(
        None, text="Least distance in metres between pixels of different parts. Default: three pixels."
    )
    polygons: Literal["auto", "whole", "cut"] = setting(
        "auto",
        text="Features that reach over several blocks: whole (never divided), cut (at the blocks' edges), or auto "
        "(whole, unless a class would be missing from a part).",
    )
    folds: int | None = setting(
        None, least=2, most=100, text="Cross-validation: deal the labels into so many folds, and test on one of them."
    )
    fold: int = setting(1, least=1, most=100, text="With --folds, the fold to test on.")
    split_column: str | None = setting(
        None, text="Column with a split of your own: train, validation or test for each feature."
    )
    drop_near: bool = setting(
        False, text="With --split-column, drop pixels within the buffer of another part instead of refusing them."
    )
    test_fraction: float = setting(0.25, most=1, text="Share of the labelled pixels to test on.")
    validation_fraction: float = setting(0.15, most=1, text="Share of the labelled pixels to validate on.")
    seed: int = setting(0, text="Seed of the split.")

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Those of some settings that somebody chose, on the command line or elsewhere, as they are written there."""
        return [spelled(type(self), name, self.origins[name]) for name in names if name in self.origins]

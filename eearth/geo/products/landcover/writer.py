"""The rasters of a land cover map: what they are called, and what stands in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import rasterio

from eearth.geo.products.landcover.legend import write_category_names
from eearth.geo.products.landcover.prediction import OUTSIDE, WHOLE, Reason, printable, rgb
from eearth.geo.products.rasters.tiled import TiledRasters
from eearth.geo.products.rasters.unfinished import BLOCKS_AT_ONCE, Layer, overwrite, writing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from eearth.geo.grid import Grid, Window
    from eearth.geo.products.landcover.prediction import MapClass, Prediction
    from eearth.geo.products.rasters.overviews import Rule

LANDCOVER = "landcover.tif"
CONFIDENCE = "confidence.tif"
PROBABILITIES = "probabilities.tif"

# The bands of `confidence.tif` in their order: name → unit, and how overviews show it.
BANDS: dict[str, tuple[str, Rule]] = {
    "confidence": ("percent", "mean"),
    "clear observations": ("count", "mean"),
    "margin": ("percent", "mean"),
    "reason": ("", "mode"),
    "unfamiliarity": ("", "mean"),
}
REASON = list(BANDS).index("reason")

# Side of a block in pixels: 512 is the COG driver's own default; a map that fits into one such block gets smaller ones.
BLOCK = 512
SMALL_BLOCK = 256

# How hard deflate tries on percentages, whose last digits are noise: level 6 makes them 7 % smaller than level 1 and
# takes five times as long.
NOISE_LEVEL = 1


class LandCoverWriter:
    """The rasters of a map, `landcover.tif`, `confidence.tif` and perhaps `probabilities.tif`, exactly on a grid.

    `landcover.tif` holds class codes with a colour table and class names; nodata 0. `confidence.tif` holds the bands
    `BANDS`, and `probabilities.tif` one band a class, as `Prediction` describes them; nodata 255. Overviews show the
    most frequent class and reason, and the mean of everything else.

    Args:
        folder: See `TiledRasters`.
        scratch: See `TiledRasters`.
        grid: The grid of the map.
        classes: The legend.
        tags: See `TiledRasters`.
        probabilities: Whether those of all classes are kept.

    Raises:
        DiskError: The unfinished files could not be created.
        WorkspaceError: The unfinished files lie on another grid.
    """

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        grid: Grid,
        classes: Sequence[MapClass],
        tags: Mapping[str, str],
        *,
        probabilities: bool = False,
    ) -> None:
        """Continue, or begin with "outside the region" everywhere."""
        block = BLOCK if max(grid.shape) > BLOCK else SMALL_BLOCK
        layers = [_landcover_layer(classes, block), _confidence_layer(block)]
        if probabilities:
            layers.append(_probabilities_layer(classes, block))
        self._rasters = TiledRasters(folder, scratch, grid, layers, tags)
        write_category_names(self._rasters.partial(LANDCOVER), classes)

    def is_done(self, index: int) -> bool:
        """See `TiledRasters.is_done`."""
        return self._rasters.is_done(index)

    def require_room(self, pixels: int) -> None:
        """See `TiledRasters.require_room`."""
        self._rasters.require_room(pixels)

    def write(self, index: int, window: Window, prediction: Prediction) -> None:
        """Put one tile into its place; once this returns, a killed process does not lose it.

        Args:
            index: See `TiledRasters.write`.
            window: The tile's pixels.
            prediction: Their map.

        Raises:
            DiskError: The tile could not be written.
        """
        known = (
            prediction.confidence,
            prediction.observations,
            prediction.margin,
            prediction.reason,
            prediction.unfamiliarity,
        )
        values = {LANDCOVER: prediction.landcover[np.newaxis], CONFIDENCE: np.stack(known)}
        if prediction.probabilities is not None:
            values[PROBABILITIES] = prediction.probabilities
        self._rasters.write(index, window, values)

    @property
    def collected(self) -> Path:
        """The land cover of all tiles written so far, a GeoTIFF on the grid."""
        return self._rasters.partial(LANDCOVER)

    def finish(self, generalised: Path | None = None) -> tuple[Path, Path]:
        """Write the cloud-optimised files, and check them; what was collected stays, so that this can be done again.

        Args:
            generalised: A raster to show in place of the land cover collected; where it is another one, that is the
                pixel's reason.

        Returns:
            (landcover, confidence) paths.

        Raises:
            DiskError: The files could not be written.
        """
        if generalised is not None:
            self._note_changes(generalised)
        self._rasters.finish({} if generalised is None else {LANDCOVER: generalised})
        return self._rasters.folder / LANDCOVER, self._rasters.folder / CONFIDENCE

    def _note_changes(self, generalised: Path) -> None:
        """The reason of what is another land cover now, square by square."""
        known = self._rasters.partial(CONFIDENCE)
        with writing(known), rasterio.open(self.collected) as before, rasterio.open(generalised) as after:
            for window in self._rasters.grid.windows(BLOCKS_AT_ONCE * BLOCK):
                changed = before.read(1, window=window.rasterio) != after.read(1, window=window.rasterio)
                if changed.any():
                    with rasterio.open(known) as file:
                        values = file.read(window=window.rasterio)
                    values[REASON, changed] = Reason.CHANGED
                    overwrite(known, window, values)


def _landcover_layer(classes: Sequence[MapClass], block: int) -> Layer:
    return Layer(
        LANDCOVER,
        "uint8",
        nodata=0,
        descriptions=("land cover",),
        block=block,
        overviews=("mode",),
        colours={0: (0, 0, 0, 0)} | {entry.code: (*rgb(entry.colour), 255) for entry in classes},
        tags={f"CLASS_{entry.code}": printable(entry.name) for entry in classes},
    )


def _confidence_layer(block: int) -> Layer:
    units, rules = zip(*BANDS.values(), strict=True)
    return Layer(
        CONFIDENCE,
        "uint8",
        nodata=OUTSIDE,
        descriptions=tuple(BANDS),
        units=units,
        block=block,
        overviews=rules,
        predictor=True,
        level=NOISE_LEVEL,
    )


def _probabilities_layer(classes: Sequence[MapClass], block: int) -> Layer:
    return Layer(
        PROBABILITIES,
        "uint8",
        nodata=OUTSIDE,
        descriptions=tuple(printable(entry.name) for entry in classes),
        scales=(1 / WHOLE,) * len(classes),
        offsets=(0.0,) * len(classes),
        block=block,
        overviews=("mean",),
        predictor=True,
        level=NOISE_LEVEL,
    )

"""The rasters of a land cover map: what they are called, and what stands in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.geo.products.legend import write_category_names
from eearth.geo.products.prediction import OUTSIDE, printable, rgb
from eearth.geo.products.tiled import Layer, TiledRasters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from eearth.geo.grid import Grid, Window
    from eearth.geo.products.prediction import MapClass, Prediction

LANDCOVER = "landcover.tif"
CONFIDENCE = "confidence.tif"

# Side of a block in pixels: 512 is the COG driver's own default; a map that fits into one such block gets smaller ones.
BLOCK = 512
SMALL_BLOCK = 256


class LandCoverWriter:
    """The two rasters of a map, `landcover.tif` and `confidence.tif`, exactly on a grid.

    `landcover.tif` holds class codes with a colour table and class names; nodata 0. `confidence.tif` holds two bands,
    the confidence in percent and the number of clear observations, both as `Prediction` describes them; nodata 255.
    Overviews show the most frequent class, and the mean of confidence and count.

    Args:
        folder: See `TiledRasters`.
        scratch: See `TiledRasters`.
        grid: The grid of the map.
        classes: The legend.
        tags: See `TiledRasters`.

    Raises:
        DiskError: There is no room for the map.
        WorkspaceError: The unfinished files lie on another grid.
    """

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        grid: Grid,
        classes: Sequence[MapClass],
        tags: Mapping[str, str],
    ) -> None:
        """Continue, or reserve the whole map's room on the disk and fill it with "outside the region"."""
        block = BLOCK if max(grid.shape) > BLOCK else SMALL_BLOCK
        layers = (_landcover_layer(classes, block), _confidence_layer(block))
        self._rasters = TiledRasters(folder, scratch, grid, layers, tags)
        write_category_names(self._rasters.partial(LANDCOVER), classes)

    @property
    def done(self) -> int:
        """Tiles that need not be computed again: the index of the first one to write."""
        return self._rasters.done

    def write(self, index: int, window: Window, prediction: Prediction) -> None:
        """Put one tile into its place; once this returns, a killed process does not lose it.

        Args:
            index: See `TiledRasters.write`.
            window: The tile's pixels.
            prediction: Their map.

        Raises:
            DiskError: The tile could not be written.
        """
        landcover, confidence = prediction.landcover[np.newaxis], [prediction.confidence, prediction.observations]
        self._rasters.write(index, window, {LANDCOVER: landcover, CONFIDENCE: np.stack(confidence)})

    def finish(self) -> tuple[Path, Path]:
        """Write the cloud-optimised files, check them against what was collected, and remove the unfinished ones.

        Returns:
            (landcover, confidence) paths.

        Raises:
            DiskError: The files could not be written.
        """
        self._rasters.finish()
        return self._rasters.folder / LANDCOVER, self._rasters.folder / CONFIDENCE


def _landcover_layer(classes: Sequence[MapClass], block: int) -> Layer:
    return Layer(
        LANDCOVER,
        "uint8",
        nodata=0,
        descriptions=("land cover",),
        block=block,
        overviews="mode",
        colours={0: (0, 0, 0, 0)} | {entry.code: (*rgb(entry.colour), 255) for entry in classes},
        tags={f"CLASS_{entry.code}": printable(entry.name) for entry in classes},
    )


def _confidence_layer(block: int) -> Layer:
    return Layer(
        CONFIDENCE,
        "uint8",
        nodata=OUTSIDE,
        descriptions=("confidence", "clear observations"),
        units=("percent", "count"),
        block=block,
        overviews="average",
    )

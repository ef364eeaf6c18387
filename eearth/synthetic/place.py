"""Where on Earth the region lies, and how a layer of it is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer
from shapely.affinity import translate
from shapely.geometry import Polygon, box
from shapely.geometry.polygon import orient

from eearth.synthetic.climate import TEMPERATE
from eearth.synthetic.landscape import PIXEL

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

EPSG = 32633
WEST = 540_000.0  # left edge, UTM 33N
STRIDE, PLACES = 20_000.0, 10  # metres between the places of neighbouring seeds, and how many places there are
INSET = 40.0  # metres from the imagery's edge to the region of interest's
SMALL_BLOCK = 128  # pixels; COG blocks are this or twice this, so that a small image is not padded


@dataclass(frozen=True)
class Place:
    """Where on Earth the region of `size` x `size` pixels lies; that of another seed lies farther to the east.

    Attributes:
        size: Pixels of 10 m along one side.
        seed: See `eearth.synthetic.region.simulate`.
        north: UTM metres of the upper edge.
    """

    size: int
    seed: int = 0
    north: float = TEMPERATE.north

    @property
    def west(self) -> float:
        """UTM metres of the left edge, within the zone for any seed."""
        return WEST + STRIDE * (self.seed % PLACES)

    @property
    def side(self) -> float:
        """Metres along one edge."""
        return self.size * PIXEL

    def transform(self, pixel: float = PIXEL) -> Affine:
        """(column, row) of a pixel corner → UTM metres."""
        return Affine(pixel, 0, self.west, 0, -pixel, self.north)

    def utm(self, shape: Polygon) -> Polygon:
        """A shape in metres from the region's lower left corner, in UTM."""
        return translate(shape, self.west, self.north - self.side)

    def lonlat(self, shape: Polygon) -> Polygon:
        """The same shape in degrees, counterclockwise as GeoJSON wants it.

        Edges are divided, because a straight line in UTM is a curve in degrees.
        """
        project = Transformer.from_crs(EPSG, "OGC:CRS84", always_xy=True).transform
        metres = shapely.get_coordinates(self.utm(shape).segmentize(500.0))
        return orient(Polygon(np.column_stack(project(*metres.T))))

    @property
    def region(self) -> Polygon:
        """The region of interest: 40 m inside the imagery, metres from its lower left corner."""
        return box(INSET, INSET, self.side - INSET, self.side - INSET)


def write_raster(path: Path, values: NDArray[np.integer], transform: Affine) -> None:
    """Write one DEFLATE COG with nodata 0; overviews, where the image is large enough, keep classes as they are."""
    counts = values.dtype == np.uint16
    options = {
        "driver": "COG",
        "compress": "DEFLATE",
        "predictor": "YES",
        "blocksize": SMALL_BLOCK if max(values.shape) < 2 * SMALL_BLOCK else 2 * SMALL_BLOCK,
        "overview_resampling": "AVERAGE" if counts else "NEAREST",
        "num_threads": 1,
    }
    with rasterio.open(
        path,
        "w",
        width=values.shape[1],
        height=values.shape[0],
        count=1,
        dtype=values.dtype,
        crs=f"EPSG:{EPSG}",
        transform=transform,
        nodata=0,
        **options,
    ) as target:
        target.write(values, 1)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write indented JSON, making the folder if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

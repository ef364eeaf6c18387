"""A map of the small site in tiles, streamed from wherever a catalog says that its assets lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import rasterio
import torch
from shapely.geometry import box
from small_site import BANDS, COLLECTION

from eearth.geo.labels.legend import LandCoverClass
from eearth.models.files import LAND_COVER, save_land_cover
from eearth.models.registry import build_land_cover

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIDE, WINDOW = 64, 96
CLASSES = tuple(
    LandCoverClass(code, name, f"#{40 * code:02x}8040", 1, 1)
    for code, name in enumerate(("field", "forest", "water", "town"), start=1)
)
PRODUCTS = ("landcover.tif", "confidence.tif", "probabilities.tif")


def write_model(folder: Path, catalog: str, **asked: Any) -> Path:
    """A model of random weights that gives every class somewhere; its imagery was asked for at a catalog."""
    encoder = {"name": "temporal-attention-unet", "bands": BANDS, "mean": [0.2] * 3, "std": [0.1] * 3}
    shape = {"features": 8, "hidden": 8, "heads": 2, "depth": 1}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build_land_cover({"encoder": encoder | shape, "classes": [entry.code for entry in CLASSES]})
        torch.nn.init.normal_(model.head.weight, std=8)
    imagery = {"catalog": catalog, "collection": COLLECTION, "datetime": "2023", "max_cloud": 100, **asked}
    folder.mkdir(parents=True, exist_ok=True)
    save_land_cover(folder, model, imagery, [vars(entry) for entry in CLASSES])
    return folder / LAND_COVER


def write_region(path: Path, *, rows: int, cols: int) -> Path:
    """Pixels across the eastern edge of the western scenes; farther east there is only the eastern one, of one date."""
    left, top = 500_002 + 10 * 690, 4_999_998 - 10 * 100
    outline = box(left, top - 10 * rows + 4, left + 10 * cols - 4, top)
    gpd.GeoDataFrame(geometry=[outline], crs=32633).to_crs(4326).to_file(path, driver="GeoJSON")
    return path


def map_words(region: Path, model: Path, workspace: Path) -> list[str]:
    """The words of `eearth predict` of it."""
    return [
        "predict", str(region), "--model", str(model), "--tile-size", str(SIDE), "--window-size", str(WINDOW),
        "--probabilities", "-w", str(workspace),
    ]  # fmt: skip


def read_map(folder: Path) -> NDArray[np.uint8]:
    """(band, y, x): every band of every raster of a map."""
    bands = []
    for name in PRODUCTS:
        with rasterio.open(folder / name) as file:
            bands.append(file.read())
    found: NDArray[np.uint8] = np.concatenate(bands)
    return found

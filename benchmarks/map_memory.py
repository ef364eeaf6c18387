"""Peak memory of `eearth predict` over grids of 100, 10,000 and 1,000,000 km² at 10 m, straight from a catalog.

    python benchmarks/map_memory.py [--folder DIR] [--rows 100,10000,1000000]

Two dates of two bands and a classification lie in files of 100,000 x 100,000 pixels, which hold one block of noise over
and over: what is measured is what the command holds at a time. The network is as small as they get. Of the largest grid
squares in the corners and between them are mapped, of the others all; every row ends with the finished files, of which
the largest have 100,000 x 100,000 pixels.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
import torch
from pyproj import Transformer
from rasterio.transform import from_origin
from shapely.geometry import mapping
from static_collection import COLLECTION, MASK, kind_of, write_collection

from eearth.inference.memory import peak_memory
from eearth.models.files import LAND_COVER, save_land_cover
from eearth.models.registry import build_land_cover
from eearth.settings import PredictSettings
from eearth.stages.predict import predict
from eearth.workspace import Workspace

SIDE, BLOCK, PIXEL = 100_000, 512, 10
CRS, LEFT, TOP = 3035, 3_800_000, 3_500_000  # Europe: a thousand kilometres a side without leaving it
DATES = ("2024-03-05", "2024-07-20")
BANDS = ("red", "nir")
# Side in metres of what is mapped of the largest: most of four tiles.
SQUARE = 18_000
# Square kilometres of a grid → pixels along one side.
SIDES = {100: 1000, 10_000: 10_000, 1_000_000: 100_000}
TILE_OFFSETS, TILE_BYTES = 324, 325  # TIFF 6.0, section 15
SIZES = {3: "H", 4: "I"}  # of a number, by its type: TIFF 6.0, section 2


def make_file(path: Path, kind: str, seed: int) -> None:
    """A tiled GeoTIFF of which every tile is the first one."""
    rng = np.random.default_rng(seed)
    low, high = (200, 6000) if kind == "uint16" else (4, 6)
    with rasterio.open(
        path, "w", driver="GTiff", dtype=kind, count=1, height=SIDE, width=SIDE, nodata=0, crs=f"EPSG:{CRS}",
        transform=from_origin(LEFT, TOP, PIXEL, PIXEL), tiled=True, blockxsize=BLOCK, blockysize=BLOCK,
        compress="deflate", sparse_ok=True, bigtiff="no",
    ) as file:  # fmt: skip
        block = rng.integers(low, high, (BLOCK, BLOCK)).astype(kind)
        file.write(block, 1, window=rasterio.windows.Window(0, 0, BLOCK, BLOCK))
    content = bytearray(path.read_bytes())
    (place,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, place)
    for number in range(count):
        tag, kind_of, values, first = struct.unpack_from("<HHII", content, place + 2 + 12 * number)
        if tag in {TILE_OFFSETS, TILE_BYTES}:
            form = SIZES[kind_of]
            (value,) = struct.unpack_from(f"<{form}", content, first)
            struct.pack_into(f"<{values}{form}", content, first, *[value] * values)
    path.write_bytes(content)


def lonlat(left: float, bottom: float, right: float, top: float) -> Any:
    """A box in the files' CRS as a shape in longitude and latitude."""
    to_lonlat = Transformer.from_crs(CRS, 4326, always_xy=True)
    box = shapely.segmentize(shapely.box(left, bottom, right, top), 5000)
    return shapely.transform(box, lambda xy: np.column_stack(to_lonlat.transform(xy[:, 0], xy[:, 1])))


def write_catalog(folder: Path) -> Path:
    """The files and a static collection of them."""
    for number, date in enumerate(DATES):
        for position, band in enumerate((*BANDS, MASK)):
            make_file(folder / f"{date}_{band}.tif", kind_of(band), 10 * number + position)
    footprint = lonlat(LEFT, TOP - SIDE * PIXEL, LEFT + SIDE * PIXEL, TOP)
    return write_collection(folder, str(folder), footprint, DATES, BANDS)


def write_model(folder: Path, catalog: Path) -> Path:
    """A network with as little in it as possible."""
    encoder = {"name": "temporal-attention-unet", "bands": BANDS, "mean": [0.3] * 2, "std": [0.2] * 2}
    shape = {"features": 4, "hidden": 4, "heads": 2, "depth": 0}
    model = build_land_cover({"encoder": encoder | shape, "classes": [1, 2, 3]})
    torch.nn.init.normal_(model.head.weight)
    classes = [
        {"code": code, "name": f"class {code}", "colour": f"#{40 * code:02x}8040", "polygons": 1, "pixels": 1}
        for code in (1, 2, 3)
    ]
    asked = {"catalog": str(catalog), "collection": COLLECTION, "datetime": "2024", "max_cloud": 100, "grid": "native"}
    save_land_cover(folder, model, asked, classes)
    return folder / LAND_COVER


def write_region(path: Path, area: int) -> Path:
    """The whole grid; of the largest one its corners, and squares between them."""
    side = SIDES[area] * PIXEL
    left, bottom, right, top = LEFT + 4, TOP - side + 4, LEFT + side - 4, TOP - 4
    shape = lonlat(left, bottom, right, top)
    if SIDES[area] == SIDE:
        corners = [(left, top), (right - SQUARE, top), (left, bottom + SQUARE), (right - SQUARE, bottom + SQUARE)]
        inner = [(left + number * side / 5, top - number * side / 5) for number in range(1, 5)]
        shape = shapely.union_all([lonlat(x, y - SQUARE, x + SQUARE, y) for x, y in corners + inner])
    path.write_text(json.dumps(mapping(shape)))
    return path


def make(area: int, folder: Path) -> dict[str, Any]:
    """Map, in this process."""
    settings = PredictSettings(region=folder / f"region{area}.geojson", model=folder / LAND_COVER)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        workspace = Workspace(name)
        manifest = predict(workspace, settings)
        grid = manifest.records["grid"]
        written = sum(path.stat().st_blocks * 512 for path in workspace.root.rglob("*.tif"))
    shape = grid["height"], grid["width"]
    return {"shape": shape, "seconds": time.monotonic() - begun, "peak": peak_memory() / 1e6, "files": written / 1e6}


def main() -> None:
    """Run each row in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=None, help="Where to work. Default: a temporary folder.")
    parser.add_argument("--rows", default=",".join(map(str, SIDES)), help="Square kilometres, separated by commas.")
    parser.add_argument("--only", type=int, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(make(given.only, given.folder)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_model(folder, write_catalog(folder))
        print("| grid, km² | pixels | peak, MB | files, MB | s |\n|---|---|---|---|---|")
        for area in map(int, given.rows.split(",")):
            write_region(folder / f"region{area}.geojson", area)
            command = [sys.executable, __file__, "--folder", str(folder), "--only", str(area)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            row = json.loads(done.stdout.splitlines()[-1])
            rows, cols = row["shape"]
            taken = f"{row['peak']:.0f} | {row['files']:,.0f} | {row['seconds']:.0f}"
            print(f"| {area:,} | {rows:,} x {cols:,} | {taken} |", flush=True)


if __name__ == "__main__":
    main()

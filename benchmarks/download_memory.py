"""Peak memory of `eearth download` over regions of 1, 10 and 100 times the same size, from a server on the loopback.

    python benchmarks/download_memory.py [--folder DIR]

Two dates, three bands and a classification in files of 10,980 x 10,980 pixels, the size of a Sentinel-2 tile. The files
hold one block of noise over and over: what is measured is what the command holds at a time, not what is in it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
import shapely
from pyproj import Transformer
from rasterio.transform import from_origin
from shapely.geometry import box, mapping

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from loopback.nginx import serve_files
from static_collection import MASK, kind_of, write_collection

SIDE, BLOCK, PIXEL = 10980, 512, 10
LEFT, TOP = 500_000, 5_100_000
DATES = ("2024-03-05", "2024-07-20")
BANDS = ("blue", "red", "nir")
# Sides of the regions in pixels: 1, 10 and 100 times the area.
SIDES = (1000, 3162, 10000)


def make_file(path: Path, kind: str, seed: int) -> None:
    """One tiled, compressed GeoTIFF; `kind` is its number type."""
    rng = np.random.default_rng(seed)
    low, high = (200, 6000) if kind == "uint16" else (4, 6)
    block = rng.integers(low, high, (BLOCK, SIDE)).astype(kind)
    with rasterio.open(
        path, "w", driver="GTiff", dtype=kind, count=1, height=SIDE, width=SIDE, nodata=0, crs="EPSG:32633",
        transform=from_origin(LEFT, TOP, PIXEL, PIXEL), tiled=True, blockxsize=BLOCK, blockysize=BLOCK,
        compress="deflate", zlevel=1, num_threads="all_cpus",
    ) as file:  # fmt: skip
        for row in range(0, SIDE, BLOCK):
            rows = min(BLOCK, SIDE - row)
            file.write(block[:rows], 1, window=rasterio.windows.Window(0, row, SIDE, rows))


def lonlat(left: float, bottom: float, right: float, top: float) -> BaseGeometry:
    """A box in the files' CRS as a shape in longitude and latitude."""
    to_lonlat = Transformer.from_crs(32633, 4326, always_xy=True)
    shape = box(left, bottom, right, top).segmentize(10_000)
    return shapely.transform(shape, lambda xy: np.column_stack(to_lonlat.transform(xy[:, 0], xy[:, 1])))


def make_site(folder: Path) -> None:
    """The files, unless they are there."""
    for number, date in enumerate(DATES):
        for position, band in enumerate((*BANDS, MASK)):
            path = folder / f"{date}_{band}.tif"
            if not path.is_file():
                make_file(path, kind_of(band), 10 * number + position)


def run(folder: Path, catalog: Path, side: int) -> tuple[float, float, float]:
    """(peak MB, seconds, GB of the plain cube) of one download."""
    region = folder / f"region{side}.geojson"
    left, top = LEFT + 4 * PIXEL, TOP - 6 * PIXEL
    region.write_text(json.dumps(mapping(lonlat(left, top - side * PIXEL, left + side * PIXEL, top))))
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        begun = time.monotonic()
        command = [
            sys.executable, "-m", "eearth", "download", str(region), "--catalog", str(catalog), "--datetime", "2024",
            "--bands", ",".join(BANDS), "-w", workspace,
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return peak, seconds, side * side * len(DATES) * (2 * len(BANDS) + 1) / 1e9


def main() -> None:
    """Run and print a table; the peak is that of the largest download so far, which is why they rise in size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="Where to keep the files. Default: a temporary one.")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        folder = given or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make_site(folder)
        print("| region, pixels | times the area | cube, GB | peak, MB | s |\n|---|---|---|---|---|")
        with serve_files(folder) as address:
            footprint = lonlat(LEFT, TOP - SIDE * PIXEL, LEFT + SIDE * PIXEL, TOP)
            catalog = write_collection(folder, address, footprint, DATES, BANDS)
            for side in SIDES:
                peak, seconds, size = run(folder, catalog, side)
                print(f"| {side} x {side} | {(side / SIDES[0]) ** 2:.0f} | {size:.2f} | {peak:.0f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()

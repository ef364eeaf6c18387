"""Time and peak memory of `eearth rasterize` on a million polygons, beside geopandas with rasterio.

    python benchmarks/rasterize.py [--polygons N] [--side PIXELS] [--folder DIR] [--only WORD ...]

The file is made here: fields of 5 to 12 corners that cover most of the grid, some of which overlap their neighbours.
Each row is a fresh process with its imports; CPU is that of the process, peak its largest resident memory. The plain
script reads the same file, reprojects it, burns it by pixel centre and writes one raster: no check of the labels, no
list of conflicts, no features, no split. Its raster is compared with ours. exactextract answers for the share of each
pixel that a polygon covers, on a part of the file, as it takes long.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Grid
from eearth.geo.providers import COMMON_ENCODING
from eearth.settings import DownloadSettings
from eearth.workspace import Workspace

LEFT, TOP, PIXEL = 500_000, 5_100_000, 10
CLASSES = ("forest", "grassland", "maize", "rapeseed", "urban", "water", "wheat", "wetland")
PORTION = 100_000
SHARE_OF_EXACTEXTRACT = 50  # one polygon of so many

PLAIN = """
import sys
import geopandas as gpd, rasterio
from rasterio.features import rasterize
labels, like, out = sys.argv[1:]
with rasterio.open(like) as file:
    profile = file.profile
frame = gpd.read_file(labels).to_crs(profile["crs"])
codes = {name: code for code, name in enumerate(sorted(frame["class"].unique()), start=1)}
values = frame["class"].map(codes)
raster = rasterize(
    zip(frame.geometry, values), (profile["height"], profile["width"]), transform=profile["transform"], dtype="uint8"
)
with rasterio.open(out, "w", **profile | {"dtype": "uint8"}) as file:
    file.write(raster, 1)
"""

EXACT = """
import sys
import geopandas as gpd
from exactextract import exact_extract
labels, like, every = sys.argv[1:]
frame = gpd.read_file(labels, where=f"fid % {every} = 0").to_crs(gpd.read_file(labels, rows=1).crs)
exact_extract(like, frame, ["cell_id", "coverage"], output="pandas")
"""


def fields(count: int, side: int) -> np.ndarray:
    """Star-shaped polygons around the points of a shaken lattice; about one in seven overlaps a neighbour."""
    rng = np.random.default_rng(0)
    across = int(np.ceil(np.sqrt(count)))
    step = side * PIXEL / across
    number = np.arange(count)
    centres = np.stack([LEFT + step * (number % across + 0.5), TOP - step * (number // across + 0.5)], axis=1)
    centres += rng.uniform(-0.05, 0.05, (count, 2)) * step
    shapes = np.empty(count, dtype=object)
    for corners in range(5, 13):
        mine = np.flatnonzero(number % 8 == corners - 5)
        angle = 2 * np.pi * (np.arange(corners) + rng.uniform(0.2, 0.8, (mine.size, corners))) / corners
        radius = rng.uniform(0.35, 0.56, (mine.size, corners)) * step
        ring = centres[mine, None] + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
        shapes[mine] = shapely.polygons(ring)
    return shapes


def make_file(path: Path, count: int, side: int) -> None:
    """The labels as a GeoPackage, in the CRS of the imagery."""
    shapes = fields(count, side)
    classes = np.random.default_rng(1).choice(CLASSES, count)
    for first in range(0, count, PORTION):
        part = slice(first, first + PORTION)
        frame = gpd.GeoDataFrame({"class": classes[part]}, geometry=shapes[part], crs=32633)
        pyogrio.write_dataframe(frame, path, layer="labels", append=first > 0)


def make_workspace(root: Path, side: int) -> None:
    """Imagery of one date whose pixels were never written: only its grid is read."""
    grid = Grid(CRS.from_epsg(32633), Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP), side, side)
    workspace = Workspace(root)
    with workspace.stage(DownloadSettings(region=root / "r.geojson"), {}) as run:
        times = [datetime(2024, 6, 1, tzinfo=UTC)]
        Cube.create(run.folder / CUBE, grid=grid, bands=("red",), times=times, items=["one"], encoding=COMMON_ENCODING)
        run.finish(figures={}, records={"collection": "made"})


def timed(*command: object) -> tuple[float, float, float]:
    """(seconds, CPU seconds, peak MB) of a process of its own."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    complaint = process.stderr.read() if process.stderr else ""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(complaint)
    return time.monotonic() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Make the file, run every contender on it, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polygons", type=int, default=1_000_000)
    parser.add_argument("--side", type=int, default=10_000, help="Rows and columns of the grid.")
    parser.add_argument("--folder", type=Path, default=None, help="Where to keep the files. Default: a temporary one.")
    parser.add_argument("--only", nargs="+", default=[""], help="Run contenders with one of these words in their name.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        labels = folder / f"fields-{given.polygons}-{given.side}.gpkg"
        if not labels.exists():
            make_file(labels, given.polygons, given.side)
        compare(folder, labels, given.side, given.only)


def compare(folder: Path, labels: Path, side: int, only: list[str]) -> None:
    """Run the contenders and print their rows."""
    workspace = folder / f"workspace-{side}"
    if not (workspace / "imagery").exists():
        make_workspace(workspace, side)
    ours, plain = workspace / "labels" / "labels.tif", folder / "plain.tif"
    stage = ("-m", "eearth", "rasterize", labels, "-w", workspace)
    contenders = {
        "eearth rasterize, the default": stage,
        "geopandas and rasterio, labels.tif alone": ("-c", PLAIN, labels, ours, plain),
        "eearth rasterize --overlap largest": (*stage, "--overlap", "largest"),
        "eearth rasterize --coverage 0.5": (*stage, "--coverage", "0.5"),
        "eearth rasterize --inner-buffer 5": (*stage, "--inner-buffer", "5"),
        f"exactextract, every {SHARE_OF_EXACTEXTRACT}th polygon": ("-c", EXACT, labels, ours, SHARE_OF_EXACTEXTRACT),
    }
    print("| | s | CPU, s | peak, MB |\n|---|---|---|---|")
    for name, command in contenders.items():
        if any(word in name for word in only):
            if command == stage:  # or it is up to date
                shutil.rmtree(workspace / "labels", ignore_errors=True)
            print("| {} | {:.1f} | {:.1f} | {:.0f} |".format(name, *timed(*command)), flush=True)
            if command[1] == PLAIN:
                print(f"| (pixels that differ from ours) | {differing(ours, plain)} | | |")


def differing(one: Path, other: Path) -> int:
    """Pixels that two rasters do not share."""
    with rasterio.open(one) as first, rasterio.open(other) as second:
        return int((first.read(1) != second.read(1)).sum())


if __name__ == "__main__":
    main()

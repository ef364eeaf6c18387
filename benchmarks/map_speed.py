"""Speed of mapping: what blending and writing cost by themselves, and the whole against a plain loop and terratorch.

    python benchmarks/map_speed.py stitch [--side 8192] [--size 224] [--margin 16] [--terratorch WHEEL] [--profile]
    python benchmarks/map_speed.py network [--side 768] [--dates 24] [--terratorch WHEEL] [--batch-size 2]

`stitch` maps a simulated region of 10 m pixels and 12 classes with a network that does nothing: what is measured is the
blending of windows, the choice of classes, and the finished files of a map (land cover, and five bands that tell how
sure it is, with overviews). Seconds with and without turning what was collected into cloud-optimised files are told
apart. `network` maps simulated imagery with the default network, its weights random, and compares with a plain loop:
windows in a row, torch.no_grad, the inner part of each kept, written with rasterio.

With terratorch's wheel (`pip download --no-deps terratorch`), or terratorch installed, its `tiled_inference` does the
same work, its result made classes and written with rasterio. Of the wheel only that one module is used.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import pstats
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import types
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import torch
from rasterio.crs import CRS
from rasterio.transform import from_origin
from torch import nn
from torch.nn import functional as F

from eearth.data.series import Chips, Series
from eearth.data.sliding import blended
from eearth.geo.grid import Grid, Window
from eearth.geo.lattice import margin_for
from eearth.geo.products.landcover.writer import CONFIDENCE, LANDCOVER, LandCoverWriter
from eearth.inference.classify import classify
from eearth.inference.tiles import predict_tile
from eearth.inference.walk import behind
from eearth.models.device import choose_device
from eearth.models.segmentation import LandCoverModel
from eearth.settings import PredictSettings, PretrainSettings
from eearth.training.pretrain import new_encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

CLASSES = 12
PIXEL_METRES = 10
TILE = PredictSettings(region=Path()).tile_size
WINDOW = PredictSettings(region=Path()).window_size
BANDS = tuple(f"B{number:02d}" for number in range(10))
CLOUDY = 0.4
TEMPERATURE = 1.2
EEARTH, PLAIN, TERRATORCH = CONTENDERS = (
    "eearth, six bands, cloud-optimised",
    "plain loop, two bands",
    "terratorch tiled_inference, two bands",
)
PERIOD = 1024  # the simulated scores repeat after so many pixels
BLOCK = 512


@dataclass(frozen=True)
class Entry:
    """A class of the legend."""

    code: int
    name: str
    colour: str


LEGEND = tuple(Entry(code, f"class {code}", f"#{code * 20:02x}8040") for code in range(1, CLASSES + 1))


def grid_of(side: int) -> Grid:
    """A square in UTM."""
    transform = from_origin(500_000, 5_000_000, PIXEL_METRES, PIXEL_METRES)
    return Grid(CRS.from_epsg(32633), transform, side, side)


def scores(side: int, seed: int = 0) -> Tensor:
    """(class, y, x) as a network gives them: smooth patches of different sizes; repeats at its edges."""
    torch.manual_seed(seed)
    total = torch.zeros(1, CLASSES, side, side)
    for cell, height in ((32, 2.5), (8, 1.0), (2, 0.3)):
        coarse = F.pad(torch.randn(1, CLASSES, side // cell, side // cell) * height, (1, 1, 1, 1), mode="circular")
        fine = F.interpolate(coarse, scale_factor=cell, mode="bilinear")
        total += fine[..., cell:-cell, cell:-cell]
    return total[0]


class Simulated:
    """A region of any size whose imagery is the probabilities themselves; it stands for a `Series`."""

    def __init__(self, side: int, window: int) -> None:
        """Windows are views of a pattern that is repeated far enough."""
        self.shape = side, side
        self.valid = np.broadcast_to(np.ones((1, 1, 1), bool), (1, side, side))
        pattern = scores(PERIOD).softmax(dim=0)
        self._pattern = torch.cat([pattern, pattern[:, :window]], 1)
        self._pattern = torch.cat([self._pattern, self._pattern[:, :, :window]], 2)[None, None]

    def chips(self, windows: Sequence[Window], **_asked: Any) -> Chips:
        """One window: (1, 1, class, y, x)."""
        (window,) = windows
        row, col = window.row % PERIOD, window.col % PERIOD
        values = self._pattern[..., row : row + window.height, col : col + window.width]
        return Chips(values, torch.ones(1, 1, window.height, window.width, dtype=torch.bool), torch.ones(1, 1))


def identity(chips: Chips) -> Tensor:
    """A network that gives back what it gets, (chip, class, y, x)."""
    return chips.reflectance[:, 0]


def mapped(
    tile_of: Callable[..., Any], model: Any, source: Any, folder: Path, **sliding: Any
) -> tuple[float, float, float]:
    """Map all of it as `eearth predict` does.

    Args:
        tile_of: Gives the probabilities and observations of a tile: `blended`, or `predict_tile`.
        model: For it.
        source: For it.
        folder: Where to write.
        **sliding: For it.

    Returns:
        Seconds until all tiles are written, and with the finished files; seconds of all cores together.
    """
    grid = grid_of(source.shape[0])
    (folder / "scratch").mkdir(parents=True)
    begun, busy = time.perf_counter(), time.process_time()
    writer = LandCoverWriter(folder, folder / "scratch", grid, LEGEND, {})
    codes = [entry.code for entry in LEGEND]

    def finish_tile(made: tuple[int, Window, Any]) -> None:
        index, window, found = made
        inside = np.ones((window.height, window.width), bool)
        writer.write(index, window, classify(*found, inside, codes, TEMPERATURE))

    with behind(finish_tile) as put:
        for index, window in enumerate(grid.windows(TILE)):
            put((index, window, tile_of(model, source, window, device="cpu", **sliding)))
    written = time.perf_counter() - begun
    writer.finish()
    return written, time.perf_counter() - begun, time.process_time() - busy


def tiled_inference_of(wheel: Path | None) -> Callable[..., Tensor] | None:
    """The function; None, said in one line, where it is not to be had."""
    try:
        module = importlib.import_module("terratorch.tasks.tiled_inference")
    except ModuleNotFoundError:
        if wheel is None:
            print("without terratorch: it is not installed, and no --terratorch WHEEL was given")
            return None
        needed = {"tqdm": {"tqdm": lambda items, **_said: items}, "terratorch.models.utils": {"pad_images": None}}
        for name, held in needed.items():
            sys.modules.setdefault(name, types.ModuleType(name)).__dict__.update(held)
        module = types.ModuleType("tiled_inference")
        sys.modules["tiled_inference"] = module
        text = zipfile.ZipFile(wheel).read("terratorch/tasks/tiled_inference.py")
        exec(compile(text, str(wheel), "exec"), module.__dict__)  # noqa: S102 - what the user names
    return module.tiled_inference  # type: ignore[no-any-return]


def write_plainly(path: Path, probabilities: Tensor) -> None:
    """Class and confidence, deflated, as a script of a few lines does it."""
    confidence, index = probabilities.max(dim=0)
    bands = torch.stack([index + 1, (100 * confidence).round().long()]).to(torch.uint8).numpy()
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 2, "compress": "deflate", "tiled": True, "nodata": 0}
    profile |= {"blockxsize": BLOCK, "blockysize": BLOCK, "crs": "EPSG:32633"}
    height, width = index.shape
    place = from_origin(500_000, 5_000_000, PIXEL_METRES, PIXEL_METRES)
    with rasterio.open(path, "w", height=height, width=width, transform=place, **profile) as file:
        file.write(bands)


def line(name: str, seconds: float, pixels: int, more: str = "") -> float:
    """Print a row; returns square kilometres a second."""
    speed = pixels * PIXEL_METRES**2 / 1e6 / seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:58s} {seconds:8.2f} s {speed:8.1f} km²/s   peak {peak:5.0f} MB so far{more}", flush=True)
    return speed


def stitch(given: argparse.Namespace, folder: Path) -> None:
    """Blending and writing alone."""
    pixels, threads = given.side**2, torch.get_num_threads()
    source = Simulated(given.side, given.size)
    sliding = {"size": given.size, "margin": given.margin, "batch": 1}
    mapped(blended, identity, Simulated(TILE, given.size), folder / "warm", **sliding)
    torch.set_num_threads(given.threads)
    written, finished, busy = mapped(blended, identity, source, folder / "eearth", **sliding)
    line("eearth, all tiles written", written, pixels)
    line("eearth, cloud-optimised files with overviews", finished, pixels)
    print(f"  {busy:.2f} s of all cores together, which is what counts where others use them too")
    for name in (LANDCOVER, CONFIDENCE):
        print(f"  {name}: {(folder / 'eearth' / name).stat().st_size / pixels:.2f} bytes a pixel")
    shutil.rmtree(folder / "eearth")
    if not (tiled_inference := tiled_inference_of(given.terratorch)):
        return
    torch.set_num_threads(threads)
    side = min(given.side, given.most)
    whole = source._pattern[0, 0, :, :PERIOD, :PERIOD].repeat(1, side // PERIOD, side // PERIOD)  # noqa: SLF001
    begun = time.perf_counter()
    stride = given.size - 2 * given.margin
    stitched = tiled_inference(
        lambda chips: chips, whole[None], crop=given.size, stride=stride, delta=given.margin // 2
    )[0]
    line(f"terratorch tiled_inference, {side} pixels a side", time.perf_counter() - begun, side**2)
    write_plainly(folder / "terratorch.tif", stitched)
    line("  and two bands written", time.perf_counter() - begun, side**2)


def imagery(side: int, dates: int) -> Series:
    """Fields with a season of their own, under clouds."""
    random = np.random.default_rng(0)
    field = np.kron(random.integers(0, 6, (side // 16, side // 16)), np.ones((16, 16), int))
    phase = 2 * np.pi * (np.arange(dates)[:, None, None] / dates + field / 6)
    values = np.empty((dates, len(BANDS), side, side), np.uint16)
    for band in range(len(BANDS)):
        values[:, band] = (3000 + 1500 * np.cos(phase + band / 3) + random.normal(0, 100, phase.shape)).clip(1, 10_000)
    cloud = np.kron(random.random((dates, side // 32, side // 32)) < CLOUDY, np.ones((1, 32, 32), bool))
    days = np.datetime64("2024-01-05", "ns") + np.arange(dates) * np.timedelta64(365 // dates, "D")
    return Series(values, ~cloud, days, BANDS, 1e-4)


def inner_parts(side: int, size: int, margin: int) -> Iterator[tuple[int, int, int]]:
    """(first pixel of a window, first and last + 1 of those kept) along one axis."""
    step, kept = size - 2 * margin, 0
    while kept < side:
        first = min(max(0, kept - margin), side - size)
        until = side if first + size == side else min(first + margin + step, side)
        yield first, kept, until
        kept = until


def plain_loop(model: nn.Module, series: Series, path: Path, size: int, margin: int) -> Tensor:
    """Window after window, the inner part of each."""
    side = series.shape[0]
    result = torch.zeros(CLASSES, side, side)
    model.eval()
    with torch.no_grad():
        for top, row, bottom in inner_parts(side, size, margin):
            for left, col, right in inner_parts(side, size, margin):
                chips = series.chips([Window(top, left, size, size)])
                found = model(chips).softmax(dim=1)[0]
                part = found[:, row - top : bottom - top, col - left : right - left]
                result[:, row:bottom, col:right] = part
    write_plainly(path, result)
    return result


def with_terratorch(tiled_inference: Callable[..., Tensor], model: nn.Module, series: Series, **how: int) -> Tensor:
    """All imagery as one tensor (1, band + valid, time, y, x), as terratorch takes it."""
    chips = series.chips([Window(0, 0, *series.shape)])
    whole = torch.cat([chips.reflectance[0], chips.valid[0, :, None].float()], dim=1).movedim(0, 1)[None]

    def forward(given: Tensor) -> Tensor:
        moved = given.movedim(2, 1)
        days = chips.day.expand(len(given), -1)
        return model(Chips(moved[:, :, :-1], moved[:, :, -1] > 0, days)).softmax(dim=1)  # type: ignore[no-any-return]

    return tiled_inference(forward, whole, **how)[0]


def network(given: argparse.Namespace, folder: Path) -> None:
    """One contender with the default network, after a first run on little; its classes are kept beside the others'."""
    series, pixels = imagery(given.side, given.dates), given.side**2
    torch.manual_seed(0)
    model = LandCoverModel(new_encoder([series], PretrainSettings()), [entry.code for entry in LEGEND])
    nn.init.normal_(model.head.weight)
    margin = margin_for(model.margin)
    sliding = {"size": given.size, "margin": margin, "batch": given.batch_size}
    if given.only == EEARTH:
        choose_device("cpu")  # as every stage does before it works

    def run(imagery: Series, folder: Path) -> tuple[float, Tensor | NDArray[np.uint8]]:
        begun = time.perf_counter()
        if given.only == EEARTH:
            mapped(predict_tile, model, imagery, folder, **sliding)
            with rasterio.open(folder / LANDCOVER) as file:
                return time.perf_counter() - begun, file.read(1)
        folder.mkdir()
        if given.only == PLAIN:
            found = plain_loop(model, imagery, folder / "plain.tif", given.size, margin)
        else:
            how = {"crop": given.size, "stride": given.size - 2 * margin, "delta": margin // 2}
            tiled_inference = tiled_inference_of(given.terratorch)
            found = with_terratorch(tiled_inference, model, imagery, **how, batch_size=given.batch_size)
            write_plainly(folder / "terratorch.tif", found)
        return time.perf_counter() - begun, found.argmax(dim=0).numpy().astype(np.uint8) + 1

    run(imagery(given.size, given.dates), folder / "warm")
    seconds, classes = run(series, folder / "whole")
    line(given.only, seconds, pixels)
    np.save(given.folder / f"{given.only}.npy", classes)


def compare_networks(given: argparse.Namespace, folder: Path) -> None:
    """Each contender in a process of its own, for how memory is kept holds for a whole process."""
    print(f"{given.dates} dates, {torch.get_num_threads()} threads, windows of at most {given.size}")
    for only in CONTENDERS[: 3 if tiled_inference_of(given.terratorch) else 2]:
        subprocess.run([sys.executable, *sys.argv, "--only", only, "--folder", folder], check=True)
    own = np.load(folder / f"{EEARTH}.npy")
    for path in sorted(folder.glob("*.npy")):
        print(f"  {path.stem}: {(np.load(path) == own).mean():.3%} of the pixels have eearth's class")


def main() -> None:
    """Measure one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stitch", "network"))
    parser.add_argument("--side", type=int, help="pixels; 8192 or 768")
    parser.add_argument("--most", type=int, default=4096, help="pixels a side for terratorch, which holds all of it")
    parser.add_argument("--size", type=int, help="of a window; 224 or predict's own")
    parser.add_argument("--margin", type=int, default=16, help="half of the overlap, for stitch")
    parser.add_argument("--dates", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of torch, for stitch: the other core writes")
    parser.add_argument("--terratorch", type=Path, help="its wheel, where it is not installed")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    parser.add_argument("--only", choices=CONTENDERS, help="of network, this contender in this process")
    parser.add_argument("--profile", action="store_true", help="show where the main thread's time goes")
    given = parser.parse_args()
    given.side = given.side or (8192 if given.what == "stitch" else 768)
    given.size = given.size or (224 if given.what == "stitch" else WINDOW)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, cProfile.Profile() as profile:
        if not given.profile:
            profile.disable()
        if given.what == "stitch":
            stitch(given, Path(folder))
        else:
            (network if given.only else compare_networks)(given, Path(folder))
    if given.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    main()

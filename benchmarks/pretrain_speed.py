"""Speed of pre-training: eearth, and a plain PyTorch loop that samples windows from GeoTIFFs as torchgeo does.

    python benchmarks/pretrain_speed.py [--steps 40] [--side 512] [--scenes 36] [--device cpu] [--model seasonal-unet]

Both learn from the same imagery with the same views, network, loss and optimiser: the losses of both are compared, and
must agree. The plain loop reads each date of a window from that date's tiled, compressed GeoTIFF, in two workers of a
DataLoader that keep the files open; once with PyTorch's own number of threads and once with one, for the workers need
the cores too, and the faster counts. The files fit into GDAL's cache, which favours the plain loop. Only steady steps
are timed; what comes before them is printed beside. A pixel-date is one observation of one pixel in all bands, as the
network sees it.
"""

from __future__ import annotations

import argparse
import functools
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.windows import Window as RasterioWindow
from torch.utils.data import DataLoader, Dataset

from eearth.data.radiometry import Radiometry, change_radiometry
from eearth.data.series import Chips, Series
from eearth.data.views import Pairs, draw_pairs
from eearth.events import Advanced
from eearth.losses import info_nce
from eearth.settings import PretrainSettings
from eearth.training.distributed import Ranks
from eearth.training.loop import half_precision, learning_rate_factor
from eearth.training.objective import new_modules
from eearth.training.pretrain import LARGEST_EXCLUSION, Keeping, new_encoder, pretrain_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eearth.events import Event
    from eearth.geo.grid import Window

BANDS = tuple(f"B{number:02d}" for number in range(10))
SCALE = 1e-4
CLOUDY = 0.4
WARM_UP = 5
WORKERS = 2
SAME = 1e-3
TILE = 256  # of the GeoTIFFs; smaller ones make more requests of a window, larger ones decode more for nothing


def imagery(side: int, scenes: int) -> Series:
    """Fields with a season of their own, under clouds."""
    random = np.random.default_rng(0)
    field = np.kron(random.integers(0, 6, (side // 16, side // 16)), np.ones((16, 16), int))
    phase = 2 * np.pi * (np.arange(scenes)[:, None, None] / scenes + field / 6)
    values = np.empty((scenes, len(BANDS), side, side), np.uint16)
    for band in range(len(BANDS)):
        noise = random.normal(0, 100, phase.shape)
        values[:, band] = (3000 + 1500 * np.cos(phase + band / 3) + noise).clip(1, 10_000)
    cloud = np.kron(random.random((scenes, side // 32, side // 32)) < CLOUDY, np.ones((1, 32, 32), bool))
    dates = np.datetime64("2024-01-05", "ns") + np.arange(scenes) * np.timedelta64(365 // scenes, "D")
    return Series(values, ~cloud, dates, BANDS, SCALE)


def write_scenes(series: Series, folder: Path) -> list[Path]:
    """One GeoTIFF a date: its bands, then whether a pixel is clear."""
    paths = []
    for number in range(len(series.times)):
        paths.append(folder / f"{number:03d}.tif")
        profile = {"driver": "GTiff", "count": len(BANDS) + 1, "dtype": "uint16", "crs": "EPSG:32633"}
        profile |= {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "deflate", "predictor": 2}
        height, width = series.shape
        place = from_origin(500_000, 5_000_000, 10, 10)
        with rasterio.open(paths[-1], "w", height=height, width=width, transform=place, **profile) as file:
            file.write(series.reflectance[number], list(range(1, len(BANDS) + 1)))
            file.write(series.valid[number].astype(np.uint16), len(BANDS) + 1)
    return paths


@functools.lru_cache(maxsize=512)
def opened(path: Path) -> rasterio.DatasetReader:
    """A file that a worker keeps open, as torchgeo does."""
    return rasterio.open(path)


@dataclass(frozen=True)
class ScenesOnDisk(Series):
    """The same imagery, but every window is read from the files of its dates."""

    paths: tuple[Path, ...] = ()

    def chips(
        self,
        windows: Sequence[Window],
        dates: Sequence[NDArray[np.intp]] | None = None,
        bands: Sequence[str] | None = None,
    ) -> Chips:
        """One window, by one windowed read a date."""
        (window,), (chosen,) = windows, dates or ()
        place = RasterioWindow(window.col, window.row, window.width, window.height)
        raw = np.stack([opened(self.paths[date]).read(window=place) for date in chosen])
        valid = raw[:, -1] > 0
        values = raw[:, [self.bands.index(name) for name in bands or self.bands]].astype(np.float32)
        values = (values * np.float32(self.scale) + np.float32(self.offset)) * valid[:, None]
        day = torch.from_numpy(self.days[chosen])
        return Chips(torch.from_numpy(values)[None], torch.from_numpy(valid)[None], day[None])


class Batches(Dataset[Pairs]):
    """Batch number `step`, the same one that eearth makes of that step."""

    def __init__(self, series: Series, settings: PretrainSettings, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Nothing is read yet."""
        self.series, self.settings, self.mean, self.std = series, settings, mean, std

    def __len__(self) -> int:
        """Steps."""
        return self.settings.steps

    def __getitem__(self, step: int) -> Pairs:
        """Read and change."""
        s = self.settings
        random, changes = (np.random.default_rng([s.seed, stream, step]) for stream in (1, 5))
        pairs = draw_pairs(
            [self.series], random, bands=BANDS, pairs=s.batch_size, size=s.window_size, dates=s.dates, pixels=s.pixels
        )
        strength = Radiometry(gain=s.gain, offset=s.offset, noise=s.noise, drop_band=s.drop_band)
        chips = change_radiometry(pairs.chips, strength, self.mean, self.std, changes.spawn(2 * s.batch_size))
        return pairs._replace(chips=chips)


@dataclass
class Timed:
    """One contender's run."""

    losses: list[float]
    seconds: float
    wait: float
    before: float

    def line(self, name: str, observations: float) -> str:
        """For a table."""
        steps = len(self.losses) - WARM_UP
        return (
            f"{name:44s} {1e3 * self.seconds / steps:7.1f} ms/step {observations / self.seconds / 1e6:8.3f} M "
            f"pixel-dates/s   data-wait {100 * self.wait / self.seconds:5.1f} %   before {self.before:5.1f} s"
        )


def with_eearth(series: Series, settings: PretrainSettings, device: torch.device) -> Timed:
    """As the stage trains."""
    begun, moments = time.perf_counter(), []

    def report(event: Event) -> None:
        if isinstance(event, Advanced):
            moments.append(time.perf_counter())

    _, watched = pretrain_together([series], settings, Ranks(device=device), Keeping(), report=report)
    seconds = moments[-1] - moments[WARM_UP - 1]
    losses = [row["loss"] for row in watched.history]
    return Timed(losses, seconds, watched.wait.share * seconds, moments[0] - begun)


def with_a_plain_loop(series: Series, settings: PretrainSettings, device: torch.device) -> Timed:
    """DataLoader, network, loss, step."""
    begun = time.perf_counter()
    modules = new_modules(new_encoder([series], settings), settings).to(device).train()
    encoder = modules["encoder"]
    batches = Batches(series, settings, encoder.mean.cpu(), encoder.std.cpu())  # type: ignore[arg-type]
    loader = DataLoader(batches, batch_size=None, num_workers=WORKERS, pin_memory=device.type == "cuda")
    optimizer = torch.optim.AdamW(modules.parameters(), weight_decay=settings.weight_decay)
    losses: list[float] = []
    wait, source, before, started = 0.0, iter(loader), 0.0, begun
    radius = min(settings.exclusion, LARGEST_EXCLUSION * min(series.shape))
    for step in range(settings.steps):
        if step == WARM_UP:
            wait, started = 0.0, time.perf_counter()
        asked = time.perf_counter()
        pairs = Pairs(*next(source)).to(device)
        wait += time.perf_counter() - asked
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(step, settings.steps)
        with half_precision(device):
            first, second = modules["projector"](pairs.to_ground(encoder(pairs.chips)))
        loss = info_nce(first, second, pairs.place, temperature=settings.temperature, exclusion=radius)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        before = before or time.perf_counter() - begun
    return Timed(losses, time.perf_counter() - started, wait, before)


def main() -> None:
    """Run both and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--scenes", type=int, default=36)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="seasonal-unet")
    parser.add_argument("--batch-size", type=int, default=PretrainSettings().batch_size)
    given = parser.parse_args()
    device = torch.device(given.device)
    settings = PretrainSettings(
        model=given.model, batch_size=given.batch_size, steps=given.steps, probe_every=0, evening=0.0, agreement=0.0
    )
    series = imagery(given.side, given.scenes)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_scenes(series, Path(folder))
        size = sum(path.stat().st_size for path in paths)
        on_disk = ScenesOnDisk(series.reflectance, series.valid, series.times, BANDS, SCALE, paths=tuple(paths))
        batches = Batches(series, settings, torch.zeros(10, 1, 1), torch.ones(10, 1, 1))
        steady = [batches[step].chips for step in range(WARM_UP, settings.steps)]
        seen = sum(int((chips.day > 0).sum()) * chips.valid[0, 0].numel() for chips in steady)
        print(f"{given.scenes} dates of {given.side} x {given.side} pixels, {size / 1e6:.0f} MB of GeoTIFFs")
        print(f"{given.model}, {settings.batch_size} places, {torch.get_num_threads()} threads, {device}")
        own = with_eearth(series, settings, device)
        print(own.line(f"eearth {f'(GPU peak {peak(device)})' if device.type == 'cuda' else ''}", seen), flush=True)
        plain = []
        for threads in dict.fromkeys((torch.get_num_threads(), 1)):
            torch.set_num_threads(threads)
            plain.append(with_a_plain_loop(on_disk, settings, device))
            print(plain[-1].line(f"plain PyTorch, rasterio, {WORKERS} workers, threads {threads}", seen), flush=True)
    print(f"ratio {min(one.seconds for one in plain) / own.seconds:.2f}")
    apart = max(abs(one - other) for run in plain for one, other in zip(own.losses, run.losses, strict=True))
    print(f"largest difference of the losses {apart:.1e}")
    if apart > SAME and device.type == "cpu":
        message = "expected the same losses: the contenders do not do the same work"
        raise SystemExit(message)


def peak(device: torch.device) -> str:
    """Most memory that was ever in use on a GPU."""
    return f"{torch.cuda.max_memory_allocated(device) / math.pow(2, 30):.2f} GiB"


if __name__ == "__main__":
    main()

"""Scenes on disk and plans over them, small enough for a loop over their pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from scenery import make_item, noise, write_tif
from shapely.geometry import box

from eearth.geo.aoi import Region
from eearth.geo.imagery.fetch import job_of
from eearth.geo.imagery.pieces import frames
from eearth.geo.imagery.plan import Plan
from eearth.geo.imagery.scenes import Acquisition, Scene, Wanted, acquisitions, prepare_scenes
from eearth.geo.imagery.store import Store
from eearth.geo.provider_tables import GENERIC, Provider, find_provider
from eearth.geo.providers import common_encoding
from eearth.geo.stac import Found
from eearth.settings import DownloadSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pystac
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid
    from eearth.geo.imagery.pieces import Job
    from eearth.geo.providers import Source

BANDS = ("blue", "red")
CLEAR = (4, 5)
TIME = "2023-08-15T10:00:00+00:00"


def generic() -> Provider:
    return find_provider(GENERIC, "", "", {})


def wanted(bands: tuple[str, ...] = BANDS, mask_asset: str | None = None) -> Wanted:
    return Wanted(generic(), bands, mask_asset, CLEAR)


def prepared(items: Sequence[pystac.Item], grid: Grid, want: Wanted | None = None) -> list[Scene]:
    scenes, failed = prepare_scenes(items, want or wanted(), grid, longitude=15.0, workers=2)
    assert failed == {}
    return scenes


def made_item(
    folder: Path, name: str, grid: Grid, seed: int, *, tile: str = "A", time: str = TIME, holes: float = 0.3
) -> pystac.Item:
    """Noise in two bands, each with holes of its own, and a mask."""
    random = np.random.default_rng(seed)
    files = {}
    for band in BANDS:
        values = noise(grid, int(random.integers(1e6)))
        values[random.random(grid.shape) < holes] = 0
        files[band] = write_tif(folder / f"{name}-{band}.tif", values, grid)
    files["scl"] = write_tif(folder / f"{name}-scl.tif", random.integers(0, 7, grid.shape).astype(np.uint8), grid)
    return make_item(name, files, grid, time=time, properties={"platform": "x", "grid:code": tile})


def made_scene(folder: Path, name: str, grid: Grid, seed: int, *, mask: bool = True, **about: Any) -> Scene:
    item = made_item(folder, name, grid, seed, **about)
    return prepared([item], grid, wanted(mask_asset=None if mask else "none"))[0]


def plan_over(scenes: Sequence[Scene], grid: Grid, **asked: Any) -> Plan:
    """What `plan_imagery` would make of the scenes; the region is the whole grid."""
    settings = DownloadSettings(**{"region": "r.geojson", "bands": BANDS, "max_cloud": 100.0, "workers": 2, **asked})
    return Plan(
        region=Region(box(14, 45, 15, 46), "r"),
        area=box(*grid.bounds),
        grid=grid,
        provider=generic(),
        bands=BANDS,
        acquisitions=tuple(acquisitions(scenes)),
        encoding=common_encoding([source for scene in scenes for source in scene.bands]),
        found=Found((), "made up", len(scenes), {}),
        duplicates={},
        incomplete={},
        settings=settings,
    )


def whole_job(scenes: Sequence[Scene], grid: Grid, **asked: Any) -> Job:
    """One pass on all of a grid, as one piece."""
    plan = plan_over(scenes, grid, **asked)
    (group,) = plan.acquisitions
    job = job_of(group, grid.window, plan)
    assert job is not None
    return job


def looked_up(source: Source, grid: Grid) -> NDArray[Any]:
    """The file's pixel under each pixel centre of a grid in the same CRS, 0 beside the file."""
    with rasterio.open(source.href) as file:
        values, bounds, (width, height) = file.read(1), file.bounds, file.res
    rows = np.floor((bounds.top - grid.y()) / height).astype(int)[:, None]
    cols = np.floor((grid.x() - bounds.left) / width).astype(int)[None, :]
    inside = (rows >= 0) & (rows < values.shape[0]) & (cols >= 0) & (cols < values.shape[1])
    return np.where(inside, values[rows.clip(0, values.shape[0] - 1), cols.clip(0, values.shape[1] - 1)], 0)


def naive_piece(
    group: Acquisition, grid: Grid, classes: tuple[int, ...] = CLEAR
) -> tuple[NDArray[Any], NDArray[np.bool_], dict[str, tuple[int, int]]]:
    """Pixel by pixel: the first scene with all bands; without one, the first value of each band."""
    shown = [np.stack([looked_up(source, grid) for source in one.bands]) for one in group.scenes]
    masks = [
        np.full(grid.shape, classes[0]) if one.mask is None else looked_up(one.mask.source, grid)
        for one in group.scenes
    ]
    values, valid = np.zeros_like(shown[0]), np.zeros(grid.shape, dtype=bool)
    counts = {one.item.id: [0, 0] for one in group.scenes}
    for row, col in np.ndindex(grid.shape):
        pixels = [stack[:, row, col] for stack in shown]
        whole = next((number for number, pixel in enumerate(pixels) if pixel.all()), None)
        if whole is None:
            values[:, row, col] = [next((v for v in column if v), 0) for column in zip(*pixels, strict=True)]
            continue
        values[:, row, col] = pixels[whole]
        valid[row, col] = masks[whole][row, col] in classes
        counts[group.scenes[whole].item.id][0] += 1
        counts[group.scenes[whole].item.id][1] += int(valid[row, col])
    return values, valid, {name: (seen, clear) for name, (seen, clear) in counts.items()}


def unpacked(packed: bytes, job: Job, folder: Path) -> tuple[NDArray[Any], NDArray[np.bool_], dict[str, Any]]:
    """(values (band, y, x), valid (y, x), item id → pixels) of a piece, by way of the disk."""
    store = Store(folder / "unpacked")
    store.put("piece", packed)
    layers = [
        store.frame("piece", frame.row, (len(job.parts[0].bands), frame.height, frame.width), job.encoding)
        for frame in frames(job.grid.shape)
    ]
    contributed = {name: tuple(pixels) for name, pixels in store.contributed("piece").items()}
    return np.concatenate([one for one, _ in layers], axis=1), np.concatenate([one for _, one in layers]), contributed

"""A trained model and a region → the land cover map."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.features import geometry_mask

from eearth.config import provider_tables
from eearth.data.regions import asked_imagery, series_of
from eearth.errors import ModelError, UsageError
from eearth.events import Advanced, Finished, Note, Report, Started, silent
from eearth.geo.aoi import Region, parse_crs, read_region
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Grid, Window
from eearth.geo.imagery.download import write_cube
from eearth.geo.imagery.plan import plan_imagery, snapped_grid
from eearth.geo.labels import LandCoverClass
from eearth.geo.lattice import Axis, margin_for
from eearth.geo.products.item import Asset, confidence_asset, landcover_asset, write_item
from eearth.geo.products.legend import write_qml
from eearth.geo.products.preview import draw_map
from eearth.geo.products.writer import CONFIDENCE, LANDCOVER, LandCoverWriter
from eearth.geo.raster import count_values
from eearth.inference import TilePrediction, predict_tiles
from eearth.models.files import LAND_COVER, SavedModel, load_land_cover
from eearth.settings import DownloadSettings
from eearth.training.loop import choose_device
from eearth.workspace import Input, Run, Workspace, file_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from eearth.manifest import Manifest
    from eearth.models.segmentation import LandCoverModel
    from eearth.settings import PredictSettings


@dataclass(frozen=True)
class Scenery:
    """The imagery under a map.

    Attributes:
        cube: The imagery.
        grid: The map's grid, on the cube's pixel lattice.
        first: (row, column) of the map's first pixel in the cube.
        fetched: The imagery was fetched for this map, because the workspace's does not cover the region.
    """

    cube: Cube
    grid: Grid
    first: tuple[int, int]
    fetched: bool


def predict(workspace: Workspace, settings: PredictSettings, report: Report = silent) -> Manifest:
    """Map a region, into `map/`.

    Writes `landcover.tif` and `confidence.tif` (cloud-optimised GeoTIFFs), `landcover.qml`, `item.json` (STAC) and
    `preview.png`. Where the workspace's imagery does not cover the region, imagery is fetched as that was, or else as
    the model's was.

    Args:
        workspace: Where the model and the imagery are, and where to write.
        settings: What to map, and how.
        report: Receives progress.

    Raises:
        EearthError: There is no model, it cannot be read, or the imagery cannot be had.
    """
    _check_output(settings)
    region = read_region(settings.region, report)
    path = _model_path(workspace, settings)
    manifest = _run(workspace, settings, region, path, report)
    _copy_output(workspace.folder("predict"), settings, report)
    return manifest


def _run(workspace: Workspace, settings: PredictSettings, region: Region, path: Path, report: Report) -> Manifest:
    with workspace.stage(settings, _inputs(workspace, settings, path)) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('predict')} is up to date"))
            return run.finished
        model, saved = load_land_cover(path)
        Axis(1, settings.window_size, margin_for(model.margin))
        classes = tuple(LandCoverClass(**entry) for entry in saved.classes)
        scenery = _scenery(workspace, region, saved, run, report)
        tags = _provenance(saved, scenery, settings, run)
        writer = LandCoverWriter(run.folder, run.scratch, scenery.grid, classes, tags)
        for tile in _tiles(model, scenery, region, settings, writer.done, report):
            writer.write(tile.index, tile.window, tile.prediction)
        landcover, _ = writer.finish()
        write_qml(run.folder / "landcover.qml", classes)
        draw_map(run.folder / "preview.png", landcover, classes, title=f"{region.name}: land cover")
        _write_item(run.folder, region, scenery, classes)
        figures = _figures(landcover, scenery, classes)
        records = {"grid": scenery.grid.as_dict(), "provenance": tags, "items": list(scenery.cube.items)}
        return run.finish(figures=figures, records=records)


def _check_output(settings: PredictSettings) -> None:
    if settings.output is not None and settings.output.is_dir():
        msg = f"expected the name of a GeoTIFF for --output, found the folder {settings.output}"
        raise UsageError(msg)


def _model_path(workspace: Workspace, settings: PredictSettings) -> Path:
    if settings.model is not None and not settings.model.is_dir():
        return settings.model
    source = workspace if settings.model is None else Workspace(settings.model)
    source.require("finetune")
    return source.folder("finetune") / LAND_COVER


def _inputs(workspace: Workspace, settings: PredictSettings, path: Path) -> dict[str, Input]:
    inputs = {"region": file_input(settings.region)}
    if path.parent == workspace.folder("finetune"):
        inputs |= workspace.given("finetune")
    else:
        inputs["model"] = file_input(path)
    return inputs | (workspace.given("download") if workspace.folder("download").is_dir() else {})


def _scenery(workspace: Workspace, region: Region, saved: SavedModel, run: Run, report: Report) -> Scenery:
    """The workspace's imagery if it covers the region, otherwise imagery fetched for this map."""
    at_hand = None
    if workspace.folder("download").is_dir():
        at_hand = Cube.open(workspace.folder("download") / CUBE)
        grid = at_hand.grid.over(region.projected(parse_crs(at_hand.grid.crs.to_wkt())).bounds)
        offset = at_hand.grid.offset_of(grid)
        if offset is not None and _covers(at_hand.grid, grid, offset) and set(at_hand.bands) >= set(_bands(saved)):
            return Scenery(at_hand, grid, offset, fetched=False)
    request = _request(workspace, saved, run.settings)
    lattice = _grid_to_fetch(region, request, at_hand)
    plan = plan_imagery(
        region, request, folder=run.scratch, providers=provider_tables(workspace.root), grid=lattice, report=report
    )
    write_cube(plan, run.scratch / CUBE, scratch=run.scratch, report=report)
    return Scenery(Cube.open(run.scratch / CUBE), plan.grid, (0, 0), fetched=True)


def _covers(outer: Grid, inner: Grid, offset: tuple[int, int]) -> bool:
    row, col = offset
    return row >= 0 and col >= 0 and row + inner.height <= outer.height and col + inner.width <= outer.width


def _bands(saved: SavedModel) -> tuple[str, ...]:
    return tuple(saved.network["encoder"]["bands"])


def _request(workspace: Workspace, saved: SavedModel, settings: Any) -> DownloadSettings:
    """Ask as the workspace's imagery was asked for, or else as the model's was, for the bands of the model."""
    asked = asked_imagery(workspace) if workspace.folder("download").is_dir() else saved.imagery
    lists = {name: tuple(value) for name, value in asked.items() if isinstance(value, list)}
    changed = {"region": settings.region, "bands": _bands(saved), "workers": settings.workers}
    try:
        return DownloadSettings(**{**asked, **lists, **changed})
    except TypeError as error:
        msg = f"expected the model to say how its imagery was asked for, found {sorted(asked)}: fine-tune it again"
        raise ModelError(msg) from error


def _grid_to_fetch(region: Region, request: DownloadSettings, at_hand: Cube | None) -> Grid | None:
    """The lattice of the imagery at hand where that is near; otherwise what the request says."""
    if at_hand is None:
        return None
    crs = parse_crs(at_hand.grid.crs.to_wkt())
    if region.projected(crs).intersects(at_hand.grid.footprint) or crs == region.utm():
        return at_hand.grid.over(region.projected(crs).bounds)
    return snapped_grid(region, request, at_hand.grid.resolution[0]) if request.grid == "snap" else None


def _tiles(  # noqa: PLR0917 - all are needed, none twice
    model: LandCoverModel, scenery: Scenery, region: Region, settings: PredictSettings, done: int, report: Report
) -> Iterator[TilePrediction]:
    """The map, tile by tile, from the first one that is not done."""
    device = choose_device(settings.device)
    windows = list(scenery.grid.windows(settings.tile_size))
    report(Started(task="map", total=len(windows), unit="tiles", done=done))
    for tile in predict_tiles(
        model.to(device),
        series_of(scenery.cube),
        scenery.grid,
        _inside(region, scenery.grid),
        model.classes,
        tile=settings.tile_size,
        size=settings.window_size,
        margin=margin_for(model.margin),
        device=device,
        batch=settings.batch_size,
        bands=model.bands,
        origin=scenery.first,
        first=done,
    ):
        yield tile
        report(Advanced(task="map", steps=tile.index + 1 - done))
        done = tile.index + 1
    report(Finished(task="map"))


def _inside(region: Region, grid: Grid) -> Callable[[Window], NDArray[np.bool_]]:
    """Window of the map → which of its pixels the region touches; a region smaller than a pixel is that pixel."""
    shape: BaseGeometry = region.projected(parse_crs(grid.crs.to_wkt()))

    def inside(window: Window) -> NDArray[np.bool_]:
        part = grid.crop(window)
        mask: NDArray[np.bool_] = geometry_mask(
            [shape], out_shape=part.shape, transform=part.transform, all_touched=True, invert=True
        )
        return mask

    return inside


def _provenance(saved: SavedModel, scenery: Scenery, settings: PredictSettings, run: Run) -> dict[str, str]:
    model = run.inputs.get("finetune") or run.inputs["model"]
    return {
        "SOFTWARE": "eearth",
        "MODEL": model.digest,
        "ENCODER": saved.network["encoder"]["name"],
        "BANDS": ",".join(_bands(saved)),
        "COLLECTION": str(saved.imagery.get("collection") or ""),
        "IMAGERY": hashlib.sha256("\n".join(scenery.cube.items).encode()).hexdigest(),
        "ACQUISITIONS": str(len(scenery.cube.times)),
        "FIRST_ACQUISITION": str(np.datetime_as_string(scenery.cube.times[0], unit="s")),
        "LAST_ACQUISITION": str(np.datetime_as_string(scenery.cube.times[-1], unit="s")),
        "WINDOW": f"{settings.window_size}",
    }


def _write_item(folder: Path, region: Region, scenery: Scenery, classes: tuple[LandCoverClass, ...]) -> None:
    first, last = (time.astype("datetime64[s]").item() for time in scenery.cube.times[[0, -1]])
    write_item(
        folder / "item.json",
        id=f"{region.name}-landcover",
        grid=scenery.grid,
        region=region.geometry,
        start=first,
        end=last,
        assets={
            "landcover": landcover_asset(folder / LANDCOVER, scenery.grid, classes),
            "confidence": confidence_asset(folder / CONFIDENCE, scenery.grid),
            "preview": Asset(folder / "preview.png", "The map with its legend", "image/png", ("overview",)),
            "style": Asset(folder / "landcover.qml", "QGIS style", "application/xml", ("metadata",)),
        },
        properties={"title": f"Land cover of {region.name}"},
    )


def _copy_output(folder: Path, settings: PredictSettings, report: Report) -> None:
    """The map under the name that the user gave, side files beside it under the same stem."""
    if settings.output is None:
        return
    target = settings.output
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "landcover.tif", target)
    shutil.copyfile(folder / "landcover.tif.aux.xml", target.with_name(target.name + ".aux.xml"))
    shutil.copyfile(folder / "landcover.qml", target.with_suffix(".qml"))
    shutil.copyfile(folder / "confidence.tif", target.with_name(f"{target.stem}_confidence.tif"))
    report(Note(text=f"map copied to {target}"))


def _figures(landcover: Path, scenery: Scenery, classes: tuple[LandCoverClass, ...]) -> dict[str, Any]:
    counts = count_values(landcover)
    total = max(1, int(counts[1:].sum()))
    shares = {entry.name: f"{counts[entry.code] / total:.1%}" for entry in classes}
    return {
        "grid": f"{scenery.grid.height} x {scenery.grid.width}",
        "mapped pixels": int(counts[1:].sum()),
        "imagery": "fetched for this map" if scenery.fetched else "of the workspace",
        **shares,
    }

"""Workspaces with everything that a report reads, written in a moment by the writers of the real stages."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scenery import lonlat_outline
from shapely.geometry import shape

from eearth.geo.cube import CUBE, Cube
from eearth.geo.labels.legend import LandCoverClass, write_classes
from eearth.geo.products.landcover.prediction import Prediction
from eearth.geo.products.landcover.writer import LandCoverWriter
from eearth.geo.products.metadata.item import confidence_asset, landcover_asset, write_item
from eearth.geo.providers import Encoding
from eearth.metrics import accuracy, confusion_matrix
from eearth.pictures import draw_picture
from eearth.settings import (
    AssessSettings,
    DownloadSettings,
    FinetuneSettings,
    PredictSettings,
    RasterizeSettings,
)
from eearth.workspace import Input, Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eearth.config import Settings
    from eearth.geo.grid import Grid

DATES, SCALE = 5, 1e-4
REMOTE = "https://user:pass@example.org/stac?key=secret"
BANDS = ("blue", "green", "red", "nir")


def legend(names: Sequence[str]) -> tuple[LandCoverClass, ...]:
    """A class for each name, codes from 1 on, colours all different."""
    return tuple(
        LandCoverClass(code, name, f"#{(code * 83 + 40) % 256:02x}{(code * 149) % 256:02x}{code:02x}", 10 * code, code)
        for code, name in enumerate(names, start=1)
    )


def patches(shape: tuple[int, int], classes: int, side: int = 8) -> NDArray[np.uint8]:
    """Squares of classes in turn, and a corner without data."""
    rows, cols = np.indices(shape) // side
    codes = ((rows * 5 + cols * 3) % classes + 1).astype(np.uint8)
    if min(shape) > side:
        codes[: side // 2, : side // 2] = 0
    return codes


def finish(
    workspace: Workspace, settings: Settings, inputs: Mapping[str, Input], files: Mapping[str, Any], **records: Any
) -> None:
    """Run a stage that only writes files: text, JSON, or a function that is given the folder."""
    with workspace.stage(settings, inputs, again=True) as run:
        for name, content in files.items():
            if callable(content):
                content(run.folder)
            else:
                text = content if isinstance(content, str) else json.dumps(content)
                (run.folder / name).write_text(text, encoding="utf-8")
        run.finish(figures=records.pop("figures", {}), records=records)


def user_file(name: str) -> dict[str, Input]:
    return {name: Input("0" * 64, Path(f"/home/somebody/secret/{name}.gpkg"))}


def write_cube(folder: Path, grid: Grid) -> None:
    times = [datetime(2023, 3, 1, tzinfo=UTC) + timedelta(days=30 * number) for number in range(DATES)]
    cube = Cube.create(
        folder / CUBE,
        grid=grid,
        bands=BANDS,
        times=times,
        items=[f"S2_{time:%Y%m%d}" for time in times],
        encoding=Encoding("uint16", SCALE, 0.0, 0),
    )
    rng = np.random.default_rng(7)
    values = rng.integers(300, 3000, (DATES, len(BANDS), *grid.shape)).astype(np.uint16)
    values[:, :, :, : grid.width // 2] //= 3  # a dark half
    valid = rng.random((DATES, *grid.shape)) < 0.7
    valid[:, -1, -1] = False
    for window in grid.windows(cube.reflectance.chunks[-1]):
        cube.write(window, values[..., *window.slices], valid[..., *window.slices])


def write_map(
    folder: Path, grid: Grid, codes: NDArray[np.uint8], classes: Sequence[LandCoverClass], title: str
) -> None:
    (folder / "scratch").mkdir(exist_ok=True)
    writer = LandCoverWriter(folder, folder / "scratch", grid, classes, {})
    rng = np.random.default_rng(3)
    confidence = np.where(codes > 0, rng.integers(30, 101, grid.shape), 255).astype(np.uint8)
    counts = np.where(codes > 0, 5, 255).astype(np.uint8)
    reason = np.where(codes > 0, 0, 1).astype(np.uint8)
    strange = np.where(codes > 0, np.linspace(20, 254, grid.width).astype(np.uint8), 255).astype(np.uint8)
    writer.write(0, grid.window, Prediction(codes, confidence, counts, confidence, reason, strange))
    writer.finish()
    assets = {
        "landcover": landcover_asset(folder / "landcover.tif", grid, classes),
        "confidence": confidence_asset(folder / "confidence.tif", grid),
    }
    write_item(
        folder / "item.json", id="region", grid=grid, region=shape(lonlat_outline(grid)), properties={"title": title},
        start=datetime(2023, 3, 1, tzinfo=UTC), end=datetime(2023, 7, 1, tzinfo=UTC), assets=assets,
    )  # fmt: skip


def add_imagery(workspace: Workspace, grid: Grid, catalog: str = REMOTE) -> None:
    days = [f"2023-{month:02d}-01" for month in (3, 4, 5, 6, 7)]
    items = {
        "type": "FeatureCollection",
        "features": [
            {
                "id": f"S2_{day}",
                "properties": {
                    "platform": "sentinel-2a",
                    "license": "CC-BY-4.0",
                    "providers": [{"name": "Somebody <b>& sons</b>"}],
                },
            }
            for day in days
        ],
    }
    acquisitions = [
        {"items": f"S2_{day}", "time": f"{day}T10:00:00+00:00", "region_pixels": 100, "observed_pixels": 100,
         "clear_pixels": 70, "left_out": None}
        for day in days
    ]  # fmt: skip
    finish(
        workspace,
        DownloadSettings(region=Path("region.geojson"), catalog=catalog),
        user_file("region"),
        {"items.json": items, CUBE: lambda folder: write_cube(folder, grid)},
        figures={"acquisitions": DATES, "first": "2023-03-01", "last": "2023-07-01", "bands": 4},
        collection="small",
        acquisitions=acquisitions,
    )


def add_labels(workspace: Workspace, classes: Sequence[LandCoverClass], quality: Any = None) -> None:
    files: dict[str, Any] = {"classes.json": lambda folder: write_classes(folder / "classes.json", classes)}
    if quality is not None:
        files["quality.json"] = quality
        files["quality.png"] = lambda folder: draw_picture(folder / "quality.png", np.zeros((8, 8, 3), dtype=np.uint8))
    finish(
        workspace,
        RasterizeSettings(labels=Path("labels.gpkg")),
        {**user_file("labels"), **workspace.given("download")},
        files,
        figures={"block size": "200 m", "buffer": "30 m", "least distance test to training": "31.6 m"},
    )


def add_model(
    workspace: Workspace, classes: Sequence[LandCoverClass], calibration: Any = None, steps: int = 40
) -> None:
    codes = [entry.code for entry in classes]
    rng = np.random.default_rng(1)
    truth = rng.choice(codes, 4000)
    mapped = np.where(rng.random(4000) < 0.7, truth, rng.choice(codes, 4000))
    measured = accuracy(confusion_matrix(truth, mapped, codes), codes).as_dict()
    metrics = {"note": "Not a probability sample.", "classes": {e.code: e.name for e in classes}, "test": measured}
    if calibration is not None:
        metrics["calibration"] = calibration
    history = "\n".join(f"{step},{2 / (step + 2):.4f},{'' if step % 10 else step / 100}" for step in range(steps))
    finish(
        workspace,
        FinetuneSettings(),
        workspace.given("download", "rasterize"),
        {"metrics.json": metrics, "history.csv": f"step,loss,validation_miou\n{history}\n"},
    )


def add_map(
    workspace: Workspace,
    grid: Grid,
    codes: NDArray[np.uint8],
    classes: Sequence[LandCoverClass],
    *,
    confidence: bool = True,
    title: str = "Land cover of the valley",
) -> None:
    def write(folder: Path) -> None:
        write_map(folder, grid, codes, classes, title)
        if not confidence:
            (folder / "confidence.tif").unlink()

    there = [stage for stage in ("download", "finetune") if workspace.folder(stage).is_dir()]
    finish(workspace, PredictSettings(region=Path("region.geojson")), workspace.given(*there), {"map": write})


def add_assessment(workspace: Workspace, assessment: Any) -> None:
    there = [stage for stage in ("rasterize", "finetune", "predict") if workspace.folder(stage).is_dir()]
    finish(workspace, AssessSettings(), workspace.given(*there), {"assessment.json": assessment})


def between(estimate: float | None, half: float = 0.05) -> dict[str, float | None]:
    if estimate is None:
        return {"estimate": None, "low": None, "high": None}
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def example_assessment(classes: Sequence[LandCoverClass]) -> dict[str, Any]:
    """Made-up numbers in the format of `assess/assessment.json`."""
    size = len(classes)
    counts = (np.eye(size, dtype=int) * 40 + 3).tolist()
    shared = [{"code": e.code, "name": e.name, "colour": e.colour} for e in classes]
    codes = [e.code for e in classes]
    return {
        "model": {
            "kind": "test blocks",
            "note": "Not a probability sample.",
            "overall_accuracy": between(0.81),
            "mean_iou": between(0.62),
            "classes": [
                {**entry, "pixels": 43 + number, "users_accuracy": between(0.8), "producers_accuracy": between(0.7),
                 "f1": between(0.75), "iou": between(None)}
                for number, entry in enumerate(shared)
            ],
            "confusion": {"codes": codes, "counts": counts},
        },
        "map": {
            "kind": "stratified random sample",
            "note": "After Olofsson et al. (2014).",
            "points": 43 * size,
            "overall_accuracy": between(0.873),
            "classes": [
                {**entry, "points": 43, "users_accuracy": between(0.9), "producers_accuracy": between(0.85),
                 "area_km2": between(1.5 + number, 0.2), "mapped_km2": 1.4 + number}
                for number, entry in enumerate(shared)
            ],
            "confusion": {"codes": codes, "counts": counts, "proportions": []},
            "flags": ["one stratum holds a single point"],
        },
    }  # fmt: skip


def example_quality(classes: Sequence[LandCoverClass]) -> dict[str, Any]:
    """Made-up numbers in the format of `labels/quality.json`."""
    return {
        "classes": [
            {"code": e.code, "name": e.name, "colour": e.colour, "features": e.polygons, "pixels": 100, "train": 60,
             "validation": 20, "test": 20, "clear_observations": {"least": 3, "median": 9}}
            for e in classes
        ],
        "dropped": [{"reason": "smaller than a pixel", "features": 3, "pixels": 0}],
        "conflicts": {"pixels": 12, "features": 4},
        "suspects": [
            {"feature": number, "class": classes[0].name, "looks_like": classes[-1].name, "confidence": 0.93,
             "pixels": 55, "lon": 15.5, "lat": 46.6}
            for number in range(1, 26)
        ],
        "split": {"block_size_m": 200.0, "buffer_m": 30.0, "min_distance_m": 31.62, "divided_features": 0},
    }  # fmt: skip


CALIBRATION = {
    "temperature": 1.42,
    "ece_before": 0.113,
    "ece_after": 0.021,
    "bins": [
        {"low": low / 10, "high": low / 10 + 0.1, "confidence": low / 10 + 0.05, "accuracy": low / 10 + 0.03,
         "pixels": 20 * low}
        for low in range(10)
    ],
}  # fmt: skip


def whole_workspace(
    folder: Path, grid: Grid, names: Sequence[str], codes: NDArray[np.uint8] | None = None
) -> Workspace:
    """A workspace of every part."""
    workspace, classes = Workspace(folder), legend(names)
    add_imagery(workspace, grid)
    add_labels(workspace, classes, example_quality(classes))
    add_model(workspace, classes, CALIBRATION)
    add_map(workspace, grid, patches(grid.shape, len(names)) if codes is None else codes, classes)
    add_assessment(workspace, example_assessment(classes))
    return workspace

"""Pre-training, fine-tuning and prediction on a small simulated region, as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from forked import Running, eearth
from rio_cogeo import cog_validate
from shapely.geometry import Polygon, box
from stac_schemas import validate

from eearth.errors import LabelError, ModelError, WorkspaceError
from eearth.events import Event, Note, Started, Warned
from eearth.geo.cube import CUBE, Cube
from eearth.geo.products.rasters.tiled import FINISHED
from eearth.models.files import load_encoder
from eearth.settings import DownloadSettings, FinetuneSettings, PredictSettings, PretrainSettings, RasterizeSettings
from eearth.stages.download import download
from eearth.stages.finetune import finetune
from eearth.stages.predict import predict
from eearth.stages.pretrain import pretrain
from eearth.stages.rasterize import rasterize
from eearth.synthetic.region import SimulatedRegion, simulate
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.manifest import Manifest

PRETRAIN = PretrainSettings(steps=4, batch_size=4, dates=4)
FINETUNE = FinetuneSettings(steps=8, batch_size=4, dates=4, labels_per_class=5)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> SimulatedRegion:
    return simulate(tmp_path_factory.mktemp("provider"), size=96, scenes=8)


def _download(workspace: Workspace, provider: SimulatedRegion, **changes: object) -> Manifest:
    settings: dict[str, object] = {"region": provider.region, "catalog": str(provider.catalog), "datetime": "2022"}
    return download(workspace, DownloadSettings(**{**settings, "max_cloud": 100.0, **changes}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(provider: SimulatedRegion, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    _download(workspace, provider)
    rasterize(workspace, RasterizeSettings(labels=provider.labels))
    pretrain(workspace, PRETRAIN)
    finetune(workspace, FINETUNE)
    return workspace


@pytest.fixture
def workspace(trained: Workspace, tmp_path: Path) -> Workspace:
    """A copy that a test may change."""
    shutil.copytree(trained.root, tmp_path / "copy")
    return Workspace(tmp_path / "copy")


def _region(path: Path, grid_region: Path, shape: Polygon | None = None, **shift: float) -> Path:
    """A region drawn relative to another one's upper left corner, in metres."""
    frame = gpd.read_file(grid_region).to_crs(32633)
    left, _, _, top = frame.total_bounds
    shape = shape or box(
        left + shift["left"],
        top - shift["top"] - shift["height"],
        left + shift["left"] + shift["width"],
        top - shift["top"],
    )
    gpd.GeoDataFrame(geometry=[shape], crs=32633).to_file(path)
    return path


def _map(workspace: Workspace) -> np.ndarray:
    with rasterio.open(workspace.folder("predict") / "landcover.tif") as file:
        return file.read(1)


def test_the_same_seed_makes_the_same_artifacts(trained: Workspace, provider: SimulatedRegion, tmp_path: Path) -> None:
    again = Workspace(tmp_path)
    _download(again, provider)
    rasterize(again, RasterizeSettings(labels=provider.labels))
    pretrain(again, PRETRAIN)
    finetune(again, FINETUNE)
    for stage in ("download", "rasterize", "pretrain", "finetune"):
        assert again.require(stage).outputs == trained.require(stage).outputs
        assert again.require(stage).digest == trained.require(stage).digest


def test_another_seed_makes_other_weights(workspace: Workspace) -> None:
    before = workspace.require("pretrain").outputs["encoder.safetensors"]
    pretrain(workspace, PretrainSettings(steps=4, batch_size=4, dates=4, seed=1))
    assert workspace.require("pretrain").outputs["encoder.safetensors"] != before


def test_a_finished_stage_is_left_alone(workspace: Workspace) -> None:
    heard: list[Event] = []
    before = workspace.folder("pretrain").stat().st_mtime_ns
    pretrain(workspace, PRETRAIN, heard.append)
    assert workspace.folder("pretrain").stat().st_mtime_ns == before
    assert any(isinstance(event, Note) and "up to date" in event.text for event in heard)


def test_metrics_are_those_of_the_test_blocks(trained: Workspace) -> None:
    metrics = json.loads((trained.folder("finetune") / "metrics.json").read_text())
    with rasterio.open(trained.folder("rasterize") / "split.tif") as file:
        assert sum(metrics["test"]["support"]) == int((file.read(1) == 3).sum())
    assert metrics["test"]["mean_iou"] == pytest.approx(np.nanmean(metrics["test"]["iou"]), abs=1e-9)


def test_learning_works_at_all(workspace: Workspace) -> None:
    """With all labels and some steps the test blocks are mostly right: chance is 1/8."""
    done = finetune(workspace, FinetuneSettings(steps=40, encoder="none", batch_size=8, dates=8))
    assert done.figures["test overall accuracy"] > 0.4


def test_a_label_budget_ends_with_the_linear_start(workspace: Workspace) -> None:
    heard: list[Event] = []
    done = finetune(workspace, FinetuneSettings(labels_per_class=5), heard.append)
    assert done.figures["steps"] == 0
    assert done.figures["test overall accuracy"] > 0.4
    assert not any(isinstance(event, Started) for event in heard)
    rows = (workspace.folder("finetune") / "history.csv").read_text().splitlines()
    assert rows[0] == "step,start_loss"
    assert len(rows) == 2
    assert rows[1].startswith("0,")


def test_pretraining_killed_and_rerun_gives_the_same_weights(workspace: Workspace, tmp_path: Path) -> None:
    shutil.rmtree(workspace.folder("pretrain"))
    words = ["pretrain", "-w", str(workspace.root), "--steps", "12", "--batch-size", "4"]
    environment = os.environ | {"EEARTH_PRETRAIN_DATES": "4"}
    partial = workspace.partial("pretrain")
    with Running(*words, env=environment) as process:
        while not (partial / "plan.json").is_file():
            time.sleep(0.02)
        time.sleep(1.0)
        os.kill(process.pid, signal.SIGKILL)
    assert not workspace.folder("pretrain").exists()
    assert eearth(*words, env=environment).returncode == 0
    whole = tmp_path / "whole"
    shutil.copytree(workspace.folder("download"), whole / "imagery")
    shutil.copytree(workspace.folder("rasterize"), whole / "labels")
    assert eearth(*words, "-w", whole, env=environment).returncode == 0
    assert Workspace(whole).require("pretrain").outputs == workspace.require("pretrain").outputs


def test_other_imagery_joins_pretraining(workspace: Workspace, trained: Workspace) -> None:
    done = pretrain(workspace, PretrainSettings(steps=2, batch_size=4, dates=4, imagery=(trained.root,)))
    assert done.figures["regions"] == 2


def test_other_labels_join_finetuning(workspace: Workspace, trained: Workspace) -> None:
    done = finetune(workspace, FinetuneSettings(steps=2, batch_size=4, dates=4, also=(trained.root,)))
    assert done.figures["classes"] == 8
    assert "labels 2" in done.inputs


def test_one_code_for_two_classes_is_refused(workspace: Workspace, trained: Workspace, tmp_path: Path) -> None:
    shutil.copytree(trained.root, tmp_path / "other")
    legend = tmp_path / "other" / "labels" / "classes.json"
    legend.write_text(legend.read_text().replace("forest", "wood"))
    with pytest.raises(LabelError, match=r"code 2 as 'forest'.*'wood'"):
        finetune(workspace, FinetuneSettings(steps=2, also=(tmp_path / "other",)))


def test_an_encoder_of_other_bands_is_refused(workspace: Workspace, provider: SimulatedRegion, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "other")
    _download(other, provider, bands=("blue", "green", "red", "nir"))
    rasterize(other, RasterizeSettings(labels=provider.labels))
    with pytest.raises(ModelError, match="the model expects the bands"):
        finetune(other, FinetuneSettings(encoder=str(workspace.root), steps=2))


def test_without_pretraining_it_says_so(workspace: Workspace) -> None:
    shutil.rmtree(workspace.folder("pretrain"))
    heard: list[Event] = []
    done = finetune(workspace, FinetuneSettings(steps=2, batch_size=4, dates=4), heard.append)
    assert done.figures["start"] == "random weights"
    assert any(isinstance(event, Warned) and "random weights" in event.text for event in heard)


def test_new_imagery_makes_labels_stale(workspace: Workspace, provider: SimulatedRegion) -> None:
    _download(workspace, provider, datetime="2022-03/2022-10")
    with pytest.raises(WorkspaceError, match=r"labels is stale.*eearth rasterize"):
        finetune(workspace, FINETUNE)


def test_an_encoder_of_an_earlier_version_is_one_clear_line(workspace: Workspace) -> None:
    """Such a file as the first version of the default network wrote: without a revision."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = workspace.folder("pretrain") / "encoder.safetensors"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["eearth"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - the file is no mapping
    del header["revision"]
    save_file(tensors, workspace.root / "old.safetensors", metadata={"eearth": json.dumps(header)})
    done = eearth("finetune", "--encoder", str(workspace.root / "old.safetensors"), "-w", str(workspace.root))
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: expected weights of the present seasonal-unet")
    assert line.endswith(f"run `eearth pretrain -w {workspace.root}` again")
    path.write_bytes((workspace.root / "old.safetensors").read_bytes())
    pretrain(workspace, PRETRAIN)
    assert load_encoder(path).name == "seasonal-unet"


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\xff" * 4096])
def test_a_corrupt_model_is_one_clear_line(workspace: Workspace, provider: SimulatedRegion, content: bytes) -> None:
    (workspace.root / "broken.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="expected a model that eearth wrote"):
        predict(workspace, PredictSettings(region=provider.region, model=workspace.root / "broken.safetensors"))


def test_a_foreign_model_is_one_clear_line(workspace: Workspace, provider: SimulatedRegion) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, workspace.root / "foreign.safetensors")
    with pytest.raises(ModelError, match="another program"):
        predict(workspace, PredictSettings(region=provider.region, model=workspace.root / "foreign.safetensors"))


def test_an_encoder_is_no_land_cover_model(workspace: Workspace, provider: SimulatedRegion) -> None:
    encoder = workspace.folder("pretrain") / "encoder.safetensors"
    with pytest.raises(ModelError, match="eearth finetune"):
        predict(workspace, PredictSettings(region=provider.region, model=encoder))


def test_a_model_that_is_older_than_the_labels_is_told(workspace: Workspace, provider: SimulatedRegion) -> None:
    assert workspace.changed_since("finetune") == []
    rasterize(workspace, RasterizeSettings(labels=provider.labels, seed=7))
    pixel = _region(workspace.root / "pixel.gpkg", provider.region, left=303, top=303, width=2, height=2)
    heard: list[Event] = []
    predict(workspace, PredictSettings(region=pixel), heard.append)
    said = [event.text for event in heard if isinstance(event, Warned)]
    assert "the model is older than labels/: run `eearth finetune` again for one made from these" in said


def test_the_map_lies_exactly_on_the_grid(workspace: Workspace, provider: SimulatedRegion) -> None:
    predict(workspace, PredictSettings(region=provider.region))
    grid = Cube.open(workspace.folder("download") / CUBE).grid
    for name in ("landcover.tif", "confidence.tif"):
        path = workspace.folder("predict") / name
        assert cog_validate(path, strict=True, quiet=True)[0]
        with rasterio.open(path) as file:
            assert (file.height, file.width) == grid.shape
            assert file.transform == grid.transform
            assert file.crs == grid.crs
    item = json.loads((workspace.folder("predict") / "item.json").read_text(encoding="utf-8"))
    validate(item)
    assert (workspace.folder("predict") / item["links"][0]["href"]).is_file()  # the model's item
    with rasterio.open(workspace.folder("predict") / "landcover.tif") as file:
        assert file.nodata == 0
        assert file.tags()["CLASS_2"] == "forest"
        assert file.colormap(1)[2][3] == 255


def test_one_window_or_many(workspace: Workspace, provider: SimulatedRegion) -> None:
    predict(workspace, PredictSettings(region=provider.region, window_size=192))
    whole = _map(workspace)
    predict(workspace, PredictSettings(region=provider.region, window_size=44, tile_size=64))
    assert (whole != _map(workspace)).mean() <= 0.001


def test_a_part_of_the_region_has_the_classes_of_the_whole(
    workspace: Workspace, provider: SimulatedRegion, tmp_path: Path
) -> None:
    predict(workspace, PredictSettings(region=provider.region))
    whole = _map(workspace)
    part = _region(tmp_path / "part.gpkg", provider.region, left=202, top=304, width=155, height=95)
    predict(workspace, PredictSettings(region=part))
    grid = Cube.open(workspace.folder("download") / CUBE).grid
    with rasterio.open(workspace.folder("predict") / "landcover.tif") as file:
        col, row = (round(number) for number in ~grid.transform @ (file.transform.c, file.transform.f))
        inside = file.read(1)
    np.testing.assert_array_equal(inside, whole[row : row + inside.shape[0], col : col + inside.shape[1]])


def test_a_region_of_one_pixel(workspace: Workspace, provider: SimulatedRegion, tmp_path: Path) -> None:
    pixel = _region(tmp_path / "pixel.gpkg", provider.region, left=303, top=303, width=2, height=2)
    predict(workspace, PredictSettings(region=pixel))
    assert _map(workspace).shape == (1, 1)
    assert _map(workspace)[0, 0] > 0


def test_a_hole_stays_empty(workspace: Workspace, provider: SimulatedRegion, tmp_path: Path) -> None:
    frame = gpd.read_file(provider.region).to_crs(32633)
    left, bottom, right, top = frame.total_bounds
    hole = box(left + 203, top - 503, left + 498, top - 198)
    ring = Polygon(box(left, bottom, right, top).exterior, [hole.exterior])
    predict(workspace, PredictSettings(region=_region(tmp_path / "ring.gpkg", provider.region, ring)))
    grid = Cube.open(workspace.folder("download") / CUBE).grid
    within = rasterio.features.geometry_mask([hole.buffer(-15)], grid.shape, grid.transform, invert=True)
    with rasterio.open(workspace.folder("predict") / "confidence.tif") as file:
        assert (file.read(1)[within] == 255).all()
    assert (_map(workspace)[within] == 0).all()
    assert (_map(workspace) > 0).sum() > grid.window.pixels * 0.7


def test_beyond_the_imagery_it_fetches_and_leaves_the_rest_empty(
    workspace: Workspace, provider: SimulatedRegion, tmp_path: Path
) -> None:
    """The simulated imagery ends 40 m outside the region: a map that reaches farther is empty there."""
    wide = _region(tmp_path / "wide.gpkg", provider.region, left=600, top=100, width=600, height=200)
    done = predict(workspace, PredictSettings(region=wide))
    assert done.figures["imagery"] == "fetched for this map"
    mapped = _map(workspace)
    with rasterio.open(workspace.folder("predict") / "landcover.tif") as file, rasterio.open(provider.truth) as truth:
        edge = round((truth.bounds.right - file.bounds.left) / 10)
    assert (mapped[:, :edge] > 0).all()
    assert (mapped[:, edge:] == 0).all()


def test_a_model_file_alone_is_enough(workspace: Workspace, provider: SimulatedRegion, tmp_path: Path) -> None:
    """The model knows its classes, its bands and how its imagery was asked for.

    Imagery for a map is chosen by the clouds that scenes announce, a download's by those over its region: that is all
    that tells the maps apart.
    """
    predict(workspace, PredictSettings(region=provider.region))
    fresh = Workspace(tmp_path / "fresh")
    model = workspace.folder("finetune") / "model.safetensors"
    output = tmp_path / "out" / "map.tif"
    done = predict(fresh, PredictSettings(region=provider.region, model=model, output=output))
    assert done.figures["imagery"] == "fetched for this map"
    assert (_map(fresh) == _map(workspace)).mean() > 0.8
    sides = {path.name for path in output.parent.iterdir()}
    assert sides == {"map.tif", "map.tif.aux.xml", "map.qml", "map.sld", "map_confidence.tif", "map_areas.csv"}


def test_prediction_killed_and_rerun_gives_the_same_map(workspace: Workspace, provider: SimulatedRegion) -> None:
    words = ["predict", str(provider.region), "--tile-size", "64", "--window-size", "44", "--batch-size", "1"]
    assert eearth(*words, "-w", str(workspace.root)).returncode == 0
    expected = workspace.require("predict").outputs
    shutil.rmtree(workspace.folder("predict"))
    progress = workspace.partial("predict") / "scratch" / FINISHED
    with Running(*words, "-w", workspace.root) as process:
        while process.poll() is None and not progress.is_file():
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert eearth(*words, "-w", str(workspace.root)).returncode == 0
    assert workspace.require("predict").outputs == expected

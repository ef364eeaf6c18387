"""Accuracy with intervals: of a map from its labelled sample, and on the test blocks of a small simulated region."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
from forked import eearth
from scenery import utm_grid, write_tif
from sklearn import metrics as sklearn_metrics

from eearth.errors import LabelError, UsageError, WorkspaceError
from eearth.events import Event, Warned
from eearth.geo.sampling.classmap import read_map
from eearth.geo.sampling.design import Design, DesignStratum
from eearth.geo.sampling.draw import draw_pixels
from eearth.geo.sampling.files import write_sample
from eearth.manifest import file_digest
from eearth.settings import (
    AssessSettings,
    DownloadSettings,
    FinetuneSettings,
    PredictSettings,
    RasterizeSettings,
    SampleSettings,
)
from eearth.stages.assess import assess
from eearth.stages.sample import sample
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = {1: "deforestation", 2: "forest gain", 3: "stable forest", 4: "stable non-forest"}
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])


def record_of(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workspace.folder("assess") / "assessment.json").read_text())
    return found


def named_map(path: Path, values: np.ndarray) -> Path:
    write_tif(path, values, utm_grid(*values.shape, side=30))
    with rasterio.open(path, "r+") as file:
        file.update_tags(**{f"CLASS_{code}": name for code, name in NAMES.items()})
    return path


def drawn_by_hand(raster: Path, folder: Path, points: dict[int, int]) -> Design:
    """A sample with just these numbers of points, as `eearth sample` writes it."""
    source = read_map(raster)
    strata = tuple(
        DesignStratum(s.code, s.name, s.colour, s.pixels, s.area / 1e6, 0.0, None, points.get(s.code, 0), None, "")
        for s in source.strata
    )
    drawn = draw_pixels(source, points, 0)
    ids = np.arange(1, len(drawn.codes) + 1)
    design = Design(file_digest(raster), str(raster), source.grid, 0, strata, ids, drawn.codes, drawn.rows, drawn.cols)
    folder.mkdir()
    design.write(folder / "design.json", {})
    write_sample(folder / "sample.gpkg", design)
    return design


def label(path: Path, references: Any, **changes: Any) -> Path:
    """Fill in the column as an interpreter does."""
    points = pyogrio.read_dataframe(path, layer="points").assign(reference=references, **changes)
    pyogrio.write_dataframe(points, path, layer="points", driver="GPKG")
    return path


@pytest.fixture(scope="module")
def olofsson(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """The published example as files: a map of 10,000,000 pixels, and its sample with the published confusions."""
    folder = tmp_path_factory.mktemp("olofsson")
    codes = np.repeat(np.array([1, 2, 3, 4], dtype=np.uint8), [200_000, 150_000, 3_200_000, 6_450_000])
    raster = named_map(folder / "map.tif", codes.reshape(2500, 4000))
    design = drawn_by_hand(raster, folder / "sample", {1: 75, 2: 75, 3: 165, 4: 325})
    references = np.empty(640, dtype=object)
    for code, row in zip(NAMES, COUNTS, strict=True):
        references[design.codes == code] = np.repeat(list(NAMES.values()), row)
    return Workspace(folder), label(folder / "sample" / "sample.gpkg", references)


def test_the_published_example_from_file_to_file(olofsson: tuple[Workspace, Path]) -> None:
    workspace, labelled = olofsson
    words = ["assess", "--reference", str(labelled), "--interval", "wald", "-w", str(workspace.root)]
    done = eearth(*words)
    assert done.returncode == 0, done.stderr
    found = record_of(workspace)
    assert found["model"] is None
    found = found["map"]
    assert (found["kind"], found["points"]) == ("stratified random sample", 640)
    assert found["confusion"]["counts"] == COUNTS.tolist()
    assert np.sum(found["confusion"]["proportions"]) == pytest.approx(1)

    def digits(interval: dict[str, float]) -> tuple[float, float]:
        assert interval["high"] - interval["low"] == pytest.approx(2 * interval["plus_minus"])
        return round(interval["estimate"], 4), round(interval["plus_minus"], 4)

    assert digits(found["overall_accuracy"]) == (0.9465, 0.0185)
    assert [digits(entry["producers_accuracy"]) for entry in found["classes"]] == [
        (0.7487, 0.2133), (0.8472, 0.2544), (0.9345, 0.0343), (0.9616, 0.0184),
    ]  # fmt: skip
    area = found["classes"][0]["area_km2"]
    assert round(area["estimate"] / 0.0009) == 235_086
    assert round(area["plus_minus"] / 0.0009) == 68_418
    assert found["classes"][0]["mapped_km2"] == pytest.approx(180)
    rows = list(csv.DictReader((workspace.folder("assess") / "areas.csv").read_text().splitlines()))
    assert (rows[0]["class"], rows[0]["mapped_km2"]) == ("deforestation", "180")
    assert float(rows[0]["area_km2"]) == pytest.approx(235_086 * 0.0009, rel=1e-5)
    names = {path.name for path in workspace.folder("assess").iterdir()}
    assert names == {
        "assessment.json", "accuracy.csv", "areas.csv", "accuracy.png", "confusion.png", "areas.png", "manifest.json",
    }  # fmt: skip


def test_wilson_is_the_default_and_keeps_estimates_and_standard_errors(olofsson: tuple[Workspace, Path]) -> None:
    workspace, labelled = olofsson
    assess(workspace, AssessSettings(reference=labelled, interval="wald"))
    wald = record_of(workspace)["map"]["classes"]
    assess(workspace, AssessSettings(reference=labelled))
    for one, other in zip(record_of(workspace)["map"]["classes"], wald, strict=True):
        for name in ("users_accuracy", "producers_accuracy", "area_km2"):
            assert one[name]["estimate"] == other[name]["estimate"]
            assert one[name]["plus_minus"] == other[name]["plus_minus"]
            assert one[name]["low"] != other[name]["low"]
            assert one[name]["low"] >= 0
        assert one["producers_accuracy"]["high"] <= 1
    assert wald[1]["producers_accuracy"]["high"] > 1  # as published: 0.8472 + 0.2544


@pytest.fixture
def small(tmp_path: Path) -> tuple[Workspace, Path, Design]:
    """A small map and its sample, not labelled yet."""
    values = np.random.default_rng(0).choice([1, 2, 3], (200, 200), p=[0.5, 0.45, 0.05]).astype(np.uint8)
    raster = named_map(tmp_path / "map.tif", values)
    design = drawn_by_hand(raster, tmp_path / "sample", {1: 30, 2: 30, 3: 10})
    return Workspace(tmp_path), tmp_path / "sample" / "sample.gpkg", design


def flags_of(workspace: Workspace, settings: AssessSettings) -> str:
    heard: list[Event] = []
    assess(workspace, settings, heard.append)
    flags = record_of(workspace)["map"]["flags"]
    assert all(any(flag in event.text for event in heard if isinstance(event, Warned)) for flag in flags)
    return " | ".join(flags)


def test_unlabelled_points_are_flagged_with_their_number(small: tuple[Workspace, Path, Design]) -> None:
    workspace, path, design = small
    references = [str(code) for code in design.codes]  # codes do as well as names
    references[3], references[8], references[9] = "", None, "  "
    label(path, references)
    flags = flags_of(workspace, AssessSettings(reference=path))
    assert "3 of 70 points have no reference" in flags
    assert record_of(workspace)["map"]["points"] == 67
    assert record_of(workspace)["map"]["overall_accuracy"]["estimate"] == pytest.approx(1)
    assert record_of(workspace)["map"]["overall_accuracy"]["low"] < 1


def test_a_class_with_one_point_has_no_interval(small: tuple[Workspace, Path, Design]) -> None:
    workspace, path, design = small
    references = np.array([NAMES[code] for code in design.codes], dtype=object)
    references[np.flatnonzero(design.codes == 3)[1:]] = None
    label(path, references)
    assert "a single labelled point in stable forest" in flags_of(workspace, AssessSettings(reference=path))
    found = record_of(workspace)["map"]
    assert found["overall_accuracy"] == {"estimate": pytest.approx(1), "low": None, "high": None}
    assert found["classes"][2]["users_accuracy"]["low"] is None
    assert found["classes"][0]["users_accuracy"]["low"] > 0.8


def test_a_reference_class_that_the_map_lacks_is_a_column_without_a_row(small: tuple[Workspace, Path, Design]) -> None:
    workspace, path, design = small
    references = np.array([NAMES[code] for code in design.codes], dtype=object)
    references[np.flatnonzero(design.codes == 1)[:6]] = "Stable  non-forest"  # the legend's, the map has none
    references[np.flatnonzero(design.codes == 2)[:3]] = "glacier"
    label(path, references)
    flags = flags_of(workspace, AssessSettings(reference=path, extra_classes=("glacier",)))
    assert "the map does not show stable non-forest, the reference does at 6 points" in flags
    classes = {entry["name"]: entry for entry in record_of(workspace)["map"]["classes"]}
    assert classes["glacier"]["code"] == 5
    for name, stratum, share in (("stable non-forest", 1, 0.2), ("glacier", 2, 0.1)):
        mapped = next(s.area_km2 for s in design.strata if s.code == stratum)
        assert classes[name]["area_km2"]["estimate"] == pytest.approx(share * mapped)
        assert (classes[name]["mapped_km2"], classes[name]["points"]) == (0, 0)
        assert classes[name]["users_accuracy"]["estimate"] is None
        assert classes[name]["producers_accuracy"]["estimate"] == 0


def altered(path: Path, **columns: Callable[[gpd.GeoDataFrame], Any]) -> Path:
    points = pyogrio.read_dataframe(path, layer="points")
    for name, change in columns.items():
        points[name] = change(points)
    pyogrio.write_dataframe(points, path, layer="points", driver="GPKG")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": lambda p: [None] * len(p)}, "found all 70 unlabelled"),
        ({"reference": lambda p: ["forest gian", *p.reference[1:]]}, "did you mean forest gain"),
        ({"reference": lambda p: ["x\ny"] * len(p)}, "found 'x y' at 70 points"),
        ({"id": lambda p: [1, 1, *p.id[2:]]}, "found the ids 1 more than once"),
        ({"id": lambda p: p.id + 5}, r"found the ids 71, 72, 73, 74, 75, never drawn"),
        ({"id": lambda p: [None, *p.id[1:].astype(float)]}, "whole numbers in the column `id`"),
        ({"geometry": lambda p: [p.geometry[1], *p.geometry[1:]]}, r"found 1 outside their pixels \(ids 1\)"),
        ({"geometry": lambda p: p.geometry.translate(16, 0)}, "found 70 outside their pixels"),
    ],
)
def test_a_sample_that_was_damaged_is_refused(
    small: tuple[Workspace, Path, Design], changes: dict[str, Any], message: str
) -> None:
    workspace, path, design = small
    label(path, [NAMES[code] for code in design.codes])
    with pytest.raises(LabelError, match=message) as caught:
        assess(workspace, AssessSettings(reference=altered(path, **changes)))
    assert "\n" not in str(caught.value)
    assert not workspace.partial("assess").exists()


def test_points_moved_within_their_pixels_or_into_another_crs_are_the_same(
    small: tuple[Workspace, Path, Design], tmp_path: Path
) -> None:
    workspace, path, design = small
    label(path, [NAMES[code] for code in design.codes])
    points = pyogrio.read_dataframe(path, layer="points")
    points["geometry"] = points.geometry.translate(14, -14)
    points.to_crs(4326).sample(frac=1, random_state=0).to_file(tmp_path / "labelled.geojson", driver="GeoJSON")
    design_path = path.parent / "design.json"
    assess(workspace, AssessSettings(reference=tmp_path / "labelled.geojson", design=design_path))
    moved = record_of(workspace)["map"]
    table = tmp_path / "labelled.csv"
    points.drop(columns="geometry").to_csv(table, index=False)
    flags = flags_of(workspace, AssessSettings(reference=table, design=design_path))
    assert "whether points were moved could not be checked" in flags
    assert record_of(workspace)["map"]["classes"] == moved["classes"]


def test_a_class_without_a_labelled_point_is_refused(small: tuple[Workspace, Path, Design]) -> None:
    workspace, path, design = small
    label(path, [NAMES[code] if code != 3 else None for code in design.codes])
    with pytest.raises(LabelError, match=r"found none in stable forest: .*; label those that lie there$"):
        assess(workspace, AssessSettings(reference=path))


def test_the_sample_of_another_map_is_refused(small: tuple[Workspace, Path, Design], tmp_path: Path) -> None:
    workspace, path, design = small
    label(path, [NAMES[code] for code in design.codes])
    other = named_map(tmp_path / "other.tif", np.full((200, 200), 2, np.uint8))
    with pytest.raises(WorkspaceError, match="drawn from another map or an earlier version"):
        assess(workspace, AssessSettings(reference=path, map=other))
    shutil.copy(other, tmp_path / "map.tif")
    with pytest.raises(WorkspaceError, match="drawn from another map or an earlier version"):
        assess(workspace, AssessSettings(reference=path))
    (tmp_path / "map.tif").unlink()
    assert "whether it has changed since could not be checked" in flags_of(workspace, AssessSettings(reference=path))


def test_a_sample_without_its_design_is_refused(small: tuple[Workspace, Path, Design], tmp_path: Path) -> None:
    workspace, path, design = small
    lonely = tmp_path / "lonely" / "sample.gpkg"
    lonely.parent.mkdir()
    shutil.copy(label(path, [NAMES[code] for code in design.codes]), lonely)
    shutil.rmtree(workspace.folder("sample"))
    with pytest.raises(WorkspaceError, match=r"expected the design\.json of the sample"):
        assess(workspace, AssessSettings(reference=lonely))
    (lonely.parent / "design.json").write_text("{}")
    with pytest.raises(WorkspaceError, match="expected the design of a sample at"):
        assess(workspace, AssessSettings(reference=lonely))


def random_points(workspace: Workspace, count: int, seed: int = 0) -> tuple[Path, np.ndarray, np.ndarray]:
    """A user's own simple random sample of the whole map, the truth differing from the map at a tenth of the points."""
    random = np.random.default_rng(seed)
    with rasterio.open(workspace.root / "map.tif") as file:
        values, transform = file.read(1), file.transform
    rows, cols = random.integers(0, values.shape[0], count), random.integers(0, values.shape[1], count)
    mapped = values[rows, cols]
    truth = np.where(random.random(count) < 0.1, mapped % 3 + 1, mapped)
    x, y = transform @ (cols + random.random(count), rows + random.random(count))
    frame = gpd.GeoDataFrame({"seen": [NAMES[c] for c in truth]}, geometry=gpd.points_from_xy(x, y), crs=32633)
    frame.to_file(workspace.root / "own.gpkg")
    return workspace.root / "own.gpkg", mapped, truth


def test_a_users_own_simple_random_sample_is_stratified_afterwards(small: tuple[Workspace, Path, Design]) -> None:
    workspace = small[0]
    shutil.rmtree(workspace.folder("sample"))
    path, mapped, truth = random_points(workspace, 500)
    settings = {"reference": path, "reference_column": "seen", "map": workspace.root / "map.tif"}
    with pytest.raises(WorkspaceError, match="only a simple random sample of the map can be used"):
        assess(workspace, AssessSettings(**settings))
    flags = flags_of(workspace, AssessSettings(**settings, simple_random=True))
    assert "by its maker's word" in flags
    found = record_of(workspace)["map"]
    assert found["kind"].startswith("simple random sample")
    with rasterio.open(workspace.root / "map.tif") as file:
        share = np.bincount(file.read(1).ravel())[1:] / 40_000
    right = [(truth[mapped == code] == code).mean() for code in (1, 2, 3)]
    assert found["overall_accuracy"]["estimate"] == pytest.approx(share @ right)
    assert found["overall_accuracy"]["low"] < 0.9 < found["overall_accuracy"]["high"]


def test_a_random_sample_that_misses_a_class_is_not_to_be_mended_by_hand(tmp_path: Path) -> None:
    values = np.ones((200, 200), np.uint8)
    values[:100], values[0, :3] = 2, 3
    named_map(tmp_path / "map.tif", values)
    path, mapped, _ = random_points(Workspace(tmp_path), 100)
    assert 3 not in mapped
    settings = AssessSettings(reference=path, reference_column="seen", map=tmp_path / "map.tif", simple_random=True)
    with pytest.raises(LabelError, match=r"found no point at all in stable forest: .* but draw .* `eearth sample`"):
        assess(Workspace(tmp_path), settings)


def test_a_random_sample_may_hit_a_pixel_twice(tmp_path: Path) -> None:
    """Four points in three of a class's four pixels: the fourth may be anything."""
    values = np.ones((200, 200), np.uint8)
    values[:100], values[0, :4] = 2, 3
    named_map(tmp_path / "map.tif", values)
    path, mapped, _ = random_points(Workspace(tmp_path), 400)
    points = pyogrio.read_dataframe(path)
    points.loc[np.flatnonzero(mapped == 2)[:4], "geometry"] = gpd.points_from_xy(
        [500_010, 500_011, 500_040, 500_070], [4_999_990] * 4, crs=32633
    )
    points.loc[np.flatnonzero(mapped == 2)[:4], "seen"] = NAMES[3]
    points.to_file(path)
    settings = {"reference": path, "reference_column": "seen", "map": tmp_path / "map.tif", "simple_random": True}
    flags = flags_of(Workspace(tmp_path), AssessSettings(**settings))
    assert "points lie in a pixel that another point lies in, too" in flags
    small = record_of(Workspace(tmp_path))["map"]["classes"][2]
    assert (small["points"], small["users_accuracy"]["estimate"]) == (4, 1)
    assert small["users_accuracy"]["low"] < 0.9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"simple_random": True}, "expected --reference with"),
        ({"map": "m.tif"}, "expected --reference with"),
        ({"reference": "a.gpkg", "simple_random": True, "design": "d.json"}, "--simple-random or --design"),
    ],
)
def test_settings_that_contradict_each_other(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AssessSettings(**given)


def test_nothing_to_assess_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"expected a fine-tuned model in .* or a labelled sample"):
        assess(Workspace(tmp_path), AssessSettings())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """A simulated region with a model and a map, and the whole truth."""
    from eearth.stages.download import download
    from eearth.stages.finetune import finetune
    from eearth.stages.predict import predict
    from eearth.stages.rasterize import rasterize
    from eearth.synthetic.region import simulate

    provider = simulate(tmp_path_factory.mktemp("provider"), size=96, scenes=8)
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    download(
        workspace,
        DownloadSettings(region=provider.region, catalog=str(provider.catalog), datetime="2022", max_cloud=100.0),
    )
    rasterize(workspace, RasterizeSettings(labels=provider.labels))
    finetune(workspace, FinetuneSettings(steps=0, encoder="none"))
    predict(workspace, PredictSettings(region=provider.region))
    return workspace, provider.catalog.parent / "truth.tif"


@pytest.fixture
def project(trained: tuple[Workspace, Path], tmp_path: Path) -> tuple[Workspace, Path]:
    shutil.copytree(trained[0].root, tmp_path / "copy")
    return Workspace(tmp_path / "copy"), trained[1]


def test_test_blocks_have_the_metrics_of_finetune_and_intervals(project: tuple[Workspace, Path]) -> None:
    workspace, _ = project
    heard: list[Event] = []
    assess(workspace, AssessSettings(replicates=300), heard.append)
    found = record_of(workspace)
    assert found["map"] is None
    found = found["model"]
    assert found["kind"] == "test blocks"
    assert "no probability sample" in found["note"]
    metrics = json.loads((workspace.folder("finetune") / "metrics.json").read_text())["test"]
    assert found["overall_accuracy"]["estimate"] == pytest.approx(metrics["overall_accuracy"])
    assert found["mean_iou"]["estimate"] == pytest.approx(metrics["mean_iou"])
    place = {code: k for k, code in enumerate(metrics["codes"])}
    for entry in found["classes"]:
        for name in ("iou", "f1", "users_accuracy", "producers_accuracy"):
            expected = metrics[name][place[entry["code"]]]
            assert entry[name]["estimate"] == (expected if expected is None else pytest.approx(expected))
    assert found["overall_accuracy"]["low"] < found["overall_accuracy"]["estimate"] < found["overall_accuracy"]["high"]
    outlines = gpd.read_file(workspace.folder("rasterize") / "split.geojson")
    assert 2 <= found["groups"] <= (outlines["part"] == "test").sum()
    assert not any("no blocks" in flag for flag in found["flags"])
    first = (workspace.folder("assess") / "assessment.json").read_bytes()
    shutil.rmtree(workspace.folder("assess"))
    assess(workspace, AssessSettings(replicates=300))
    assert (workspace.folder("assess") / "assessment.json").read_bytes() == first


def test_the_map_on_the_test_blocks_equals_scikit_learn(project: tuple[Workspace, Path]) -> None:
    workspace, _ = project
    assess(workspace, AssessSettings(predictions="map", replicates=100))
    found = record_of(workspace)["model"]
    with (
        rasterio.open(workspace.folder("rasterize") / "labels.tif") as labels,
        rasterio.open(workspace.folder("rasterize") / "split.tif") as split,
        rasterio.open(workspace.folder("predict") / "landcover.tif") as landcover,
    ):
        held = split.read(1) == 3
        truth, places = labels.read(1)[held], np.argwhere(held) + 0.5
        xy = np.stack(labels.transform @ (places[:, 1], places[:, 0]), axis=1)
        mapped = np.array([value[0] for value in landcover.sample(xy)])  # 0 beside the map
    assert found["overall_accuracy"]["estimate"] == pytest.approx(sklearn_metrics.accuracy_score(truth, mapped))
    assert found["mean_iou"]["estimate"] == pytest.approx(
        sklearn_metrics.jaccard_score(truth, mapped, labels=np.unique(truth), average="macro", zero_division=0)
    )


def test_a_model_of_other_labels_is_refused(project: tuple[Workspace, Path]) -> None:
    """Blocks that are tested on now may have been trained on then."""
    from eearth.stages.rasterize import rasterize

    workspace, truth = project
    rasterize(workspace, RasterizeSettings(labels=truth.parent / "labels.gpkg", seed=7))
    with pytest.raises(WorkspaceError, match="is stale: labels/ has changed since it was made; run `eearth finetune`"):
        assess(workspace, AssessSettings())


def test_points_in_training_labels_are_flagged_and_estimates_given_without(project: tuple[Workspace, Path]) -> None:
    workspace, truth = project
    sample(workspace, SampleSettings(size=300, minimum=20))
    design = Design.read(workspace.folder("sample") / "design.json")
    path = workspace.root / "labelled.gpkg"
    shutil.copy(workspace.folder("sample") / "sample.gpkg", path)
    with rasterio.open(truth) as file:
        codes = [int(value[0]) for value in file.sample(np.stack(design.centres(), axis=1))]
    label(path, [str(code) if code else None for code in codes])
    flags = flags_of(workspace, AssessSettings(reference=path, replicates=100))
    assert "lie in or beside labels that the model learnt from" in flags
    assert "see the overall accuracy away from training labels" in flags
    found = record_of(workspace)
    away = found["map"]["overall_accuracy_away_from_training"]
    with rasterio.open(workspace.folder("rasterize") / "split.tif") as file:
        split = file.read(1)
        rows, cols = rasterio.transform.rowcol(file.transform, *design.centres())
    learnt = np.isin(np.pad(split, 40), (1, 2))
    quality = workspace.folder("rasterize") / "quality.json"
    reach = json.loads(quality.read_text())["split"]["buffer_m"] / 10 if quality.is_file() else 3
    places = np.argwhere(learnt) - 40
    near = [np.hypot(*(places - (row, col)).T).min() <= reach * (1 + 1e-9) for row, col in zip(rows, cols, strict=True)]
    labelled = np.array(codes) > 0
    assert away["points"] == int((labelled & ~np.array(near)).sum())
    assert 0 <= away["low"] <= away["estimate"] <= away["high"] <= 1
    assert found["model"] is not None
    assert {"blocks_accuracy.png", "blocks_confusion.png", "accuracy.png", "areas.png"} <= {
        path.name for path in workspace.folder("assess").iterdir()
    }


def test_polygons_of_the_training_labels_are_no_simple_random_sample(project: tuple[Workspace, Path]) -> None:
    workspace, _ = project
    with rasterio.open(workspace.folder("rasterize") / "split.tif") as file:
        rows, cols = np.nonzero(file.read(1) == 1)
        x, y = file.transform @ (cols[::7] + 0.5, rows[::7] + 0.5)
    with rasterio.open(workspace.folder("rasterize") / "labels.tif") as file:
        codes = file.read(1)[rows[::7], cols[::7]]
    path = workspace.root / "leak.gpkg"
    gpd.GeoDataFrame({"reference": codes}, geometry=gpd.points_from_xy(x, y), crs=32633).to_file(path)
    with pytest.raises(LabelError, match=r"found \d+ of \d+ points on labels that the model learnt from"):
        assess(workspace, AssessSettings(reference=path, simple_random=True))

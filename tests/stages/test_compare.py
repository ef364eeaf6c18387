"""The comparison on a small simulated region, as a user runs it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from eearth import classifiers
from eearth.comparison.contenders import Contender, Pretrained, Task
from eearth.comparison.experiment import Experiment
from eearth.comparison.plan import Plan, Source
from eearth.config import resolve
from eearth.data.chips import choose_labels, choose_together
from eearth.data.regions import open_labelled
from eearth.errors import LabelError, ModelError, UsageError, WorkspaceError
from eearth.events import Event, Note, Started, Table
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Window
from eearth.geo.splits.split import split_blocks
from eearth.models.files import ENCODER, LAND_COVER, load_encoder, load_land_cover
from eearth.settings import CompareSettings, DownloadSettings, FinetuneSettings, PretrainSettings, RasterizeSettings
from eearth.stages.compare import compare
from eearth.stages.download import download
from eearth.stages.finetune import finetune as finetune_stage
from eearth.stages.pretrain import pretrain
from eearth.stages.rasterize import rasterize
from eearth.synthetic.region import SimulatedRegion, simulate
from eearth.training.finetune import finetune
from eearth.training.pretrain import untrained
from eearth.workspace import Workspace

PRETRAIN = PretrainSettings(steps=2, batch_size=2, dates=4, features=16)
COMPARE = CompareSettings(budgets=("2", "all"), seeds=2, steps=2, rates=(1e-3,), workers=1)
# Without the forest, whose 500 trees take longer than all else.
NETWORKS = replace(COMPARE, contenders=("pretrained", "scratch", "probe"))
FLAGS = ("--budgets", "2,all", "--seeds", "2", "--steps", "2", "--rates", "0.001")
SPLIT = {"block_size": 200.0, "buffer": 20.0, "test_fraction": 0.3, "validation_fraction": 0.2}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> SimulatedRegion:
    return simulate(tmp_path_factory.mktemp("provider"), size=96, scenes=6)


@pytest.fixture(scope="module")
def prepared(provider: SimulatedRegion, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("prepared"))
    imagery = {"datetime": "2022", "bands": ("red", "nir", "swir16"), "max_cloud": 100.0}
    download(workspace, DownloadSettings(region=provider.region, catalog=str(provider.catalog), **imagery))  # type: ignore[arg-type]
    rasterize(workspace, RasterizeSettings(labels=provider.labels, polygons="cut", **SPLIT))
    pretrain(workspace, PRETRAIN)
    return workspace


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Another region with labels."""
    provider = simulate(tmp_path_factory.mktemp("provider"), size=96, scenes=6, seed=1)
    workspace = Workspace(tmp_path_factory.mktemp("neighbour"))
    imagery = {"datetime": "2022", "bands": ("nir", "red", "swir16"), "max_cloud": 100.0}
    download(workspace, DownloadSettings(region=provider.region, catalog=str(provider.catalog), **imagery))  # type: ignore[arg-type]
    rasterize(workspace, RasterizeSettings(labels=provider.labels, **SPLIT))
    return workspace


@pytest.fixture
def workspace(prepared: Workspace, tmp_path: Path) -> Workspace:
    """A copy that a test may change."""
    shutil.copytree(prepared.root, tmp_path / "copy")
    return Workspace(tmp_path / "copy")


@pytest.fixture(scope="module")
def compared(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[Event]]:
    root = tmp_path_factory.mktemp("compared") / "copy"
    shutil.copytree(prepared.root, root)
    heard: list[Event] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifiers, "TREES", 20)
        compare(Workspace(root), COMPARE, heard.append)
    return Workspace(root), heard


def runs_of(workspace: Workspace) -> list[dict[str, str]]:
    with (workspace.folder("compare") / "runs.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_contender_meets_the_same_split_and_pixels(compared: tuple[Workspace, list[Event]]) -> None:
    rows = runs_of(compared[0])
    names = ["pre-trained, rate 0.001", "scratch, rate 0.001", "frozen probe", "random forest"]
    assert [(r["budget"], r["seed"], r["contender"]) for r in rows] == [
        (budget, seed, name) for budget in ("2", "all") for seed in ("0", "1") for name in names
    ]
    facts = ("train_pixels", "test_pixels", "test_classes", "labels", "classes")
    for budget in ("2", "all"):
        found = [tuple(r[fact] for fact in facts) for r in rows if r["budget"] == budget]
        assert len(set(found[:4])) == len(set(found[4:])) == 1
        assert found[0] != found[4]
    assert all(0 < float(r["miou"]) < 1 for r in rows)


def test_the_seed_of_the_labels_gives_the_split_of_the_labels(compared: tuple[Workspace, list[Event]]) -> None:
    """With the settings that the labels were split with, and their seed, it is the split on the disk, features cut."""
    figures = compared[0].require("rasterize").figures
    first = runs_of(compared[0])[0]
    assert (int(first["train_pixels"]), int(first["test_pixels"])) == (
        figures["train pixels"],
        figures["test pixels"],
    )


def test_the_sentence_and_the_tables_are_reported_and_written(compared: tuple[Workspace, list[Event]]) -> None:
    workspace, heard = compared
    folder = workspace.folder("compare")
    assert {path.name for path in folder.iterdir()} == {
        "runs.csv", "table.csv", "table.md", "figure.png", "conclusion.txt", "manifest.json",
    }  # fmt: skip
    sentence = (folder / "conclusion.txt").read_text().strip()
    assert isinstance(heard[-1], Note)
    assert heard[-1].text == sentence
    assert sum(isinstance(event, Table) for event in heard) == 2
    assert (folder / "table.md").read_text().endswith(sentence + "\n")
    assert {"download", "rasterize", "pretrain"} == {
        {"imagery": "download", "labels": "rasterize"}.get(name, name) for name in workspace.require("compare").inputs
    }


def test_a_finished_comparison_is_left_alone(compared: tuple[Workspace, list[Event]]) -> None:
    heard: list[Event] = []
    compare(compared[0], replace(COMPARE, workers=7), heard.append)
    assert [event.text for event in heard if isinstance(event, Note)] == [
        f"{compared[0].folder('compare')} is up to date"
    ]


def test_killed_and_resumed_with_other_workers_it_writes_the_same(
    prepared: Workspace, workspace: Workspace, tmp_path: Path
) -> None:
    straight = Workspace(shutil.copytree(prepared.root, tmp_path / "straight"))
    compare(straight, NETWORKS)
    flags = (*FLAGS, "--contenders", "pretrained,scratch,probe", "--workers", "2")
    words = [sys.executable, "-m", "eearth", "compare", *flags, "-w", str(workspace.root)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ledger = workspace.partial("compare") / "scratch" / "runs.jsonl"
    while process.poll() is None and not ledger.is_file():
        time.sleep(0.01)
    workers = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = ledger.read_bytes()
    assert 0 < kept.count(b"\n") < 12
    assert len(workers) >= 2
    wait_for_the_end_of(workers)
    ledger.write_bytes(kept + b'{"task": {"contend')
    heard: list[Event] = []
    compare(workspace, NETWORKS, heard.append)
    assert any(isinstance(event, Started) and 0 < event.done < event.total == 12 for event in heard)
    assert workspace.require("compare").outputs == straight.require("compare").outputs
    assert workspace.require("compare").digest == straight.require("compare").digest


def test_a_finished_comparison_is_built_on(compared: tuple[Workspace, list[Event]], tmp_path: Path) -> None:
    workspace = Workspace(shutil.copytree(compared[0].root, tmp_path / "copy"))
    heard: list[Event] = []
    before = runs_of(workspace)
    compare(workspace, replace(COMPARE, seeds=3, budgets=("2",), contenders=("pretrained", "scratch")), heard.append)
    assert [(event.total, event.done) for event in heard if isinstance(event, Started)] == [(6, 4)]
    after = runs_of(workspace)
    assert [row for row in after if row["seed"] != "2"] == [
        row for row in before if row["budget"] == "2" and row["contender"].startswith(("pre", "scratch"))
    ]
    runs = workspace.folder("compare") / "runs.csv"
    runs.write_text(runs.read_text().replace(",0.", ",0.9", 1))  # by hand
    compare(workspace, replace(COMPARE, seeds=1, budgets=("2",), contenders=("pretrained",)), heard.append)
    assert [(event.total, event.done) for event in heard if isinstance(event, Started)][1:] == [(1, 0)]


def children_of(parent: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def wait_for_the_end_of(processes: list[int]) -> None:
    """A worker whose parent was killed ends by itself, at the latest after its run."""
    until = time.monotonic() + 20
    while any(running(process) for process in processes):
        assert time.monotonic() < until, "a worker outlives its parent"
        time.sleep(0.05)


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def plan_of(workspaces: list[Workspace], contender: Contender, kept: Path, **network: Any) -> Plan:
    sources = tuple(Source(workspace.root, dict(SPLIT)) for workspace in workspaces)
    return Plan(sources, (contender,), network, FinetuneSettings(), "cpu", kept)


def test_a_forests_figure_is_scikit_learns(
    prepared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifiers, "TREES", 20)
    experiment = Experiment(plan_of([prepared], Contender("forest"), tmp_path))
    region = experiment.regions(3)[0]
    hidden = choose_labels(region.labels, np.where(region.split == 3, 1, 0), 4, 0)  # test pixels
    hidden |= choose_labels(region.labels, region.split, 1, 3)  # and some to learn from
    np.asarray(experiment.series[0].valid)[:, hidden] = False
    experiment.prepare(None)
    found = experiment.run([Task("random forest", "5", 3)])[0]
    grid = Cube.open(prepared.folder("download") / CUBE).grid
    np.testing.assert_array_equal(region.split, split_blocks(region.labels, grid, seed=3, **SPLIT).part)
    assert (region.split != experiment.regions(0)[0].split).any()
    chosen = choose_labels(region.labels, region.split, 5, 3)
    values, valid = region.series.read(Window(0, 0, *region.series.shape), region.series.bands)
    held = (region.split == 3) & (region.labels > 0)
    learnt = chosen & valid.any(axis=0)
    assert 0 < learnt.sum() < chosen.sum()
    model = classifiers.forest(naive_medians(values, valid, region.series.times, learnt), region.labels[learnt], 3)
    mapped = model(naive_medians(values, valid, region.series.times, held))
    mapped[~valid.any(axis=0)[held]] = 0
    truth = region.labels[held]
    score = jaccard_score(truth, mapped, labels=np.unique(truth), average="macro", zero_division=0)
    assert found.miou == pytest.approx(score)
    assert found.overall == pytest.approx((truth == mapped).mean())
    assert (found.labels, found.test_pixels) == (chosen.sum(), held.sum())


def naive_medians(values: np.ndarray, valid: np.ndarray, times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    months = times.astype("datetime64[M]").astype(int) % 12
    rows = []
    for row, col in np.argwhere(wanted):
        seen, pixel = valid[:, row, col], values[:, :, row, col]
        whole = np.median(pixel[seen], axis=0) if seen.any() else np.zeros(pixel.shape[1], np.float32)
        parts = [seen & (months == month) for month in np.unique(months)]
        rows.append(np.concatenate([np.median(pixel[part], axis=0) if part.any() else whole for part in parts]))
    return np.array(rows)


@pytest.mark.parametrize("kind", ["pretrained", "scratch"])
def test_a_networks_figure_is_that_of_its_map_of_all_regions(
    prepared: Workspace, neighbour: Workspace, tmp_path: Path, kind: str
) -> None:
    """Without a step and with some: each region mapped in one piece, all test pixels scored together."""
    encoder = Pretrained(prepared.folder("pretrain") / ENCODER)
    network = load_encoder(encoder.path).config()
    own = Contender(kind, encoder) if kind == "pretrained" else Contender(kind, rate=0.0)
    plan = plan_of([prepared, neighbour], own, tmp_path, **network)
    trained = replace(plan, training=FinetuneSettings(steps=2), contenders=(replace(own, rate=0.01),))
    for each in (plan, trained):
        experiment = Experiment(each)
        for one in {one.encoder for one in each.contenders if one.encoder}:
            experiment.prepare(one)
        contender = each.contenders[0]
        found = experiment.run([Task(contender.name, budget, 3) for budget in ("2", "5")])[1]
        regions = experiment.regions(3)
        start = load_encoder(encoder.path) if contender.encoder else untrained(experiment.series, network, 3)
        model, _ = finetune(start, regions, each.schedule(contender, "5", 3))
        chosen = choose_together(regions, 5, 3)
        truths, maps = [], []
        for region in regions:
            with torch.no_grad():
                scores = model(region.series.chips([Window(0, 0, *region.series.shape)], bands=model.bands))[0]
            mapped = np.array(model.classes)[scores.argmax(dim=0).numpy()]
            mapped[~np.asarray(region.series.valid).any(axis=0)] = 0
            held = (region.split == 3) & (region.labels > 0)
            truths.append(region.labels[held])
            maps.append(mapped[held])
        truth, mapped = np.concatenate(truths), np.concatenate(maps)
        score = jaccard_score(truth, mapped, labels=np.unique(truth), average="macro", zero_division=0)
        assert found.miou == pytest.approx(score, abs=1e-9)
        assert found.overall == pytest.approx((truth == mapped).mean())
        assert (found.labels, found.test_pixels) == (sum(int(one.sum()) for one in chosen), truth.size)


def test_a_network_learns_from_a_budget_of_all_regions_together(prepared: Workspace, neighbour: Workspace) -> None:
    """As if those were all labels that there are."""
    regions = [open_labelled(one)[0] for one in (prepared, neighbour)]
    start = load_encoder(prepared.folder("pretrain") / ENCODER)
    settings = FinetuneSettings(steps=0, seed=3, labels_per_class=2)
    chosen = choose_together(regions, 2, 3)
    assert all(mask.any() for mask in chosen)
    left = [replace(one, split=np.where(mask, 1, 4)) for one, mask in zip(regions, chosen, strict=True)]
    found, expected = (
        finetune(start, given, how)[0].head.weight
        for given, how in ((regions, settings), (left, replace(settings, labels_per_class=None)))
    )
    assert torch.equal(found, expected)


def test_regions_count_together(workspace: Workspace, neighbour: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "TREES", 20)
    settings = replace(COMPARE, also=(neighbour.root,), steps=None, rates=(0.0,), budgets=("3",))
    done = compare(workspace, settings)
    assert set(done.inputs) == {"imagery", "labels", "labels 2", "pretrain"}
    opened = [open_labelled(one)[0] for one in (workspace, neighbour)]
    grids = [Cube.open(one.folder("download") / CUBE).grid for one in (workspace, neighbour)]
    rows = runs_of(workspace)
    assert len(rows) == 2 * 4
    for row in rows:
        seed = int(row["seed"])
        splits = [
            split_blocks(one.labels, grid, seed=seed, **SPLIT).part for one, grid in zip(opened, grids, strict=True)
        ]
        codes = np.concatenate([one.labels.ravel() for one in opened])
        part = np.concatenate([split.ravel() for split in splits])
        assert int(row["train_pixels"]) == (part == 1).sum()
        assert int(row["test_pixels"]) == (part == 3).sum()
        counts = np.bincount(codes[part == 1])[1:]
        assert int(row["labels"]) == np.minimum(counts, 3).sum()
        assert int(row["classes"]) == (counts > 0).sum()
        assert 0 < float(row["miou"]) < 1
    assert compare(workspace, settings).digest == done.digest
    with pytest.raises(UsageError, match="expected each workspace once"):
        compare(workspace, replace(settings, also=(neighbour.root, workspace.root)))
    shutil.copytree(workspace.root, copy := neighbour.root.parent / "copy")
    with pytest.raises(UsageError, match="expected regions that do not overlap"):
        compare(workspace, replace(settings, also=(copy,)))


def test_a_class_that_cannot_be_learnt_is_an_error_where_it_is_tested(
    prepared: Workspace, neighbour: Workspace, tmp_path: Path
) -> None:
    """The neighbour's labels of one class are all for testing: its IoU is 0, and counts."""
    encoder = Pretrained(prepared.folder("pretrain") / ENCODER)
    experiment = Experiment(plan_of([prepared, neighbour], Contender("pretrained", encoder), tmp_path))
    code = int(np.unique(experiment.codes)[-1])
    regions = [replace(one, split=np.where(one.labels == code, 3, one.split)) for one in experiment.regions(0)]
    experiment.regions = lambda _seed: regions
    experiment.prepare(encoder)
    found = experiment.run([Task("pre-trained", "5", 0)])[0]
    assert (found.classes, found.test_classes) == (found.test_classes - 1, np.unique(experiment.codes).size)
    part = np.concatenate([one.split[one.labels > 0] for one in regions])
    truth = experiment.codes[part == 3]
    mapped = experiment._train(experiment.plan.contenders[0], part, part == 1, Task("pre-trained", "5", 0))
    assert code not in mapped
    score = jaccard_score(truth, mapped, labels=np.unique(truth), average="macro", zero_division=0)
    assert found.miou == pytest.approx(score)


def test_workspaces_of_other_classes_are_refused(workspace: Workspace, neighbour: Workspace, tmp_path: Path) -> None:
    other = Workspace(shutil.copytree(neighbour.root, tmp_path / "other"))
    legend = other.folder("rasterize") / "classes.json"
    classes = json.loads(legend.read_text())
    classes[0]["name"], classes[1]["name"] = classes[1]["name"], classes[0]["name"]
    legend.write_text(json.dumps(classes))
    with pytest.raises(LabelError, match="expected the same classes in all workspaces"):
        compare(workspace, replace(COMPARE, also=(other.root,)))
    assert not workspace.partial("compare").exists()


def test_other_encoders_take_part_by_name(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "neighbour" / "pretrain" / ENCODER
    file.parent.mkdir(parents=True)
    shutil.copy(workspace.folder("pretrain") / ENCODER, file)
    settings = replace(COMPARE, budgets=("2",), contenders=("pretrained", "scratch"), encoder=(file, workspace.root))
    done = compare(workspace, settings)
    rows = {(r["contender"], r["seed"]): r["miou"] for r in runs_of(workspace)}
    assert rows["pre-trained on neighbour, rate 0.001", "0"] == rows["pre-trained, rate 0.001", "0"]
    assert len(rows) == 2 * 3
    assert set(done.inputs) == {"imagery", "labels", "pretrain", "encoder neighbour"}
    text = (workspace.folder("compare") / "conclusion.txt").read_text()
    assert "pre-training on neighbour" in text
    twice = (file, shutil.copytree(tmp_path / "neighbour", tmp_path / "more" / "neighbour") / "pretrain" / ENCODER)
    with pytest.raises(UsageError, match="several called neighbour"):
        compare(workspace, replace(settings, encoder=twice))


def test_an_encoder_from_elsewhere_gets_used_to_the_region(
    workspace: Workspace, neighbour: Workspace, tmp_path: Path
) -> None:
    pretrain(neighbour, PRETRAIN)
    there = Pretrained(neighbour.folder("pretrain") / ENCODER, "neighbour")
    learnt, here = load_encoder(there.path), load_encoder(workspace.folder("pretrain") / ENCODER)
    means = [dict(zip(one.bands, one.mean.flatten().tolist(), strict=True)) for one in (learnt, here)]
    assert means[0] != means[1]
    experiment = Experiment(plan_of([workspace], Contender("pretrained", there), tmp_path))
    finetune_stage(workspace, FinetuneSettings(encoder=str(neighbour.root), labels_per_class=2))
    model = load_land_cover(workspace.folder("finetune") / LAND_COVER)[0]
    for used in (experiment.encoder(there), model.encoder):
        assert dict(zip(used.bands, used.mean.flatten().tolist(), strict=True)) == means[1]
        assert torch.equal(used.project.weight, learnt.project.weight)


def test_without_labels_or_encoder_it_says_what_to_run(workspace: Workspace) -> None:
    shutil.rmtree(workspace.folder("pretrain"))
    with pytest.raises(WorkspaceError, match="run `eearth pretrain` first"):
        compare(workspace, COMPARE)
    done = compare(workspace, replace(COMPARE, budgets=("2",), contenders=("scratch",)))
    assert (done.figures["contenders"], set(done.inputs)) == (1, {"imagery", "labels"})
    shutil.rmtree(workspace.folder("rasterize"))
    with pytest.raises(WorkspaceError, match="run `eearth rasterize` first"):
        compare(workspace, COMPARE)


def test_an_encoder_of_other_bands_is_refused(workspace: Workspace, provider: SimulatedRegion, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "other")
    imagery = {"datetime": "2022", "bands": ("green", "nir"), "max_cloud": 100.0}
    download(other, DownloadSettings(region=provider.region, catalog=str(provider.catalog), **imagery))  # type: ignore[arg-type]
    pretrain(other, PRETRAIN)
    with pytest.raises(ModelError, match="download green too"):
        compare(workspace, replace(COMPARE, encoder=(other.root,)))
    assert not workspace.partial("compare").exists()


def test_encoders_of_different_networks_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace(shutil.copytree(workspace.root, tmp_path / "other"))
    pretrain(other, replace(PRETRAIN, features=8))
    with pytest.raises(ModelError, match="one network"):
        compare(workspace, replace(COMPARE, encoder=(other.root,)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"contenders": "scratch,oracle"}, "expected pretrained|scratch|probe|forest, or several separated by commas"),
        ({"budgets": "5,0"}, "expected budgets that are whole numbers above 0, or 'all', found '0'"),
        ({"budgets": "5,5"}, "expected each of the budgets once"),
        ({"precision": "4", "contenders": "forest"}, "expected pretrained and scratch among the contenders"),
        ({"rates": "-1"}, "expected rates of at least 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(flags: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve(CompareSettings, flags, tmp_path)

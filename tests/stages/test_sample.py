"""A stratified sample of a map, as a user draws it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyogrio
import pytest
import rasterio
from forked import eearth
from pyproj import Transformer
from scenery import utm_grid, write_tif

from eearth.errors import UsageError, WorkspaceError
from eearth.events import Event, Note, Table
from eearth.geo.grid import Grid
from eearth.geo.sampling.design import Design
from eearth.manifest import file_digest
from eearth.settings import SampleSettings
from eearth.stages.sample import sample
from eearth.status import project_status
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path


def write_map(path: Path, grid: Grid | None = None, seed: int = 0) -> Path:
    """Four classes, one of them rare, with names."""
    grid = utm_grid(300, 400) if grid is None else grid
    values = np.random.default_rng(seed).choice([0, 1, 2, 3, 9], grid.shape, p=[0.1, 0.6, 0.25, 0.0495, 0.0005])
    write_tif(path, values.astype(np.uint8), grid)
    with rasterio.open(path, "r+") as file:
        file.update_tags(CLASS_1="forest", CLASS_2="crops, other", CLASS_3="water", CLASS_9="bog", CLASS_12="ice")
    return path


def values_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    return write_map(tmp_path / "map.tif")


def test_a_sample_is_ready_to_be_labelled_and_blind(raster: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "project")
    manifest = sample(workspace, SampleSettings(map=raster, size=400, minimum=60))
    path, values = workspace.folder("sample") / "sample.gpkg", values_of(raster)
    assert [str(name) for name, _ in pyogrio.list_layers(path)] == ["points", "squares", "classes"]
    points = pyogrio.read_dataframe(path, layer="points")
    assert list(points.columns) == ["id", "reference", "comment", "lon", "lat", "geometry"]  # nothing tells the class
    assert points["reference"].isna().all()
    assert points["id"].tolist() == list(range(1, len(points) + 1))
    design = Design.read(workspace.folder("sample") / "design.json")
    x, y = points.geometry.x.to_numpy(), points.geometry.y.to_numpy()
    with rasterio.open(raster) as file:
        rows, cols = (np.array(part) for part in rasterio.transform.rowcol(file.transform, x, y))
        back = [file.xy(row, col) for row, col in zip(rows, cols, strict=True)]
    np.testing.assert_allclose(np.stack([x, y], axis=1), back)  # the very centres
    np.testing.assert_array_equal(values[rows, cols], design.codes)
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    np.testing.assert_allclose(points[["lon", "lat"]], np.stack([lon, lat], axis=1), atol=1e-6)
    squares = pyogrio.read_dataframe(path, layer="squares")
    assert squares.area.to_numpy() == pytest.approx(100)
    assert squares.contains(points.geometry).all()
    assert pyogrio.read_dataframe(path, layer="classes")["name"].tolist() == [
        "forest", "crops, other", "water", "bog", "ice",
    ]  # fmt: skip
    assert manifest.figures["points"] == 400


def test_the_design_says_what_each_point_stands_for(raster: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "project")
    sample(workspace, SampleSettings(map=raster, size=400, minimum=60, seed=4))
    data = json.loads((workspace.folder("sample") / "design.json").read_text())
    values = values_of(raster)
    assert data["map"]["digest"] == file_digest(raster)
    assert data["seed"] == 4
    rare = int((values == 9).sum())
    assert {s["name"]: s["points"] for s in data["strata"]}["bog"] == min(60, rare)
    for stratum in data["strata"]:
        pixels = int((values == stratum["code"]).sum())
        assert stratum["pixels"] == pixels
        assert stratum["area_km2"] == pytest.approx(pixels * 1e-4)
        assert stratum["points"] == sum(point["code"] == stratum["code"] for point in data["points"])
        if pixels:
            assert stratum["inclusion_probability"] == pytest.approx(stratum["points"] / pixels)
            assert stratum["share"] == pytest.approx(pixels / (values > 0).sum())
        else:
            assert (stratum["name"], stratum["points"], stratum["inclusion_probability"]) == ("ice", 0, None)


def test_reasons_are_printed(raster: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    settings = SampleSettings(map=raster, standard_error=0.02, expected=("forest=0.9", "0.7", "9=0.5"))
    sample(Workspace(tmp_path / "project"), settings, heard.append)
    table = next(event for event in heard if isinstance(event, Table))
    assert [row[4] for row in table.rows] == [
        "0.90 (as given)", "0.70 (as given)", "0.70 (as given)", "0.50 (as given)", "",
    ]  # fmt: skip
    assert table.rows[2][6] == "the least that a class gets"
    assert table.rows[4][6] == "the map does not show it"
    notes = " ".join(event.text for event in heard if isinstance(event, Note))
    shares = np.array([(values_of(raster) == code).sum() for code in (1, 2, 3, 9)])
    shares = shares / shares.sum()
    size = np.ceil(
        (shares @ np.sqrt([0.09, 0.21, 0.21, 0.25])) ** 2 / (0.02**2 + shares @ [0.09, 0.21, 0.21, 0.25] / 1e5)
    )
    assert abs(int(notes.split()[0]) - size) <= 2
    assert "Cochran 1977, equation 5.25" in notes


def test_the_same_seed_draws_the_same_file_again(raster: Path, tmp_path: Path) -> None:
    one, same, other = (Workspace(tmp_path / name) for name in ("one", "same", "other"))
    for workspace, seed in ((one, 0), (same, 0), (other, 1)):
        sample(workspace, SampleSettings(map=raster, size=200, seed=seed))
    assert one.require("sample").outputs == same.require("sample").outputs
    assert one.require("sample").records == same.require("sample").records
    assert one.require("sample").records["drawn"] != other.require("sample").records["drawn"]
    heard: list[Event] = []
    sample(one, SampleSettings(map=raster, size=200), heard.append)
    assert [event.text for event in heard if isinstance(event, Note)] == [f"{one.folder('sample')} is up to date"]


def test_a_labelled_sample_is_never_replaced(raster: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "project")
    sample(workspace, SampleSettings(map=raster, size=200))
    path = workspace.folder("sample") / "sample.gpkg"
    points = pyogrio.read_dataframe(path, layer="points")
    points.loc[[3, 5], "reference"] = "forest"
    pyogrio.write_dataframe(points, path, layer="points", driver="GPKG")
    before = path.read_bytes()
    with pytest.raises(WorkspaceError, match=r"found sample.gpkg with 2 labelled points in"):
        sample(workspace, SampleSettings(map=raster, size=300))
    assert path.read_bytes() == before
    sample(workspace, SampleSettings(map=raster, size=200))  # nothing to do
    assert path.read_bytes() == before
    assert not workspace.partial("sample").exists()


def test_a_sample_that_was_deleted_is_drawn_again(raster: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "project")
    before = sample(workspace, SampleSettings(map=raster, size=200))
    (workspace.folder("sample") / "sample.gpkg").unlink()
    with pytest.raises(WorkspaceError, match=r"expected sample\.gpkg in .*sample, found nothing: run `eearth sample`"):
        workspace.require("sample")
    assert sample(workspace, SampleSettings(map=raster, size=200)).digest == before.digest
    assert (workspace.folder("sample") / "sample.gpkg").is_file()


def test_what_lies_beside_a_sample_is_never_removed(raster: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "project")
    sample(workspace, SampleSettings(map=raster, size=200))
    mine = workspace.folder("sample") / "labelled.gpkg"
    mine.write_bytes((workspace.folder("sample") / "sample.gpkg").read_bytes())
    with pytest.raises(WorkspaceError, match=r"found labelled.gpkg in .*: move it elsewhere together with its design"):
        sample(workspace, SampleSettings(map=raster, size=200, seed=1))
    assert mine.is_file()
    points = pyogrio.read_dataframe(mine, layer="points")
    own = workspace.folder("sample") / "sample.gpkg"
    pyogrio.write_dataframe(points.assign(mine="forest"), own, layer="points", driver="GPKG")
    mine.unlink()
    with pytest.raises(WorkspaceError, match=r"found changes in sample.gpkg"):
        sample(workspace, SampleSettings(map=raster, size=200, seed=1))


def test_a_map_in_degrees_has_areas_by_latitude(tmp_path: Path) -> None:
    grid = Grid(rasterio.crs.CRS.from_epsg(4326), rasterio.Affine(0.01, 0, 10, 0, -0.01, 60), 300, 400)
    workspace = Workspace(tmp_path / "project")
    sample(workspace, SampleSettings(map=write_map(tmp_path / "map.tif", grid), size=300))
    strata = Design.read(workspace.folder("sample") / "design.json").strata
    total = sum(stratum.area_km2 for stratum in strata)
    # 3° x 4° between 57° and 60° N: 0.9 of them hold data
    assert total == pytest.approx(0.9 * 333.9 * 4 * 111.32 * np.cos(np.radians(58.5)), rel=0.005)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 1, "map, which is missing: run `eearth predict REGION` first"),
        (["--map", "none.tif"], 1, "expected a file at none.tif, found nothing"),
        (["--map", "map.tif", "--expected", "forrest=0.9"], 2, "found 'forrest'; did you mean forest?"),
        (["--map", "map.tif", "--size", "1"], 2, "expected --size of at least 2, found 1"),
        (["--map", "map.tif", "--allocation", "neyman"], 2, "expected olofsson|proportional|equal"),
        (["--map", "map.tif", "--standard-error", "0"], 2, "expected --standard-error of 1e-06 to 0.5, found 0"),
    ],
)
def test_what_cannot_be_sampled_is_one_line(raster: Path, words: list[str], code: int, message: str) -> None:
    done = eearth("sample", *words, cwd=raster.parent)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert sum(line.startswith("Error") for line in done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not (raster.parent / "sample").exists()


def test_expected_classes_must_be_of_the_map(raster: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='known: forest, "crops, other", water, bog, ice'):
        sample(Workspace(tmp_path / "project"), SampleSettings(map=raster, expected=("zzz=0.5",)))


def test_labelling_it_in_place_is_no_damage(raster: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "project")
    sample(workspace, SampleSettings(map=raster, size=100))
    path = workspace.folder("sample") / "sample.gpkg"
    points = pyogrio.read_dataframe(path, layer="points")
    pyogrio.write_dataframe(points.assign(reference="forest"), path, layer="points")
    assert next(found for found in project_status(workspace, verify=True) if found.stage == "sample").state == "done"
    (workspace.folder("sample") / "design.json").write_text("{}")
    assert next(found for found in project_status(workspace, verify=True) if found.stage == "sample").state == "damaged"

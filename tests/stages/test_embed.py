"""`eearth embed` on a small simulated region, as a user runs it; the features by hand from the cube."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers `.rio` on xarray's objects
import torch
import xarray as xr
from matplotlib.image import imread
from rasterio.features import geometry_mask
from rio_cogeo import cog_validate
from shapely.geometry import Point, box
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stac_schemas import validate

from eearth.data.series import Chips
from eearth.errors import ModelError, SourceError, UsageError, WorkspaceError
from eearth.events import Event, Finished, Note, Started, Warned
from eearth.geo.cube import CUBE, Cube
from eearth.models.files import load_encoder, save_encoder, save_land_cover
from eearth.models.segmentation import LandCoverModel
from eearth.settings import DownloadSettings, EmbedSettings, PretrainSettings, RasterizeSettings
from eearth.stages.download import download
from eearth.stages.embed import embed
from eearth.stages.pretrain import pretrain
from eearth.stages.rasterize import rasterize
from eearth.synthetic.region import SimulatedRegion, simulate
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from eearth.manifest import Manifest
    from eearth.models.encoder import Encoder

# Small windows and tiles: several of each, in a region of 88 pixels.
SMALL: dict[str, Any] = {"window_size": 44, "tile_size": 64, "batch_size": 3}
DOCS = Path(__file__).parents[2] / "docs" / "stages" / "embed.md"

FEATURES = 12

# A square of pixels that are made never observed.
UNSEEN = slice(30, 37), slice(20, 26)

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul")  # affine 3.1 warns of what rioxarray does


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small convolutions are slower on several threads, and much slower where other processes hold the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> SimulatedRegion:
    return simulate(tmp_path_factory.mktemp("provider"), size=96, scenes=6)


@pytest.fixture(scope="module")
def trained(provider: SimulatedRegion, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Imagery with pixels that were never observed, labels and an encoder."""
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    asked = DownloadSettings(region=provider.region, catalog=str(provider.catalog), datetime="2022", max_cloud=100.0)
    download(workspace, asked)
    cube = Cube.open(workspace.folder("download") / CUBE)
    cube.valid[:, *UNSEEN] = False
    rasterize(workspace, RasterizeSettings(labels=provider.labels))
    pretrain(workspace, PretrainSettings(steps=4, batch_size=4, dates=4, features=FEATURES))
    return workspace


@pytest.fixture
def workspace(trained: Workspace, tmp_path: Path) -> Workspace:
    """A copy that a test may change."""
    shutil.copytree(trained.root, tmp_path / "valley")
    return Workspace(tmp_path / "valley")


@pytest.fixture(scope="module")
def disc(provider: SimulatedRegion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round region in the middle of the imagery, with a hole."""
    left, bottom, right, top = gpd.read_file(provider.region).to_crs(32633).total_bounds
    middle = Point((left + right) / 2, (bottom + top) / 2)
    path = tmp_path_factory.mktemp("region") / "disc.gpkg"
    gpd.GeoDataFrame(geometry=[middle.buffer(401).difference(middle.buffer(83))], crs=32633).to_file(path)
    return path


def by_hand(workspace: Workspace, encoder: Encoder) -> NDArray[np.float32]:
    """The features of the whole cube in one piece; NaN where it was never observed."""
    cube = Cube.open(workspace.folder("download") / CUBE)
    valid = np.asarray(cube.valid[...])
    order = [cube.bands.index(name) for name in encoder.bands]
    values = np.asarray(cube.reflectance[...]).astype(np.float64)[:, order] * cube.scale + cube.offset
    values = np.where(valid[:, None], values, 0).astype(np.float32)
    days = [(time - time.astype("datetime64[Y]")).astype("timedelta64[D]").astype(int) + 1 for time in cube.times]
    chips = Chips(torch.tensor(values)[None], torch.tensor(valid)[None], torch.tensor(days).float()[None])
    with torch.inference_mode():
        features: NDArray[np.float32] = encoder(chips)[0].numpy().copy()
    features[:, ~valid.any(axis=0)] = np.nan
    return features


def expected(workspace: Workspace, region: Path, encoder: Encoder | None = None) -> tuple[NDArray[np.float32], Any]:
    """Features by hand, NaN outside the region, and their transform: cut to the rows and columns that it touches."""
    grid = Cube.open(workspace.folder("download") / CUBE).grid
    features = by_hand(workspace, encoder or load_encoder(workspace.folder("pretrain") / "encoder.safetensors"))
    shapes = gpd.read_file(region).to_crs(32633).geometry
    outside = geometry_mask(shapes, grid.shape, grid.transform, all_touched=True)
    features[:, outside] = np.nan
    rows, cols = np.nonzero(~outside)
    cut = features[:, rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
    return cut, grid.transform @ grid.transform.translation(cols.min(), rows.min())


def read_tif(path: Path) -> tuple[NDArray[np.float64], Any]:
    with rasterio.open(path) as file:
        stored = file.read()
        empty = np.isnan(stored) if np.isnan(file.nodata) else stored == file.nodata
        scales, offsets = (np.array(each)[:, None, None] for each in (file.scales, file.offsets))
        return np.where(empty, np.nan, stored * scales + offsets), file.transform


def read_zarr(path: Path) -> tuple[NDArray[np.float64], Any]:
    with xr.open_zarr(path) as data:
        stacked = np.stack([data[f"f{number:02d}"].to_numpy() for number in range(FEATURES)])
        assert data.f00.rio.crs == rasterio.crs.CRS.from_epsg(32633)
        return stacked.astype(np.float64), data.f00.rio.transform()


def run(workspace: Workspace, region: Path, **changes: Any) -> Manifest:
    return embed(workspace, EmbedSettings(region=region, **{**SMALL, **changes}))


@pytest.mark.parametrize("encoding", ["float32", "int8"])
@pytest.mark.parametrize(("kind", "read"), [("cog", read_tif), ("zarr", read_zarr)])
def test_features_are_those_of_the_encoder_in_one_piece_and_lie_in_the_right_place(
    workspace: Workspace, disc: Path, kind: str, read: Any, encoding: str
) -> None:
    done = run(workspace, disc, format=kind, encoding=encoding)
    wanted, transform = expected(workspace, disc)
    found, place = read(workspace.folder("embed") / {"cog": "features.tif", "zarr": "features.zarr"}[kind])
    assert found.shape == wanted.shape
    assert np.allclose(list(place)[:6], list(transform)[:6], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    there = ~np.isnan(wanted[0])
    assert done.figures["pixels with features"] == there.sum()
    assert 0 < there.sum() < there.size * 0.8
    if encoding == "float32":
        np.testing.assert_allclose(found[:, there], wanted[:, there], atol=1e-4)
    else:
        code, sd = done.records["int8"], wanted[:, there].std(axis=1)
        error = np.abs(found - wanted)[:, there]
        np.testing.assert_allclose(code["largest error in standard deviations"], error.max(axis=1) / sd, rtol=0.02)
        rms = np.sqrt((error**2).mean(axis=1)) / sd
        np.testing.assert_allclose(code["rms error in standard deviations"], rms, rtol=0.02)
        assert np.array(code["scale"]).std() > 0
        assert rms.max() < 0.03


def test_the_geotiff_is_a_cog_with_named_bands_scales_and_nodata(workspace: Workspace, disc: Path) -> None:
    code = run(workspace, disc, encoding="int8").records["int8"]
    path = workspace.folder("embed") / "features.tif"
    assert cog_validate(path, strict=True, quiet=True)[0]
    with rasterio.open(path) as file:
        assert file.descriptions == tuple(f"f{number:02d}" for number in range(FEATURES))
        assert (file.dtypes[0], file.nodata, file.profile["tiled"]) == ("int8", -128, True)
        np.testing.assert_allclose((file.scales, file.offsets), (code["scale"], code["offset"]), rtol=1e-12)
        assert file.tags()["ENCODER"] == "seasonal-unet"
        assert file.tags()["MODEL"] == workspace.require("pretrain").digest
    item = json.loads((workspace.folder("embed") / "item.json").read_text())
    validate(item)
    bands = item["assets"]["features"]["raster:bands"]
    assert [band["scale"] for band in bands] == code["scale"]
    assert bands[0]["nodata"] == -128


def test_gdal_reads_a_variable_of_the_store(workspace: Workspace, disc: Path) -> None:
    run(workspace, disc, format="zarr", encoding="int8")
    path = workspace.folder("embed") / "features.zarr"
    wanted, transform = read_zarr(path)
    with rasterio.open(f'ZARR:"{path}":/f07') as file:
        assert file.crs.to_epsg() == 32633
        assert np.allclose(list(file.transform)[:6], list(transform)[:6])
        assert file.nodata == -128
        stored = file.read(1)
        found = np.where(stored == file.nodata, np.nan, stored * file.scales[0] + file.offsets[0])
    np.testing.assert_allclose(found, wanted[7], rtol=1e-5, atol=1e-6)


def test_a_linear_classifier_loses_nothing_on_integers(workspace: Workspace, provider: SimulatedRegion) -> None:
    with rasterio.open(provider.truth) as file, rasterio.open(workspace.folder("rasterize") / "labels.tif") as labels:
        col, row = (round(number) for number in ~file.transform @ (labels.transform.c, labels.transform.f))
        truth = file.read(1)[row : row + labels.height, col : col + labels.width]
    scores = []
    for encoding in ("float32", "int8"):
        run(workspace, provider.region, encoding=encoding)
        features, _ = read_tif(workspace.folder("embed") / "features.tif")
        there = ~np.isnan(features[0])
        pixels, classes = features[:, there].T, truth[there]
        learnt = np.random.default_rng(0).random(len(pixels)) < 0.1
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(pixels[learnt], classes[learnt])
        scores.append(100 * model.score(pixels[~learnt], classes[~learnt]))
    assert scores[0] > 60
    assert abs(scores[1] - scores[0]) < 0.5


KILLED = """
import os, signal
from pathlib import Path
import torch
from eearth.events import Advanced
from eearth.settings import EmbedSettings
from eearth.stages.embed import embed
from eearth.workspace import Workspace

torch.set_num_threads(1)

def report(event):
    if isinstance(event, Advanced) and event.task == "features":
        os.kill(os.getpid(), signal.SIGKILL)

embed(Workspace({root!r}), EmbedSettings(region=Path({region!r}), **{settings!r}), report)
"""


def tiles_done(heard: list[Event]) -> list[int]:
    return [each.done for each in heard if isinstance(each, Started) and each.task == "features"]


def test_killed_and_rerun_gives_the_same_bytes(workspace: Workspace, disc: Path) -> None:
    settings = {**SMALL, "format": "zarr", "encoding": "int8"}
    whole = run(workspace, disc, **settings).outputs
    shutil.rmtree(workspace.folder("embed"))
    code = KILLED.format(root=str(workspace.root), region=str(disc), settings=settings)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert not workspace.folder("embed").exists()
    heard: list[Event] = []
    assert embed(workspace, EmbedSettings(region=disc, **settings), heard.append).outputs == whole
    assert tiles_done(heard) == [1]
    assert {path.name for path in workspace.folder("embed").iterdir()} == {
        "features.zarr", "item.json", "manifest.json", "pca.png",
    }  # fmt: skip


def test_what_was_encoded_is_not_encoded_again(workspace: Workspace, disc: Path) -> None:
    """An interruption after the last tile, while the product is written."""
    whole = run(workspace, disc, encoding="int8").outputs
    shutil.rmtree(workspace.folder("embed"))
    settings, heard = EmbedSettings(region=disc, encoding="int8", **SMALL), list[Event]()

    def interrupt(event: Event) -> None:
        if isinstance(event, Finished):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(workspace, settings, interrupt)
    assert embed(workspace, settings, heard.append).outputs == whole
    assert tiles_done(heard) == [4]


def test_the_picture_shows_the_principal_components(workspace: Workspace, disc: Path) -> None:
    run(workspace, disc)
    wanted, _ = expected(workspace, disc)
    there = ~np.isnan(wanted[0])
    scores = PCA(3).fit_transform(wanted[:, there].T)
    picture = imread(workspace.folder("embed") / "pca.png")
    times = 500 // max(there.shape)
    assert picture.shape == (*(times * side for side in there.shape), 4)
    small = picture[times // 2 :: times, times // 2 :: times]
    np.testing.assert_array_equal(small[..., 3], there)
    for component, colour in zip(scores.T, small[there].T, strict=False):
        low, high = np.percentile(component, [2, 98])
        shown = np.clip((component - low) / (high - low), 0, 1)
        assert min(np.abs(shown - colour).max(), np.abs(1 - shown - colour).max()) < 0.01


def test_a_region_beyond_the_imagery_is_fetched(
    workspace: Workspace, provider: SimulatedRegion, tmp_path: Path
) -> None:
    left, _, _, top = gpd.read_file(provider.region).to_crs(32633).total_bounds
    gpd.GeoDataFrame(geometry=[box(left + 600, top - 300, left + 1200, top - 100)], crs=32633).to_file(
        tmp_path / "wide.gpkg"
    )
    done = run(workspace, tmp_path / "wide.gpkg")
    assert done.figures["imagery"] == "fetched for this region"
    found, place = read_tif(workspace.folder("embed") / "features.tif")
    with rasterio.open(provider.truth) as truth:
        edge = round((truth.bounds.right - place.c) / 10)
    assert np.isfinite(found[..., :edge]).all()
    assert np.isnan(found[..., edge:]).all()


def test_a_region_that_was_never_observed_is_all_nodata(workspace: Workspace, disc: Path) -> None:
    cube = Cube.open(workspace.folder("download") / CUBE)
    cube.valid[...] = False
    heard: list[Event] = []
    done = embed(workspace, EmbedSettings(region=disc, encoding="int8", **SMALL), heard.append)
    assert done.figures["pixels with features"] == 0
    assert any(isinstance(event, Warned) and "no pixel of the region" in event.text for event in heard)
    with rasterio.open(workspace.folder("embed") / "features.tif") as file:
        assert (file.read() == -128).all()
    assert (imread(workspace.folder("embed") / "pca.png")[..., 3] == 0).all()


def test_the_encoder_may_be_named(workspace: Workspace, trained: Workspace, disc: Path, tmp_path: Path) -> None:
    encoder = load_encoder(trained.folder("pretrain") / "encoder.safetensors")
    imagery = json.loads((trained.folder("pretrain") / "model.json").read_text())["imagery"]
    (tmp_path / "tuned").mkdir()
    with torch.no_grad():
        encoder.mean += 0.01
    save_land_cover(tmp_path / "tuned", LandCoverModel(encoder, [1, 2]), imagery, [])
    default = run(workspace, disc).outputs["features.tif"]
    shutil.rmtree(workspace.folder("pretrain"))
    assert run(workspace, disc, encoder=trained.root).outputs["features.tif"] != default  # the metadata name the file
    same, _ = read_tif(workspace.folder("embed") / "features.tif")
    np.testing.assert_allclose(same, expected(trained, disc)[0], atol=1e-4)
    for named in (tmp_path / "tuned", tmp_path / "tuned" / "model.safetensors"):
        run(workspace, disc, encoder=named)
        tuned, _ = read_tif(workspace.folder("embed") / "features.tif")
        np.testing.assert_allclose(tuned, expected(trained, disc, encoder)[0], atol=1e-4)
    assert np.nanmax(np.abs(tuned - same)) > 1e-3


def test_the_features_are_copied_where_the_user_wants_them(workspace: Workspace, disc: Path, tmp_path: Path) -> None:
    run(workspace, disc, output=tmp_path / "out" / "valley.tif")
    assert (tmp_path / "out" / "valley.tif").read_bytes() == (workspace.folder("embed") / "features.tif").read_bytes()
    for _ in range(2):  # the second time it replaces the first
        run(workspace, disc, format="zarr", output=tmp_path / "out" / "valley.zarr")
    np.testing.assert_array_equal(
        read_zarr(tmp_path / "out" / "valley.zarr")[0], read_zarr(workspace.folder("embed") / "features.zarr")[0]
    )
    with pytest.raises(UsageError, match="expected the name of a GeoTIFF for --output, found the folder"):
        run(workspace, disc, output=tmp_path)
    with pytest.raises(UsageError, match="expected the name of a Zarr store for --output"):
        run(workspace, disc, format="zarr", output=tmp_path)


def test_what_is_finished_is_left_alone(workspace: Workspace, disc: Path) -> None:
    run(workspace, disc)
    heard: list[Event] = []
    before = workspace.folder("embed").stat().st_mtime_ns
    embed(workspace, EmbedSettings(region=disc, **{**SMALL, "batch_size": 1}), heard.append)
    assert workspace.folder("embed").stat().st_mtime_ns == before
    assert any(isinstance(event, Note) and "up to date" in event.text for event in heard)


def test_what_is_missing_is_one_clear_line(workspace: Workspace, disc: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"nothing\.safetensors, found nothing"):
        run(workspace, disc, encoder=tmp_path / "nothing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no model")
    with pytest.raises(ModelError, match="expected a model that eearth wrote"):
        run(workspace, disc, encoder=tmp_path / "broken.safetensors")
    encoder = load_encoder(workspace.folder("pretrain") / "encoder.safetensors")
    with torch.no_grad():
        encoder.project.bias += float("nan")
    save_encoder(tmp_path, encoder, {})
    with pytest.raises(ModelError, match="expected finite features"):
        run(workspace, disc, encoder=tmp_path)
    shutil.rmtree(workspace.folder("pretrain"))
    with pytest.raises(WorkspaceError, match="pretrain, which is missing: run `eearth pretrain` first"):
        run(workspace, disc)
    with pytest.raises(WorkspaceError, match="pretrain, which is missing"):
        run(workspace, disc, encoder=tmp_path / "valley" / "labels")
    assert not workspace.folder("embed").exists()


def test_a_band_that_no_imagery_has_is_one_clear_line(workspace: Workspace, disc: Path, tmp_path: Path) -> None:
    other = type(load_encoder(workspace.folder("pretrain") / "encoder.safetensors"))(
        ("red", "thermal"), (0.1, 0.2), (0.1, 0.1), features=4
    )
    save_encoder(tmp_path, other, {})
    with pytest.raises(SourceError, match="thermal"):
        run(workspace, disc, encoder=tmp_path)


def test_the_example_of_the_documentation_runs(
    workspace: Workspace, provider: SimulatedRegion, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(workspace, provider.region)
    example = DOCS.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert len(example.strip().splitlines()) <= 20
    monkeypatch.chdir(workspace.root.parent)
    exec(example, {})  # noqa: S102 - the documentation's own lines
    with rasterio.open("valley/fields.tif") as file, rasterio.open(provider.truth) as truth:
        mapped = file.read(1)
        col, row = (round(number) for number in ~truth.transform @ (file.transform.c, file.transform.f))
        right = truth.read(1)[row : row + file.height, col : col + file.width] == mapped
        assert (mapped[UNSEEN] == 0).all()
        assert right[mapped > 0].mean() > 0.5

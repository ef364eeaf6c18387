from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from matplotlib.image import imread
from rasterio.crs import CRS
from rasterio.transform import Affine
from rio_cogeo import cog_validate

from eearth.errors import DiskError, WorkspaceError
from eearth.geo.grid import Grid
from eearth.geo.products.landcover.legend import write_qml
from eearth.geo.products.landcover.prediction import Prediction, Reason, printable
from eearth.geo.products.landcover.preview import draw_map
from eearth.geo.products.landcover.writer import LandCoverWriter
from eearth.geo.products.rasters.overviews import halved

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Legend:
    code: int
    name: str
    colour: str


CLASSES = (
    Legend(1, 'Maize & "corn" <$x$>', "#ff8800"),
    Legend(4, "Forêt", "#006400"),
    Legend(200, "水\tbody\x07", "#0064c8"),
)
BANDS_OF_A_TILE = ("landcover", "confidence", "observations", "margin", "reason", "unfamiliarity")
TAGS = {"EEARTH_VERSION": "0.1.0", "EEARTH_MODEL": "ab12"}


def grid_of(height: int, width: int) -> Grid:
    return Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), height, width)


def fields_of(height: int, width: int, seed: int = 0) -> Prediction:
    """Fields of 20 pixels; outside the region left of column 5, never observed above row 5."""
    rng = np.random.default_rng(seed)
    shape = (height // 20 + 1, width // 20 + 1)
    codes = rng.choice([1, 4, 200], shape).astype(np.uint8).repeat(20, 0).repeat(20, 1)[:height, :width]
    confidence = rng.integers(1, 101, (height, width)).astype(np.uint8)
    counts = rng.integers(1, 255, (height, width)).astype(np.uint8)
    for values, outside in ((codes, 0), (confidence, 255), (counts, 255)):
        values[:5] = 0
        values[:, :5] = outside
    margin = np.where(confidence <= 100, confidence // 2, confidence).astype(np.uint8)
    reason = rng.choice([0, 3], codes.shape).astype(np.uint8)
    reason[:5], reason[:, :5] = 2, 1
    strange = rng.integers(0, 101, (height, width)).astype(np.uint8)
    return Prediction(codes, confidence, counts, margin, reason, strange)


def cut(whole: Prediction, rows: slice, cols: slice) -> Prediction:
    return Prediction(*(getattr(whole, name)[rows, cols] for name in BANDS_OF_A_TILE))


def writer(folder: Path, grid: Grid) -> LandCoverWriter:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    return LandCoverWriter(folder, folder / "scratch", grid, CLASSES, TAGS)


def write_map(folder: Path, height: int, width: int, *, tile: int = 300) -> Prediction:
    grid, whole = grid_of(height, width), fields_of(height, width)
    out = writer(folder, grid)
    for index, window in enumerate(grid.windows(tile)):
        out.write(index, window, cut(whole, *window.slices))
    out.finish()
    return whole


def read(path: Path, band: int = 1) -> NDArray[np.uint8]:
    with rasterio.open(path) as file:
        values: NDArray[np.uint8] = file.read(band)
    return values


@pytest.mark.parametrize(("height", "width"), [(1300, 1100), (513, 40), (33, 61), (1, 1)])
def test_maps_are_valid_cogs_on_the_grid(tmp_path: Path, height: int, width: int) -> None:
    whole = write_map(tmp_path, height, width)
    for name, nodata in (("landcover.tif", 0), ("confidence.tif", 255)):
        assert cog_validate(tmp_path / name, strict=True) == (True, [], [])
        with rasterio.open(tmp_path / name) as file:
            assert (file.height, file.width, file.crs, file.nodata) == (height, width, CRS.from_epsg(32633), nodata)
            assert file.transform == grid_of(height, width).transform
            assert file.tags().items() >= TAGS.items()
    np.testing.assert_array_equal(read(tmp_path / "landcover.tif"), whole.landcover)
    np.testing.assert_array_equal(read(tmp_path / "confidence.tif", 1), whole.confidence)
    np.testing.assert_array_equal(read(tmp_path / "confidence.tif", 2), whole.observations)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "confidence.tif", "landcover.tif", "landcover.tif.aux.xml", "scratch",
    ]  # fmt: skip


def test_legend_is_in_the_map(tmp_path: Path) -> None:
    write_map(tmp_path, 700, 600)
    with rasterio.open(tmp_path / "landcover.tif") as file:
        colours, tags = file.colormap(1), file.tags()
        assert file.colorinterp[0].name == "palette"
    assert colours[0][3] == 0
    assert (colours[1], colours[4], colours[200]) == ((255, 136, 0, 255), (0, 100, 0, 255), (0, 100, 200, 255))
    assert (tags["CLASS_1"], tags["CLASS_4"], tags["CLASS_200"]) == ('Maize & "corn" <$x$>', "Forêt", "水 body")
    with rasterio.open(tmp_path / "confidence.tif") as file:
        assert file.descriptions == ("confidence", "clear observations", "margin", "reason", "unfamiliarity")
        assert file.units == ("percent", "count", "percent", None, None)


def test_gdal_reads_the_class_names(tmp_path: Path) -> None:
    write_map(tmp_path, 50, 50)
    rasterio.shutil.copy(tmp_path / "landcover.tif", tmp_path / "copy.vrt", driver="VRT")
    names = [element.text for element in ET.parse(tmp_path / "copy.vrt").iter("Category")]  # noqa: S314
    assert len(names) == 201
    assert (names[0], names[1], names[4], names[200]) == (None, 'Maize & "corn" <$x$>', "Forêt", "水 body")


def test_overviews_show_the_most_frequent_class_and_the_mean(tmp_path: Path) -> None:
    grid, out = grid_of(1100, 600), writer(tmp_path, grid_of(1100, 600))
    codes = np.tile(np.array([[1, 200], [200, 200]], np.uint8), (550, 300))
    percent = np.tile(np.array([[90, 70], [60, 100]], np.uint8), (550, 300))
    percent[:, :2] = [255, 50]  # a mean that takes "outside" for a number would be 152
    out.write(0, grid.window, Prediction(codes, *5 * [percent]))
    out.finish()
    with rasterio.open(tmp_path / "landcover.tif") as file:
        assert file.overviews(1) == [2, 4]
        assert np.unique(file.read(1, out_shape=(550, 300))).tolist() == [200]
    with rasterio.open(tmp_path / "confidence.tif", overview_level=0) as file:
        assert np.unique(file.read(1)[:, 1:]).tolist() == [80]
        assert np.unique(file.read(1)[:, 0]).tolist() == [50]


def test_same_map_gives_same_bytes_whatever_the_tiles(tmp_path: Path) -> None:
    write_map(tmp_path / "one", 700, 530, tile=300)
    write_map(tmp_path / "two", 700, 530, tile=512)
    for name in ("landcover.tif", "confidence.tif", "landcover.tif.aux.xml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_tiles_never_written_are_outside_the_region(tmp_path: Path) -> None:
    grid, whole = grid_of(600, 600), fields_of(600, 600)
    out, window = writer(tmp_path, grid), list(grid.windows(300))[2]
    out.write(2, window, cut(whole, *window.slices))
    out.finish()
    expected = np.zeros((600, 600), np.uint8)
    expected[window.slices] = whole.landcover[window.slices]
    np.testing.assert_array_equal(read(tmp_path / "landcover.tif"), expected)
    expected[:] = 255
    expected[window.slices] = whole.confidence[window.slices]
    np.testing.assert_array_equal(read(tmp_path / "confidence.tif"), expected)


def test_tiles_come_in_any_order_and_reasons_have_overviews_of_their_own(tmp_path: Path) -> None:
    grid, out = grid_of(600, 600), writer(tmp_path, grid_of(600, 600))
    codes = np.tile(np.array([[1, 200], [200, 200]], np.uint8), (300, 300))
    reason = np.tile(np.array([[0, 3], [3, 2]], np.uint8), (300, 300))
    percent = np.full_like(codes, 60)
    whole = Prediction(codes, percent, percent, percent, reason, percent)
    windows = list(enumerate(grid.windows(256)))
    for index, window in windows[:0:-1]:
        out.write(index, window, cut(whole, *window.slices))
    again = writer(tmp_path, grid)
    assert [index for index, _ in windows if not again.is_done(index)] == [0]
    again.finish()
    with rasterio.open(tmp_path / "confidence.tif", overview_level=0) as file:
        shown = file.read(4)
        assert file.read(1).max() == 255
    assert np.unique(shown[128:]).tolist() == [3]
    assert np.unique(shown[:128, :128]).tolist() == [Reason.OUTSIDE_REGION]  # the tile that never came


def test_probabilities_have_a_band_for_each_class(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    grid, whole = grid_of(300, 280), fields_of(300, 280)
    out = LandCoverWriter(tmp_path, tmp_path / "scratch", grid, CLASSES, TAGS, probabilities=True)
    shares = np.random.default_rng(0).integers(0, 251, (3, 300, 280)).astype(np.uint8)
    out.write(0, grid.window, replace(whole, probabilities=shares))
    out.finish()
    assert cog_validate(tmp_path / "probabilities.tif", strict=True) == (True, [], [])
    with rasterio.open(tmp_path / "probabilities.tif") as file:
        np.testing.assert_array_equal(file.read(), shares)
        assert file.descriptions == tuple(printable(entry.name) for entry in CLASSES)
        assert (file.nodata, file.scales) == (255, (1 / 250,) * 3)


def test_a_generalised_map_is_shown_and_its_changes_named(tmp_path: Path) -> None:
    grid, whole, out = grid_of(700, 600), fields_of(700, 600), writer(tmp_path, grid_of(700, 600))
    out.write(0, grid.window, whole)
    other = tmp_path / "scratch" / "other.tif"
    rasterio.shutil.copy(out.collected, other)
    codes = whole.landcover.copy()
    codes[20:40, 20:40] = 4
    with rasterio.open(other, "r+") as file:
        file.write(codes, 1)
    for _ in range(2):  # killed after the first time, say
        out.finish(other)
        np.testing.assert_array_equal(read(tmp_path / "landcover.tif"), codes)
        expected = np.where(codes != whole.landcover, Reason.CHANGED, whole.reason)
        np.testing.assert_array_equal(read(tmp_path / "confidence.tif", 4), expected)
    with rasterio.open(tmp_path / "landcover.tif") as file:
        assert file.colormap(1)[4] == (0, 100, 0, 255)
        np.testing.assert_array_equal(file.read(1, out_shape=(350, 300)), halved(codes, "mode", 0))
    assert (tmp_path / "landcover.tif.aux.xml").exists()


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_products import cut, fields_of, grid_of, writer
grid, whole = grid_of(700, 900), fields_of(700, 900)
out = writer(Path({folder!r}), grid)
for index, window in enumerate(grid.windows(100)):
    out.write(index, window, cut(whole, *window.slices))
    print(index, flush=True)
"""


def test_killed_run_is_continued(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    code = KILLED.format(tests=str(request.path.parent), folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        seen = [int(child.stdout.readline()) for _ in range(20)][-1]
        child.send_signal(signal.SIGKILL)
    grid, whole = grid_of(700, 900), fields_of(700, 900)
    out = writer(tmp_path, grid)
    assert all(out.is_done(index) for index in range(seen + 1))
    for index, window in enumerate(grid.windows(100)):
        if not out.is_done(index):
            out.write(index, window, cut(whole, *window.slices))
    out.finish()
    write_map(tmp_path / "whole", 700, 900)
    for name in ("landcover.tif", "confidence.tif"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_unfinished_files_of_another_grid_are_refused(tmp_path: Path) -> None:
    writer(tmp_path, grid_of(50, 60))
    with pytest.raises(WorkspaceError, match="on the map's grid"):
        writer(tmp_path, grid_of(60, 50))
    assert not writer(tmp_path, grid_of(50, 60)).is_done(0)


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {tests!r})
from test_products import Prediction, grid_of, writer
from eearth.errors import DiskError
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
noise = np.random.default_rng(0).integers(0, 255, (6, 1024, 1024)).astype(np.uint8)
at = "create"
try:
    out = writer(Path({folder!r}), grid_of(1024, 1024))
    at = "write"
    out.write(0, grid_of(1024, 1024).window, Prediction(*noise))
    at = "finish"
    out.finish()
except DiskError as error:
    print(at, error)
"""


@pytest.mark.parametrize(
    ("limit", "place"),
    [
        (500_000, "write could not write {}/scratch/partial-"),
        (5_500_000, "finish could not write {}/scratch/confidence.tif"),
    ],
)
def test_full_disk_is_reported(tmp_path: Path, request: pytest.FixtureRequest, limit: int, place: str) -> None:
    code = FULL.format(tests=str(request.path.parent), folder=str(tmp_path), limit=limit)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(place.format(tmp_path))


def test_a_map_that_no_disk_holds_is_refused_at_once(tmp_path: Path) -> None:
    out = writer(tmp_path, grid_of(600_000, 600_000))
    assert sum(path.stat().st_blocks * 512 for path in (tmp_path / "scratch").iterdir()) < 2e8
    with pytest.raises(DiskError, match=r"until it is finished it takes 2,160,000 MB\), \d+ MB are free there"):
        out.require_room(600_000**2)


@pytest.mark.parametrize("size", ["1100k", "2500k", "4600k", "7500k"])
def test_disk_that_fills_up_is_reported_and_the_work_kept(tmp_path: Path, size: str) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        (folder / "scratch").mkdir()
        noise = np.random.default_rng(0).integers(0, 255, (6, 1024, 1024)).astype(np.uint8)
        with pytest.raises(DiskError, match=r"could not write .*\.tif .* MB are free there: make room"):
            write_and_finish(folder, Prediction(*noise))
        subprocess.run(["mount", "-o", "remount,size=40m", folder], check=True)
        write_and_finish(folder, Prediction(*noise))
        np.testing.assert_array_equal(read(folder / "landcover.tif"), noise[0])
        with rasterio.open(folder / "confidence.tif") as file:
            np.testing.assert_array_equal(file.read(), noise[1:])
    finally:
        subprocess.run(["umount", folder], check=True)


def write_and_finish(folder: Path, whole: Prediction) -> None:
    """Tiles that are smaller than blocks."""
    grid = grid_of(*whole.landcover.shape)
    out = writer(folder, grid)
    for index, window in enumerate(grid.windows(200)):
        if not out.is_done(index):
            out.write(index, window, cut(whole, *window.slices))
    out.finish()


def test_read_only_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file where the folder should be")
    with pytest.raises(DiskError, match="could not write"):
        LandCoverWriter(tmp_path, tmp_path / "scratch", grid_of(5, 5), CLASSES, TAGS)


def test_qgis_style_is_a_palette_with_escaped_names(tmp_path: Path) -> None:
    path = tmp_path / "landcover.qml"
    write_qml(path, CLASSES)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE qgis")
    root = ET.parse(path).getroot()  # noqa: S314
    renderer = root.find("pipe/rasterrenderer")
    assert renderer is not None
    assert (root.tag, renderer.get("type"), renderer.get("band")) == ("qgis", "paletted", "1")
    entries = [(e.get("value"), e.get("label"), e.get("color")) for e in renderer.iter("paletteEntry")]
    assert entries == [(str(entry.code), printable(entry.name), entry.colour) for entry in CLASSES]


@pytest.mark.parametrize(("height", "width"), [(40, 60), (1700, 900), (3, 1), (1, 2000)])
def test_picture_shows_the_map(tmp_path: Path, height: int, width: int) -> None:
    whole = write_map(tmp_path, height, width)
    for name in ("one.png", "two.png"):
        draw_map(tmp_path / name, tmp_path / "landcover.tif", CLASSES, title="Land cover $2023$")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    picture = np.rint(imread(tmp_path / "one.png")[..., :3] * 255).astype(int)
    assert max(picture.shape) < 2200
    step = max(1, -(-max(height, width) // 1500))
    times = max(1, 500 // max(-(-height // step), -(-width // step)))
    colours = {0: (232, 232, 232), 1: (255, 136, 0), 4: (0, 100, 0), 200: (0, 100, 200)}
    rows, cols = np.arange(7, height - step, 20), np.arange(7, width - step, 20)
    for row in rows[rows % 20 < 16]:
        for col in cols:
            seen = picture[34 + int(row / step * times) + times // 2, 16 + int(col / step * times) + times // 2]
            assert tuple(seen.tolist()) == colours[int(whole.landcover[row, col])]

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback.nginx import serve_files
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.warp import reproject, transform_bounds
from scenery import noise, utm_grid, write_tif

from eearth.errors import SourceError, WorkspaceError
from eearth.geo import raster
from eearth.geo.grid import Grid, Window
from eearth.geo.providers import Source
from eearth.geo.raster import count_values, read_header, read_onto, read_raster, write_raster
from eearth.geo.remote import transport

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILE = utm_grid(200, 300)
LAEA = CRS.from_epsg(3035)


def source_of(path: Path | str, *, nodata: float | None = 0, index: int = 1) -> Source:
    return Source(str(path), index, 1e-4, 0.0, nodata, "uint16")


@pytest.fixture(scope="module")
def hole() -> NDArray[np.uint16]:
    """Noise with a hole of nodata in it."""
    values = noise(FILE)
    values[60:90, 100:150] = 0
    return values


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, hole: NDArray[np.uint16]) -> Path:
    return write_tif(tmp_path_factory.mktemp("raster") / "file.tif", hole, FILE)


def covering(crs: CRS, side: float, bounds: tuple[float, float, float, float] = FILE.bounds) -> Grid:
    return Grid.snapped(transform_bounds(FILE.crs, crs, *bounds), crs=crs, resolution=side)


@pytest.mark.filterwarnings("ignore:Use `@` matmul")  # affine 3.1 warns of what rasterio 1.4 does
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(-60, 220), st.integers(-60, 320), st.integers(1, 120), st.integers(1, 120))
def test_aligned_pixels_are_rasterios(path: Path, row: int, col: int, height: int, width: int) -> None:
    pixels = read_onto(source_of(path), FILE.crop(Window(row, col, height, width)), "bilinear")
    with rasterio.open(path) as file:
        window = Window(row, col, height, width).rasterio
        expected = file.read(1, window=window, boundless=True, fill_value=0)
    np.testing.assert_array_equal(pixels.observed, expected != 0)
    np.testing.assert_array_equal(pixels.values[pixels.observed], expected[expected != 0])


@pytest.mark.parametrize("resampling", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    "grid",
    [
        utm_grid(390, 590, side=5),
        utm_grid(150, 200, left=500_103, top=4_999_904),
        utm_grid(40, 60, side=30, left=500_120, top=4_999_880),
        utm_grid(110, 160, side=20, left=499_980, top=5_000_040),
    ],
    ids=["10 to 5 m", "shifted", "10 to 30 m", "10 to 20 m, beyond the file"],
)
def test_warped_pixels_are_rasterios(path: Path, grid: Grid, resampling: str) -> None:
    pixels = read_onto(source_of(path), grid, resampling)
    ratio = 10 / grid.resolution[0]
    expected = np.zeros(grid.shape, dtype=np.uint16)
    with rasterio.open(path) as file:
        reproject(
            rasterio.band(file, 1),
            expected,
            dst_transform=grid.transform,
            dst_crs=grid.crs,
            dst_nodata=0,
            resampling=Resampling[resampling],
            XSCALE=ratio,
            YSCALE=ratio,
        )
    np.testing.assert_array_equal(pixels.observed, expected != 0)
    np.testing.assert_array_equal(pixels.values[pixels.observed], expected[expected != 0])


def in_file_pixels(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(row, column) in the file of each pixel centre of a grid, whole numbers at the centres of the file's pixels."""
    x, y = np.meshgrid(grid.x(), grid.y())
    x, y = Transformer.from_crs(grid.crs.to_wkt(), FILE.crs.to_wkt(), always_xy=True).transform(x, y)
    return (FILE.bounds[3] - y) / 10 - 0.5, (x - FILE.bounds[0]) / 10 - 0.5


def naive_bilinear(values: NDArray[Any], row: NDArray[np.float64], col: NDArray[np.float64]) -> NDArray[np.float64]:
    """The textbook's weighted mean of the four pixels around each place."""
    top, left = np.floor(row).astype(int), np.floor(col).astype(int)
    down, right = row - top, col - left
    around = values.astype(float)
    upper = around[top, left] * (1 - right) + around[top, left + 1] * right
    lower = around[top + 1, left] * (1 - right) + around[top + 1, left + 1] * right
    mean: NDArray[np.float64] = upper * (1 - down) + lower * down
    return mean


def test_another_crs_is_interpolated_as_the_textbook_says(tmp_path: Path) -> None:
    values = noise(FILE)
    inner = transform_bounds(FILE.crs, LAEA, 500_400, 4_998_400, 502_600, 4_999_600)
    grid = Grid.snapped(inner, crs=LAEA, resolution=10)
    pixels = read_onto(source_of(write_tif(tmp_path / "f.tif", values, FILE)), grid, "bilinear")
    row, col = in_file_pixels(grid)
    assert pixels.observed.all()
    np.testing.assert_allclose(pixels.values, naive_bilinear(values, row, col), atol=1.01)


def test_the_nearest_pixel_of_another_crs_is_the_nearest(path: Path, hole: NDArray[np.uint16]) -> None:
    grid = covering(LAEA, 10)
    pixels = read_onto(source_of(path), grid, "nearest")
    row, col = in_file_pixels(grid)
    clear_cut = (abs(row % 1 - 0.5) > 1e-3) & (abs(col % 1 - 0.5) > 1e-3)
    row, col = np.rint(row).astype(int), np.rint(col).astype(int)
    inside = (row >= 0) & (row < FILE.height) & (col >= 0) & (col < FILE.width)
    expected = np.where(inside, hole[row.clip(0, FILE.height - 1), col.clip(0, FILE.width - 1)], 0)
    np.testing.assert_array_equal(pixels.observed[clear_cut], expected[clear_cut] != 0)
    np.testing.assert_array_equal(pixels.values[clear_cut & pixels.observed], expected[clear_cut & pixels.observed])


@pytest.mark.parametrize("nodata", [0, None])
@pytest.mark.parametrize("resampling", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    "grid",
    [covering(LAEA, 10), covering(LAEA, 30), covering(CRS.from_epsg(4326), 1e-4), covering(FILE.crs, 25)],
    ids=["rotated", "rotated and coarser", "degrees", "coarser"],
)
def test_blocks_make_up_the_whole(
    tmp_path: Path, hole: NDArray[np.uint16], grid: Grid, resampling: str, nodata: float | None
) -> None:
    source = source_of(write_tif(tmp_path / "f.tif", hole, FILE, nodata=nodata), nodata=nodata)
    whole = read_onto(source, grid, resampling)
    values, observed = np.zeros_like(whole.values), np.zeros_like(whole.observed)
    row, col = grid.height // 2, grid.width // 3
    for top, bottom in ((0, row), (row, grid.height)):
        for left, right in ((0, col), (col, grid.width)):
            block = Window(top, left, bottom - top, right - left)
            part = read_onto(source, grid.crop(block), resampling)
            values[block.slices], observed[block.slices] = part.values, part.observed
    np.testing.assert_array_equal(observed, whole.observed)
    difference = abs(values.astype(int) - whole.values)[observed]
    assert difference.max() <= 1  # the last digit, where a value lies between two whole numbers
    assert (difference > 0).mean() < 2e-3


def test_what_lies_beside_the_file_is_not_observed(path: Path) -> None:
    for beside in (
        utm_grid(10, 10, left=600_000),
        utm_grid(10, 10, left=600_003),
        covering(LAEA, 7, (9e5, 5e6, 9.001e5, 5.001e6)),
    ):
        assert not read_onto(source_of(path), beside, "bilinear").observed.any()


def test_the_files_nodata_counts_and_the_announced_one_where_it_has_none(tmp_path: Path) -> None:
    values = noise(FILE, low=1, high=5)
    own = write_tif(tmp_path / "own.tif", values, FILE, nodata=3)
    none = write_tif(tmp_path / "none.tif", values, FILE, nodata=None)
    for file, announced, empty in ((own, 2, 3), (none, 2, 2), (none, None, None)):
        pixels = read_onto(source_of(file, nodata=announced), FILE, "nearest")
        np.testing.assert_array_equal(pixels.observed, values != empty if empty else np.ones(FILE.shape, dtype=bool))


def test_nan_is_no_data(tmp_path: Path) -> None:
    values = noise(FILE).astype(np.float32)
    values[5, 7] = np.nan
    pixels = read_onto(
        source_of(write_tif(tmp_path / "f.tif", values, FILE, nodata=None), nodata=None), FILE, "nearest"
    )
    assert np.argwhere(~pixels.observed).tolist() == [[5, 7]]


def test_a_band_of_several(tmp_path: Path) -> None:
    stack = np.stack([noise(FILE, seed) for seed in range(3)])
    file = write_tif(tmp_path / "f.tif", stack, FILE)
    for band in range(3):
        np.testing.assert_array_equal(read_onto(source_of(file, index=band + 1), FILE, "nearest").values, stack[band])


def test_the_header_says_what_the_file_says(path: Path, tmp_path: Path) -> None:
    header = read_header(source_of(path))
    assert (header.grid, header.dtype, header.nodata) == (FILE, "uint16", 0)
    turned = Affine(10, 1, 500_000, 1, -10, 5_000_000)
    with rasterio.open(tmp_path / "t.tif", "w", "GTiff", 10, 10, 1, FILE.crs, turned, "uint8") as file:
        file.write(np.ones((1, 10, 10), dtype=np.uint8))
    assert read_header(source_of(tmp_path / "t.tif")).grid is None


def test_a_turned_file_is_warped(tmp_path: Path) -> None:
    values = noise(utm_grid(50, 50))
    turned = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    with rasterio.open(tmp_path / "t.tif", "w", "GTiff", 50, 50, 1, FILE.crs, turned, "uint16", nodata=0) as file:
        file.write(values, 1)
    col, row = 20.5, 30.5
    x, y = turned @ (col, row)
    grid = Grid(FILE.crs, Affine(1, 0, x - 0.5, 0, -1, y + 0.5), 1, 1)
    assert read_onto(source_of(tmp_path / "t.tif"), grid, "nearest").values.item() == values[30, 20]


# --- What fails


def failure(href: Path | str) -> str:
    with pytest.raises(SourceError) as caught:
        read_onto(source_of(href), FILE, "nearest")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_local_file_that_fails_is_not_tried_again(tmp_path: Path, path: Path) -> None:
    half = tmp_path / "half.tif"
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    words = tmp_path / "words.tif"
    words.write_text("no raster")
    started = time.monotonic()
    for file in (half, words, tmp_path / "none.tif"):
        message = failure(file)
        assert file.name in message
        assert "cannot be read" in message
    assert time.monotonic() - started < 1


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_without_georeferencing_says_so(tmp_path: Path) -> None:
    with rasterio.open(tmp_path / "f.tif", "w", "GTiff", 10, 10, 1, dtype="uint8") as file:
        file.write(np.ones((1, 10, 10), dtype=np.uint8))
    assert "expected georeferencing" in failure(tmp_path / "f.tif")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same attempts with shorter pauses."""
    monkeypatch.setattr(raster, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(transport, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(transport, "PATIENCE_SECONDS", 0.5)


@pytest.mark.usefixtures("quick")
def test_503s_are_tried_again_until_they_heal(path: Path) -> None:
    """Without retries four reads of a few requests each would all succeed once in a thousand times."""
    with rasterio.open(path) as file:
        expected = file.read(1)
    with serve_files(path.parent, error_rate=0.5) as url:
        for number in range(4):
            pixels = read_onto(source_of(f"{url}/file.tif?n={number}"), FILE, "nearest")
            np.testing.assert_array_equal(pixels.values, expected)


@pytest.mark.usefixtures("quick")
def test_a_truncated_body_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GDAL would answer from its memory of the half file; a fresh attempt asks the server, which has healed."""
    grid = utm_grid(2000, 2000)
    path = write_tif(tmp_path / "late.tif", noise(grid), grid)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with serve_files(tmp_path) as url:
        monkeypatch.setattr(time, "sleep", lambda _: path.write_bytes(whole))
        pixels = read_onto(source_of(f"{url}/late.tif"), grid, "nearest")
    np.testing.assert_array_equal(pixels.values, noise(grid))


@pytest.mark.usefixtures("quick")
def test_a_truncated_body_is_no_image(path: Path, tmp_path: Path) -> None:
    (tmp_path / "half.tif").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with serve_files(tmp_path) as url:
        assert "half.tif cannot be read" in failure(f"{url}/half.tif")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("rate", [0.0, 1.0], ids=["404", "503"])
def test_a_signature_is_never_shown(tmp_path: Path, rate: float) -> None:
    with serve_files(tmp_path, error_rate=rate) as url:
        message = failure(f"{url}/gone.tif?sig=hush&token=hush-too")
    assert ("gone.tif" if rate < 1 else "has not answered") in message
    assert "hush" not in message
    assert "sig" not in message


def test_a_missing_url_is_not_tried_again(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with serve_files(tmp_path, access_log=log) as url:
        started = time.monotonic()
        assert "404" in failure(f"{url}/gone.tif")
        assert time.monotonic() - started < 2
    assert len(log.read_text().splitlines()) <= 3


@pytest.mark.usefixtures("quick")
def test_a_dead_server_is_given_up(path: Path) -> None:
    with serve_files(path.parent) as url:
        pass
    started = time.monotonic()
    assert "has not answered" in failure(f"{url}/file.tif")
    assert time.monotonic() - started < 10


# --- Rasters of our own


def test_our_own_rasters_come_back(tmp_path: Path) -> None:
    values = (noise(FILE) % 5).astype(np.uint8)
    write_raster(tmp_path / "f.tif", values, FILE, nodata=0)
    np.testing.assert_array_equal(read_raster(tmp_path / "f.tif", FILE), values)
    assert count_values(tmp_path / "f.tif").tolist() == np.bincount(values.ravel(), minlength=256).tolist()
    for other in (FILE.crop(Window(0, 1, 200, 300)), FILE.crop(Window(0, 0, 199, 300)), utm_grid(200, 300, side=20)):
        with pytest.raises(WorkspaceError, match="on the imagery's grid"):
            read_raster(tmp_path / "f.tif", other)
    with pytest.raises(WorkspaceError, match="expected a raster"):
        read_raster(tmp_path / "none.tif", FILE)

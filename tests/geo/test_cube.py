from __future__ import annotations

import shutil
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers `.rio` on xarray's objects
import xarray as xr
from rasterio.crs import CRS
from rasterio.transform import Affine
from scenery import utm_grid

from eearth.errors import WorkspaceError
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Grid, Window
from eearth.geo.providers import COMMON_ENCODING, Encoding
from eearth.manifest import folder_digest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TIMES = [datetime.fromisoformat(f"2023-0{month}-15T10:20:3{month}+00:00") for month in (3, 6, 8)]
UNSIGNED = Encoding("uint16", 1e-4, -0.1, 0)
GRIDS = {
    "utm": utm_grid(150, 97),
    "unround": utm_grid(70, 65, left=465_181.0522318204, top=5_080_254.63349641, side=9.99479222007154),
    "laea": utm_grid(64, 128, crs=CRS.from_epsg(3035), left=5_271_982.576551932, top=2_533_004.2149151857),
    "degrees": Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 14.5, 0, -1e-4, 46.0), 80, 90),
}


def random_stack(grid: Grid, encoding: Encoding) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    random = np.random.default_rng(0)
    values = random.integers(1, 10_000, (3, 2, *grid.shape)).astype(encoding.dtype)
    values[random.random(values.shape) < 0.1] = encoding.fill
    return values, random.random((3, *grid.shape)) < 0.7


def written(path: Path, grid: Grid, encoding: Encoding = UNSIGNED) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values, valid = random_stack(grid, encoding)
    cube = Cube.create(
        path, grid=grid, bands=["blue", "rededge1"], times=TIMES, items=["a b", "c", "d"], encoding=encoding
    )
    for window in grid.windows(64):
        cube.write(window, values[..., *window.slices], valid[..., *window.slices])
    return values, valid


@pytest.mark.filterwarnings("ignore:Use `@` matmul")  # affine 3.1 warns of what rioxarray does
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("encoding", [UNSIGNED, COMMON_ENCODING], ids=["uint16", "int16"])
def test_xarray_and_rioxarray_see_what_was_written(tmp_path: Path, name: str, encoding: Encoding) -> None:
    grid = GRIDS[name]
    values, valid = written(tmp_path / CUBE, grid, encoding)
    with xr.open_zarr(tmp_path / CUBE) as data:
        assert data.reflectance.dims == ("time", "band", "y", "x")
        assert data.valid.dims == ("time", "y", "x")
        np.testing.assert_allclose(data.x, grid.x(), rtol=1e-15)
        np.testing.assert_allclose(data.y, grid.y(), rtol=1e-15)
        assert list(data.time.values) == [np.datetime64(time.replace(tzinfo=None), "ns") for time in TIMES]
        assert data.band.values.tolist() == ["blue", "rededge1"]
        assert data.item.values.tolist() == ["a b", "c", "d"]
        assert data.valid.dtype == bool
        np.testing.assert_array_equal(data.valid, valid)
        expected = np.where(values == encoding.fill, np.nan, values * encoding.scale + encoding.offset)
        np.testing.assert_allclose(data.reflectance, expected, rtol=1e-5, atol=1e-7)
        assert data.reflectance.rio.crs == grid.crs
        assert data.reflectance.rio.transform() == grid.transform
        assert data.rio.crs == grid.crs


@pytest.mark.parametrize("name", GRIDS)
def test_gdal_opens_it(tmp_path: Path, name: str) -> None:
    grid = GRIDS[name]
    values, valid = written(tmp_path / CUBE, grid)
    with rasterio.open(f'ZARR:"{tmp_path / CUBE}":/reflectance') as file:
        assert file.crs == grid.crs
        assert file.transform.almost_equals(grid.transform, precision=1e-9)
        assert file.count == 6
        assert file.nodatavals == (0,) * 6
        np.testing.assert_array_equal(file.read(), values.reshape(6, *grid.shape))
    with rasterio.open(f'ZARR:"{tmp_path / CUBE}":/valid') as file:
        np.testing.assert_array_equal(file.read() > 0, valid)


@pytest.mark.parametrize("name", GRIDS)
def test_an_opened_cube_is_the_created_one(tmp_path: Path, name: str) -> None:
    values, valid = written(tmp_path / CUBE, GRIDS[name])
    cube = Cube.open(tmp_path / CUBE)
    assert cube.grid == GRIDS[name]
    assert (cube.bands, cube.items, cube.encoding) == (("blue", "rededge1"), ("a b", "c", "d"), UNSIGNED)
    assert (cube.scale, cube.offset) == (1e-4, -0.1)
    assert cube.times.tolist() == [int(time.timestamp()) * 10**9 for time in TIMES]
    np.testing.assert_array_equal(cube.reflectance[...], values)
    np.testing.assert_array_equal(cube.valid[...], valid)


def test_two_writes_have_one_digest(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / name, GRIDS["utm"])
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")


@pytest.mark.parametrize("name", GRIDS)
def test_the_files_are_those_that_zarr_would_write(tmp_path: Path, name: str) -> None:
    values, valid = written(tmp_path / "ours", GRIDS[name])
    shutil.copytree(tmp_path / "ours", tmp_path / "theirs")
    cube = Cube.open(tmp_path / "theirs")
    for array, numbers in ((cube.reflectance, values), (cube.valid, valid)):
        array[...] = 0
        array[...] = numbers
    assert folder_digest(tmp_path / "ours") == folder_digest(tmp_path / "theirs")


def test_a_block_written_again_leaves_no_trace(tmp_path: Path) -> None:
    """As after an interruption: the block that was being written holds anything."""
    grid = GRIDS["utm"]
    for name in ("once", "twice"):
        written(tmp_path / name, grid)
    values, valid = random_stack(grid, UNSIGNED)
    cube = Cube.open(tmp_path / "twice")
    corner = Window(128, 64, 22, 33)
    cube.write(corner, np.ones((3, 2, 22, 33), np.uint16), np.zeros((3, 22, 33), bool))
    (tmp_path / "twice" / "reflectance" / "0.0.2.1").write_bytes(b"half a chunk")
    cube.write(corner, values[..., *corner.slices], valid[..., *corner.slices])
    assert folder_digest(tmp_path / "once") == folder_digest(tmp_path / "twice")


def test_pixels_never_written_are_nodata(tmp_path: Path) -> None:
    Cube.create(
        tmp_path / CUBE, grid=GRIDS["utm"], bands=["blue"], times=TIMES[:1], items=["a"], encoding=COMMON_ENCODING
    )
    cube = Cube.open(tmp_path / CUBE)
    assert (np.asarray(cube.reflectance[...]) == COMMON_ENCODING.fill).all()
    assert not np.asarray(cube.valid[...]).any()


def _no_folder(path: Path) -> None:
    shutil.rmtree(path)


def _no_pixels(path: Path) -> None:
    shutil.rmtree(path / "reflectance")


def _no_crs(path: Path) -> None:
    (path / "spatial_ref" / ".zattrs").unlink()


def _words(path: Path) -> None:
    for file in (path / ".zgroup", path / ".zmetadata", path / "reflectance" / ".zarray"):
        file.write_text("words")


def _no_times(path: Path) -> None:
    shutil.rmtree(path / "time")


@pytest.mark.parametrize("spoil", [_no_folder, _no_pixels, _no_crs, _words, _no_times])
def test_what_is_no_cube_is_refused(tmp_path: Path, spoil: Any) -> None:
    written(tmp_path / CUBE, GRIDS["unround"])
    spoil(tmp_path / CUBE)
    with pytest.raises(WorkspaceError, match=r"expected a cube at .*: run `eearth download` again") as caught:
        Cube.open(tmp_path / CUBE)
    assert "\n" not in str(caught.value)

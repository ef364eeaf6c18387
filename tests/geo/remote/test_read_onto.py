"""Reading over HTTP gives what reading the local file gives, wherever the grid lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback.nginx import serve_files
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine
from tiffs import plain, write_form

from eearth.geo import raster
from eearth.geo.grid import Grid
from eearth.geo.providers import Source
from eearth.geo.raster import read_onto
from eearth.geo.remote.files import close_files, shared_files

if TYPE_CHECKING:
    from collections.abc import Iterator

HEIGHT, WIDTH = 500, 620
SHAPE = {"height": HEIGHT, "width": WIDTH, "tile": 64, "overviews": True}
FORMS = {
    "plain": {},
    "cog": {"cog": True},
    "no nodata": {"nodata": False},
    "sparse": {"sparse": True},
    "float": {"dtype": "float32", "predictor": 3},
    "uncompressed, big endian": {"compress": "NONE", "predictor": 1, "big_endian": True},
    "three bands": {"bands": 3},
    "three bands apart": {"bands": 3, "interleave": "band"},
    "colours apart": {"bands": 3, "interleave": "band", "dtype": "uint8", "nodata": False},
    "alpha": {"bands": 3, "alpha": True, "nodata": False},
    "mask": {"mask": True, "nodata": False},
}
# A neighbouring zone and a continent's projection are turned by 4°, the arctic ones by 15° and 48°.
SYSTEMS = {code: CRS.from_epsg(code) for code in (32633, 32634, 3035, 3995, 5938, 4326, 3857)}
# Metres in a unit of the system.
UNIT = {4326: 111_195.0}


@dataclass(frozen=True)
class Site:
    url: str
    folder: Path
    names: dict[str, str]

    def sources(self, name: str, band: int) -> tuple[Source, Source]:
        """The same file, local and remote."""
        local, remote = str(self.folder / self.names[name]), f"{self.url}/{self.names[name]}"
        return Source(local, band, 1.0, 0.0, None, None), Source(remote, band, 1.0, 0.0, None, None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    names = {name: write_form(folder, plain(**SHAPE | changes)).name for name, changes in FORMS.items()}
    with serve_files(folder) as url:
        yield Site(url, folder, names)
    close_files()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt: what fails at first has chosen too few tiles."""
    monkeypatch.setattr(raster, "ATTEMPTS", 1)


def grid_at(code: int, place: tuple[float, float], side: float, height: int, width: int) -> Grid:
    """A grid whose first corner lies at a place of the file."""
    row, col = place
    x, y = 500_000 + 10 * col, 5_000_000 - 10 * row
    left, top = Transformer.from_crs(32633, code, always_xy=True).transform(x, y)
    side /= UNIT.get(code, 1.0)
    return Grid(SYSTEMS[code], Affine(side, 0, left, 0, -side, top), height, width)


def assert_same(site: Site, name: str, band: int, grid: Grid, resampling: str) -> None:
    local, remote = (read_onto(source, grid, resampling) for source in site.sources(name, band))
    np.testing.assert_array_equal(remote.observed, local.observed)
    np.testing.assert_array_equal(remote.values[local.observed], local.values[local.observed])


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_aligned_pixels_are_the_local_files(site: Site, name: str, data: st.DataObject) -> None:
    row, col = data.draw(st.integers(-80, HEIGHT + 20)), data.draw(st.integers(-80, WIDTH + 20))
    height, width = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    band = data.draw(st.integers(1, FORMS[name].get("bands", 1)))
    assert_same(site, name, band, grid_at(32633, (row, col), 10, height, width), "nearest")


@pytest.mark.parametrize(("name", "row", "used"), [("plain", 30, True), ("sparse", 30, True), ("plain", -30, False)])
def test_pixels_are_put_into_a_place_that_fits(site: Site, name: str, row: int, *, used: bool) -> None:
    grid = grid_at(32633, (row, 30), 10, 200, 150)
    local, remote = site.sources(name, 1)
    place = np.full(grid.shape, 7, dtype="uint16")
    pixels, expected = read_onto(remote, grid, "nearest", place=place), read_onto(local, grid, "nearest")
    assert (pixels.values is place) == used
    np.testing.assert_array_equal(pixels.observed, expected.observed)
    np.testing.assert_array_equal(pixels.values[expected.observed], expected.values[expected.observed])


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_warped_pixels_are_the_local_files(site: Site, name: str, data: st.DataObject) -> None:
    row, col = data.draw(st.floats(-80, HEIGHT + 20)), data.draw(st.floats(-80, WIDTH + 20))
    code, side = data.draw(st.sampled_from(sorted(SYSTEMS))), data.draw(st.sampled_from((3.0, 10.0, 20.0, 60.0)))
    height, width = (data.draw(st.one_of(st.integers(1, 4), st.integers(1, 300))) for _ in range(2))
    band = data.draw(st.integers(1, FORMS[name].get("bands", 1)))
    resampling = data.draw(st.sampled_from(("nearest", "bilinear")))
    assert_same(site, name, band, grid_at(code, (row, col), side, height, width), resampling)


@pytest.mark.parametrize("code", sorted(SYSTEMS))
@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_tiles_of_a_narrow_grid_suffice(site: Site, code: int, resampling: str, data: st.DataObject) -> None:
    """GDAL widens what it reads by the ratio of the sides of a box to those of another, large for a turned strip."""
    long, short = data.draw(st.integers(200, 600)), data.draw(st.integers(1, 5))
    height, width = (long, short) if data.draw(st.booleans()) else (short, long)
    place = data.draw(st.floats(0, HEIGHT)), data.draw(st.floats(0, WIDTH))
    grid = grid_at(code, place, 10, height, width)
    assert_same(site, "plain", 1, grid, resampling)


def test_a_warp_fetches_little_more_than_it_needs(site: Site) -> None:
    """A square of 128 pixels in the neighbouring zone touches 3 x 3 or 4 x 4 tiles of 64 pixels, of 80."""
    _, remote = site.sources("plain", 1)
    costs = raster.reading_costs(remote, grid_at(32634, (150, 150), 10, 128, 128))
    header = shared_files()._header(remote)
    assert header is not None
    assert costs is not None
    assert costs[1] < 0.35 * float(header.counts.sum())

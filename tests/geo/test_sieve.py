from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.crs import CRS
from rasterio.features import sieve as gdal_sieve
from rasterio.transform import Affine
from scipy import ndimage

from eearth.geo.grid import Grid, Window, tiles_of
from eearth.geo.products.generalisation import sieve
from eearth.geo.products.generalisation.patches import Patches
from eearth.geo.products.generalisation.sieve import Tally, Unit, generalise, generalised

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

METRES = Affine(10, 0, 500_000, 0, -10, 5_000_000)
DEGREES = Affine(0.0001, 0, 14, 0, -0.0001, 60)


def unit_of(pixels: float, *, grid: Grid | None = None) -> Unit:
    """A unit of so many pixels of 10 m."""
    return Unit.on(grid or Grid(CRS.from_epsg(32633), METRES, 100, 100), pixels / 100)


def whole(codes: NDArray[np.uint8], unit: Unit) -> tuple[NDArray[np.uint8], Tally]:
    everything = Window(0, 0, *codes.shape)
    return generalised(lambda window: codes[window.slices], codes.shape, everything, unit)


def by_hand(codes: NDArray[np.uint8], least: int, rounds: int, longest: int) -> NDArray[np.uint8]:
    """The same rules on the picture itself: one patch after the other, one pixel edge after the other."""
    labels = np.zeros(codes.shape, int)
    for code in np.unique(codes[codes > 0]):
        found, _ = ndimage.label(codes == code)
        labels[found > 0] = found[found > 0] + labels.max()
    patches = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if (labels == number).sum() < least and max(side.stop - side.start for side in place) <= longest:
            patches.append(labels == number)
    now, placed = codes.copy(), (codes > 0) & ~np.any([np.zeros(codes.shape, bool), *patches], axis=0)
    for _ in range(rounds):
        after, placed_after = now.copy(), placed.copy()
        for patch in (patch for patch in patches if not placed[patch].any()):
            border: dict[int, int] = {}
            for row, col in zip(*np.nonzero(patch), strict=True):
                for r, c in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
                    if 0 <= r < codes.shape[0] and 0 <= c < codes.shape[1] and placed[r, c]:
                        border[int(now[r, c])] = border.get(int(now[r, c]), 0) + 1
            own = int(codes[patch][0])
            if border:
                placed_after[patch] = True
                after[patch] = own if own in border else min(border, key=lambda code: (-border[code], code))
        now, placed = after, placed_after
    return now


@st.composite
def maps(draw: st.DrawFn, most: int = 40) -> NDArray[np.uint8]:
    """Blots of two to five classes, and holes, from fine noise to broad fields."""
    shape = draw(st.integers(1, most)), draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    broad = draw(st.sampled_from([0.0, 0.7, 1.5]))
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), broad) for _ in range(draw(st.integers(2, 5)))]
    codes = np.argmax(fields, axis=0).astype(np.uint8) * 7 + 3
    codes[rng.random(shape) < draw(st.sampled_from([0.0, 0.1]))] = 0
    return codes


@settings(deadline=None, max_examples=25)
@given(maps(), st.integers(2, 30), st.integers(1, 4), st.integers(2, 12))
def test_small_patches_follow_the_rules(codes: NDArray[np.uint8], least: int, rounds: int, longest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sieve, "ROUNDS", rounds)
        patch.setattr(sieve, "LONGEST", longest)
        found, tally = whole(codes, unit_of(least))
    np.testing.assert_array_equal(found, by_hand(codes, least, rounds, longest))
    assert tally.pixels == (found != codes).sum()


@settings(deadline=None, max_examples=25)
@given(maps(), st.integers(2, 30), st.integers(1, 4), st.integers(1, 9), st.integers(1, 40))
def test_tiles_are_those_of_the_whole(
    codes: NDArray[np.uint8], least: int, rounds: int, longest: int, size: int
) -> None:
    looked_at = []

    def read(window: Window) -> NDArray[np.uint8]:
        looked_at.append(window)
        return codes[window.slices]

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ROUNDS", rounds), ("LONGEST", longest), ("HALO", 1)):
            patch.setattr(sieve, name, value)
        unit, tally, found = unit_of(least), Tally(), np.zeros_like(codes)
        for tile in tiles_of(codes.shape, size):
            found[tile.slices], part = generalised(read, codes.shape, tile, unit)
            tally += part
            assert looked_at[-1].height <= tile.height + 2 * unit.halo
        expected, all_together = whole(codes, unit)
    np.testing.assert_array_equal(found, expected)
    assert tally == all_together


@pytest.mark.parametrize("pixels", [1, 2, 3, 7, 8, 9])
def test_lone_patches_go_as_in_gdal(pixels: int) -> None:
    codes = np.full((90, 90), 2, np.uint8)
    codes[45:] = 5
    rng = np.random.default_rng(pixels)
    for row in range(5, 80, 10):
        for col in range(5, 80, 10):
            blot = np.zeros((9, 9), bool)
            blot[4, 4] = True
            while blot.sum() < 1 + (row * 9 + col) % 12:
                edge = ndimage.binary_dilation(blot) & ~blot
                blot.flat[rng.choice(np.flatnonzero(edge))] = True
            codes[row - 4 : row + 5, col - 4 : col + 5][blot] = 9
    codes[40:50] = np.where(np.arange(10)[:, None] < 5, 2, 5)  # none where the two fields meet
    found, _ = whole(codes, unit_of(pixels))
    np.testing.assert_array_equal(found, gdal_sieve(codes, size=pixels, connectivity=4))


def test_pixels_without_a_class_neither_change_nor_take_in() -> None:
    codes = np.zeros((30, 30), np.uint8)
    codes[:, :10], codes[20, 20], codes[5, 5] = 4, 7, 0
    found, tally = whole(codes, unit_of(50))
    np.testing.assert_array_equal(found, codes)
    assert tally == Tally(absorbed=0, pixels=0, left=1)


def test_longest_border_then_lower_code() -> None:
    codes = np.repeat(np.repeat(np.array([[5, 5], [3, 3]], np.uint8), 10, 0), 10, 1)
    codes[9:11, 4] = 8  # half of its border with each
    codes[8:11, 14] = 8  # more with 5
    found, tally = whole(codes, unit_of(5))
    assert (set(found[9:11, 4]), set(found[8:11, 14])) == ({3}, {5})
    assert tally == Tally(absorbed=2, pixels=5)


def test_unit_counts_the_ground_and_not_the_pixels() -> None:
    grid = Grid(CRS.from_epsg(4326), DEGREES, 3_000, 40)
    area, _ = Geod(ellps="WGS84").polygon_area_perimeter([14, 14, 14.0001, 14.0001], [60, 59.9999, 59.9999, 60])
    codes = np.full(grid.shape, 1, np.uint8)
    codes[5, 5:10] = codes[2990, 5:10] = 2  # five pixels: the lower ones are larger
    five = 5 * area / 1e4
    for hectares, expected in ((five * 0.999, (2, 2)), (five * 1.006, (1, 2)), (five * 1.02, (1, 1))):
        unit, found = Unit.on(grid, hectares), np.zeros_like(codes)
        for tile in tiles_of(codes.shape, 1000):
            found[tile.slices], _ = generalised(lambda window: codes[window.slices], codes.shape, tile, unit)
        assert (found[5, 7], found[2990, 7]) == expected


def test_patches_are_numbered_by_their_first_pixel() -> None:
    codes = np.random.default_rng(0).integers(0, 3, (60, 50)).astype(np.uint8)
    patches = Patches.of(codes)
    expected = np.zeros(codes.shape, int)
    for code in range(3):
        found, _ = ndimage.label(codes == code)
        expected[found > 0] = found[found > 0] + expected.max()
    _, first, order = np.unique(expected, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    np.testing.assert_array_equal(patches.numbers, rank[order].reshape(codes.shape))
    np.testing.assert_array_equal(patches.first[0] * 50 + patches.first[1], np.sort(first))
    np.testing.assert_array_equal(patches.pixels, np.bincount(patches.numbers.ravel()))


def write_map(path: Path, codes: NDArray[np.uint8]) -> Grid:
    grid = Grid(CRS.from_epsg(32633), METRES, *codes.shape)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=grid.height, width=grid.width, crs=grid.crs,
        transform=grid.transform, nodata=0, tiled=True, blockxsize=256, blockysize=256,
    ) as file:  # fmt: skip
        file.write(codes, 1)
        file.write_colormap(1, {3: (255, 0, 0, 255)})
    return grid


def blots(shape: tuple[int, int]) -> NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 2.0) for _ in range(4)]
    return np.argmax(fields, axis=0).astype(np.uint8)


KILLED = """
import sys
from pathlib import Path
import rasterio
sys.path.insert(0, {tests!r})
from eearth.geo.grid import Grid
from eearth.geo.products.generalisation import sieve
sieve.TILE = 128
with rasterio.open({source!r}) as file:
    grid = Grid(file.crs, file.transform, file.height, file.width)
unit = sieve.Unit.on(grid, 0.3)
sieve.generalise(Path({source!r}), Path({target!r}), grid, unit, lambda event: print(event, flush=True))
"""


def test_map_is_generalised_tile_by_tile_and_again_after_a_kill(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, codes = tmp_path / "map.tif", tmp_path / "sieved.tif", blots((700, 500))
    grid = write_map(source, codes)
    code = KILLED.format(tests=str(request.path.parent), source=str(source), target=str(target))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert [child.stdout.readline() for _ in range(6)][-1].startswith("Advanced")
        child.send_signal(signal.SIGKILL)
    monkeypatch.setattr(sieve, "TILE", 200)
    events = []
    tally = generalise(source, target, grid, Unit.on(grid, 0.3), events.append)
    expected, all_together = whole(codes, unit_of(30))
    with rasterio.open(source) as before, rasterio.open(target) as after:
        np.testing.assert_array_equal(before.read(1), codes)
        np.testing.assert_array_equal(after.read(1), expected)
        assert (after.nodata, after.colormap(1)[3], after.transform) == (0, (255, 0, 0, 255), grid.transform)
    assert tally == all_together
    assert min(tally.absorbed, tally.pixels) > 100
    assert len(events) == 2 + 4 * 3


def test_no_unit_and_a_unit_below_a_pixel_change_nothing() -> None:
    codes = blots((60, 60))
    for pixels in (0, 0.5, 1):
        found, tally = whole(codes, unit_of(pixels))
        np.testing.assert_array_equal(found, codes)
        assert tally == Tally()

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import Affine
from scipy import ndimage

from eearth.errors import UsageError
from eearth.geo.grid import Grid
from eearth.geo.products.generalisation import outlines as outlines_module
from eearth.geo.products.generalisation import vector, vector_file
from eearth.geo.products.generalisation.outlines import outlines
from eearth.geo.products.generalisation.patches import Patches
from eearth.geo.products.generalisation.vector import write_polygons
from eearth.geo.products.landcover.areas import count_areas

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Legend:
    code: int
    name: str
    colour: str = "#ff8800"


CLASSES = (Legend(1, "Forêt"), Legend(2, 'maize, "corn"'), Legend(200, "水"))
METRES = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 130, 170)
DEGREES = Grid(CRS.from_epsg(4326), Affine(0.0002, 0, 14, 0, -0.0001, 60), 130, 170)


def blots(shape: tuple[int, int], seed: int, broad: float = 1.0) -> NDArray[np.uint8]:
    """Patches of all sizes, holes in them, and none outside a ragged region."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), broad) for _ in range(4)]
    codes = np.array([0, 1, 2, 200], np.uint8)[np.argmax(fields, axis=0)]
    codes[:, : shape[1] // 8] = 0
    return codes


def written(folder: Path, grid: Grid, codes: NDArray[np.uint8]) -> tuple[Path, Path, NDArray[np.uint8]]:
    percent = np.random.default_rng(1).integers(1, 101, grid.shape).astype(np.uint8)
    known = {"confidence": percent, "reason": (codes == 0).astype(np.uint8)}
    for name, bands in (("landcover.tif", {"land cover": codes}), ("confidence.tif", known)):
        with rasterio.open(
            folder / name, "w", driver="GTiff", dtype="uint8", count=len(bands), height=grid.height, width=grid.width,
            crs=grid.crs, transform=grid.transform,
        ) as file:  # fmt: skip
            file.write(np.stack(list(bands.values())))
            file.descriptions = tuple(bands)
    return folder / "landcover.tif", folder / "confidence.tif", percent


def drawn(folder: Path, grid: Grid, codes: NDArray[np.uint8], name: str = "map.gpkg", **how: float) -> gpd.GeoDataFrame:
    landcover, known, _ = written(folder, grid, codes)
    count = write_polygons(
        folder / name, landcover, known, grid, CLASSES, simplify=how.get("simplify", 0), scratch=folder
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted(["landcover.tif", "confidence.tif", name])
    read = gpd.read_parquet if name.endswith("parquet") else gpd.read_file
    found = read(folder / name)
    assert len(found) == count
    return found


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.0, 0.8, 2.0]),
    st.sampled_from([0, 0.5, 1, 3]),
)  # fmt: skip
def test_outlines_have_no_gaps_and_no_overlaps(
    seed: int, height: int, width: int, broad: float, simplify: float
) -> None:
    codes = blots((height, width), seed, broad)
    patches = Patches.of(codes)
    found, numbers = outlines(patches, np.pad(codes, 1), simplify)
    assert sorted(numbers.tolist()) == list(range(len(patches)))
    assert shapely.is_valid(found).all()
    assert shapely.coverage_is_valid(found)
    assert shapely.area(found).sum() == pytest.approx(height * width)
    assert shapely.equals(shapely.union_all(found), shapely.box(0, 0, width, height))
    if not simplify:
        np.testing.assert_array_equal(shapely.area(found), patches.pixels[numbers])


@pytest.mark.parametrize(("simplify", "most"), [(0.0, 10**6), (1.0, 10**6), (1.0, 100)])
def test_squares_meet_exactly(simplify: float, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "SQUARE", 48)
    monkeypatch.setattr(vector, "MOST", most)  # the fewest: some squares are cut, and others are not
    monkeypatch.setattr(outlines_module, "SMALLEST", 12)
    codes = blots(METRES.shape, 3)
    codes[codes == 0] = 1  # a map without holes: its polygons fill the grid
    found = drawn(tmp_path, METRES, codes, simplify=simplify)
    assert found.is_valid.all()
    assert shapely.coverage_is_valid(found.geometry.to_numpy())  # each corner is shared, across the cuts as well
    assert found.area.sum() == pytest.approx(METRES.height * METRES.width * 100)
    assert shapely.equals(shapely.union_all(found.geometry.to_numpy()), shapely.box(*METRES.bounds))
    assert len(found) < 9 * len(Patches.of(codes))


def test_without_simplifying_the_raster_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "SQUARE", 100)
    codes = blots(METRES.shape, 4)
    found = drawn(tmp_path, METRES, codes)
    shapes = zip(found.geometry, found.code, strict=True)
    again = rasterize(shapes, METRES.shape, transform=METRES.transform, dtype="uint8")
    np.testing.assert_array_equal(again, codes)
    assert dict(zip(found.code, found.name, strict=True)) == {entry.code: entry.name for entry in CLASSES}
    percent = rasterio.open(tmp_path / "confidence.tif").read(1)
    assert (found.confidence * found.area / 100).sum() == pytest.approx(percent[codes > 0].sum(), rel=1e-6)


@pytest.mark.parametrize("grid", [METRES, DEGREES], ids=["metres", "degrees"])
def test_areas_are_those_of_the_raster(grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "SQUARE", 128)
    found = drawn(tmp_path, grid, blots(grid.shape, 5))
    sums = found.groupby("code")["area_ha"].sum()
    for area in count_areas(tmp_path / "landcover.tif", tmp_path / "confidence.tif", grid, CLASSES)[:3]:
        assert sums[area.code] == pytest.approx(area.square_metres / 1e4, rel=1e-9 if grid is METRES else 1e-6)


def test_simplifying_moves_borders_by_no_more_than_about_a_pixel(tmp_path: Path) -> None:
    codes = blots(METRES.shape, 6, broad=4.0)
    rough = drawn(tmp_path, METRES, codes)
    fine = drawn(tmp_path, METRES, codes, simplify=1)
    corners = [frame.geometry.count_coordinates().sum() for frame in (rough, fine)]
    assert corners[1] < 0.6 * corners[0]
    rough, fine = (frame.dissolve("code") for frame in (rough, fine))
    for before, after in zip(rough.geometry, fine.geometry, strict=True):
        assert before.difference(after).buffer(-10).is_empty
        assert after.difference(before).buffer(-10).is_empty


def test_both_formats_hold_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector, "SQUARE", 128)
    codes = blots(DEGREES.shape, 7)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    package = drawn(tmp_path / "one", DEGREES, codes, "map.gpkg", simplify=1)
    parquet = drawn(tmp_path / "two", DEGREES, codes, "map.parquet", simplify=1)
    assert list(parquet.columns) == list(package.columns) == ["code", "name", "area_ha", "confidence", "geometry"]
    assert package.crs == parquet.crs == 4326
    assert package.geometry.geom_equals_exact(parquet.geometry, 0).all()
    for name in ("code", "name", "area_ha", "confidence"):
        assert package[name].tolist() == parquet[name].tolist()
    assert pyogrio.list_layers(tmp_path / "one" / "map.gpkg").tolist() == [["landcover", "Polygon"]]
    bytes_before = (tmp_path / "one" / "map.gpkg").read_bytes()
    drawn(tmp_path / "one", DEGREES, codes, "map.gpkg", simplify=1)
    assert (tmp_path / "one" / "map.gpkg").read_bytes() == bytes_before


@pytest.mark.parametrize("name", ["map.gpkg", "map.parquet"])
def test_map_without_classes_gives_a_file_without_polygons(name: str, tmp_path: Path) -> None:
    found = drawn(tmp_path, METRES, np.zeros(METRES.shape, np.uint8), name)
    assert (len(found), found.crs) == (0, METRES.crs.to_wkt())
    assert {"code", "name", "area_ha", "confidence"} <= set(found.columns)


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_vector import CLASSES, METRES, write_polygons
from eearth.errors import DiskError
folder = Path({folder!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
for name in ("map.gpkg", "map.parquet"):
    try:
        write_polygons(folder / name, folder / "landcover.tif", folder / "confidence.tif", METRES, CLASSES,
                       simplify=0, scratch=folder)
    except DiskError as error:
        print(error)
"""


def test_full_disk_is_reported(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    written(tmp_path, METRES, blots(METRES.shape, 8, broad=0))
    code = FULL.format(tests=str(request.path.parent), folder=str(tmp_path))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"could not write {tmp_path}") for line in lines)
    assert not {path.name for path in tmp_path.iterdir()} & {"map.gpkg", "map.parquet"}


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    vector_file.check_format("gpkg")
    monkeypatch.setattr(vector_file, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match="expected pyarrow for --vector parquet"):
        vector_file.check_format("parquet")

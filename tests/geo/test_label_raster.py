"""Rasters of class codes as ground truth: on the imagery's grid, or brought onto it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine
from scipy import ndimage

from eearth.errors import LabelError
from eearth.events import Event, Note
from eearth.geo.grid import Grid
from eearth.geo.labels.label_raster import is_raster, read_label_raster
from eearth.geo.labels.mapping import read_legend
from eearth.geo.labels.patches import patches_of
from eearth.geo.sampling.classmap import read_map

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 24, 30)
RNG = np.random.default_rng(5)
NOISE = RNG.choice(np.array([0, 3, 7, 9], np.uint8), GRID.shape, p=[0.7, 0.1, 0.1, 0.1])


def saved(path: Path, values: NDArray[Any], grid: Grid | None = GRID, **profile: Any) -> Path:
    place = {"crs": grid.crs, "transform": grid.transform} if grid else {}
    values = values if values.ndim == 3 else values[None]
    kind = {"dtype": values.dtype, "count": len(values), "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", **kind, **place, **profile) as file:
        file.write(values)
    return path


def moved(grid: Grid, columns: float, rows: float, shape: tuple[int, int], pixel: float = 10) -> Grid:
    t = grid.transform
    return Grid(grid.crs, Affine(pixel, 0, t.c + 10 * columns, 0, -pixel, t.f - 10 * rows), *shape)


def test_codes_on_the_same_grid_are_copied(tmp_path: Path) -> None:
    read = read_label_raster(saved(tmp_path / "l.tif", NOISE), GRID)
    np.testing.assert_array_equal(read.codes, NOISE)
    assert [(c.code, c.name, c.pixels) for c in read.classes] == [
        (code, str(code), int((code == NOISE).sum())) for code in (3, 7, 9)
    ]


@pytest.mark.parametrize("site", ["slovenia", "brandenburg"])
def test_real_label_rasters_come_back_as_they_are(real_data: Path, site: str) -> None:
    path = real_data / site / "labels.tif"
    with rasterio.open(path) as file:
        grid, expected = Grid(file.crs, file.transform, *file.shape), file.read(1)
    np.testing.assert_array_equal(read_label_raster(path, grid).codes, expected)


@pytest.mark.parametrize(("columns", "rows", "shape"), [(-7, -5, (60, 60)), (4, 3, (10, 12)), (-3, 6, (8, 60))])
@pytest.mark.parametrize("resampling", ["nearest", "majority"])
def test_a_file_on_the_same_lattice_is_cut_and_filled(
    tmp_path: Path, columns: int, rows: int, shape: tuple[int, int], resampling: Any
) -> None:
    values = RNG.choice(np.array([0, 1, 2], np.int16), shape)
    path = saved(tmp_path / "l.tif", values, moved(GRID, columns, rows, shape))
    expected = np.zeros(GRID.shape, np.uint8)
    for row, column in np.ndindex(*GRID.shape):
        if 0 <= row - rows < shape[0] and 0 <= column - columns < shape[1]:
            expected[row, column] = values[row - rows, column - columns]
    np.testing.assert_array_equal(read_label_raster(path, GRID, resampling=resampling).codes, expected)


def test_nodata_counts_beside_a_mask(tmp_path: Path) -> None:
    path, seen = saved(tmp_path / "l.tif", NOISE, nodata=7), RNG.random(GRID.shape) < 0.8
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(seen)
    read = read_label_raster(path, GRID)
    np.testing.assert_array_equal(read.codes, np.where(seen & (NOISE != 7), NOISE, 0))
    found = {one.code: one.pixels for one in read_map(path).strata if one.code}
    assert found == {code: int((seen & (code == NOISE)).sum()) for code in (3, 9)}


def test_tiles_show_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = RNG.choice(np.array([0, 1, 2], np.uint8), (90, 90))
    path = saved(
        tmp_path / "l.tif", values, Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 14.99903, 0, -8e-5, 45.156), 90, 90)
    )
    for resampling in ("nearest", "majority"):
        whole = read_label_raster(path, GRID, resampling=resampling).codes  # type: ignore[arg-type]
        monkeypatch.setattr("eearth.geo.labels.label_raster.TILE", 7)
        np.testing.assert_array_equal(read_label_raster(path, GRID, resampling=resampling).codes, whole)  # type: ignore[arg-type]
        monkeypatch.undo()


@pytest.mark.parametrize("epsg", [4326, 3035, 32632, 3857])
@pytest.mark.parametrize("pixel", [10, 2000])
def test_nearest_is_the_files_pixel_at_each_centre(tmp_path: Path, epsg: int, pixel: int) -> None:
    grid = Grid(GRID.crs, Affine(pixel, 0, 500_000, 0, -pixel, 5_000_000), 100, 130)
    to_file = Transformer.from_crs(32633, epsg, always_xy=True)
    left, _, right, top = to_file.transform_bounds(*grid.bounds)
    side = (right - left) / 170
    place = Grid(CRS.from_epsg(epsg), Affine(side, 0, left - 3.3 * side, 0, -side, top + 3.3 * side), 230, 180)
    values = RNG.choice(np.array([0, 5, 6], np.uint8), place.shape)
    x, y = to_file.transform(*np.meshgrid(grid.x(), grid.y()))
    columns, rows = ~place.transform @ (np.asarray(x), np.asarray(y))
    clear = (np.abs(columns - np.round(columns)) > 1e-3) & (np.abs(rows - np.round(rows)) > 1e-3)
    expected = values[np.floor(rows).astype(int), np.floor(columns).astype(int)]
    found = read_label_raster(saved(tmp_path / "l.tif", values, place), grid, resampling="nearest").codes
    np.testing.assert_array_equal(found[clear], expected[clear])
    assert clear.mean() > 0.9


def test_majority_counts_no_label_like_a_class(tmp_path: Path) -> None:
    fine = RNG.choice(np.array([0, 1, 2], np.uint8), (24 * 5, 30 * 5), p=[0.4, 0.3, 0.3])
    path = saved(tmp_path / "l.tif", fine, moved(GRID, 0, 0, fine.shape, pixel=2))
    found = read_label_raster(path, GRID).codes
    blocks = fine.reshape(24, 5, 30, 5).transpose(0, 2, 1, 3).reshape(24, 30, 25)
    counts = np.stack([(blocks == value).sum(axis=-1) for value in range(3)], axis=-1)
    clear = np.sort(counts, axis=-1)[..., -1] > np.sort(counts, axis=-1)[..., -2]
    np.testing.assert_array_equal(found[clear], counts.argmax(axis=-1)[clear])
    assert clear.mean() > 0.7
    assert (found[clear] == 0).any()


def test_majority_of_coarse_pixels_is_the_one_around(tmp_path: Path) -> None:
    coarse = RNG.choice(np.array([1, 2], np.uint8), (8, 10))
    path = saved(tmp_path / "l.tif", coarse, moved(GRID, 0, 0, (8, 10), pixel=30))
    np.testing.assert_array_equal(read_label_raster(path, GRID).codes, np.kron(coarse, np.ones((3, 3))))


def test_a_rotated_raster_is_turned(tmp_path: Path) -> None:
    turned = Affine(0, 10, 500_000, 10, 0, 4_999_760)  # rows run east, columns north
    values = RNG.choice(np.array([1, 2], np.uint8), (30, 24))
    with rasterio.open(
        tmp_path / "l.tif", "w", driver="GTiff", dtype="uint8", count=1, height=30, width=24, crs=GRID.crs,
        transform=turned,
    ) as file:  # fmt: skip
        file.write(values, 1)
    for resampling in ("nearest", "majority"):
        found = read_label_raster(tmp_path / "l.tif", GRID, resampling=resampling)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.codes, values.T[::-1])


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "uint32", "int32", "float32", "float64", "int64"])
def test_codes_of_any_number_type(tmp_path: Path, dtype: str) -> None:
    path = saved(tmp_path / "l.tif", NOISE.astype(dtype))
    np.testing.assert_array_equal(read_label_raster(path, GRID).codes, NOISE)


def test_nodata_masks_and_nan_are_no_label(tmp_path: Path) -> None:
    path = saved(tmp_path / "n.tif", NOISE, nodata=7)
    np.testing.assert_array_equal(read_label_raster(path, GRID).codes, np.where(NOISE == 7, 0, NOISE))
    path = saved(tmp_path / "f.tif", np.where(NOISE == 0, np.nan, NOISE).astype(np.float32), nodata=np.nan)
    np.testing.assert_array_equal(read_label_raster(path, GRID).codes, NOISE)
    path = saved(tmp_path / "m.tif", NOISE)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        hidden = RNG.random(NOISE.shape) < 0.5
        file.write_mask(~hidden)
    np.testing.assert_array_equal(read_label_raster(path, GRID).codes, np.where(hidden, 0, NOISE))


# --- names, colours and legends ---


def test_names_and_colours_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "l.tif", NOISE)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {3: (1, 2, 3), 7: (255, 0, 16)})
    names = ["", "", "", "fallow &amp; &lt;b&gt;", "", "", "", "oak"]
    categories = "".join(f"<Category>{name}</Category>" for name in names)
    (tmp_path / "l.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{categories}</CategoryNames></PAMRasterBand></PAMDataset>',
        encoding="utf-8",
    )
    classes = read_label_raster(path, GRID).classes
    assert [(c.name, c.colour) for c in classes[:2]] == [("fallow & <b>", "#010203"), ("oak", "#ff0010")]
    assert classes[2].name == "9"
    assert classes[2].colour != "#000000"  # which the table says of all values that nobody coloured


def test_the_map_of_eearth_itself_comes_back_with_its_names(tmp_path: Path) -> None:
    from eearth.geo.labels.legend import LandCoverClass
    from eearth.geo.products.landcover.legend import write_category_names

    path = saved(tmp_path / "landcover.tif", NOISE)
    classes = [LandCoverClass(3, "<b>x</b>", "#000000", 1, 1), LandCoverClass(9, 'a, "b"', "#000000", 1, 1)]
    write_category_names(path, classes)
    assert [c.name for c in read_label_raster(path, GRID).classes] == ["<b>x</b>", "7", 'a, "b"']


def test_an_attribute_table_of_gdal(tmp_path: Path) -> None:
    path = saved(tmp_path / "l.tif", NOISE)
    columns = [("Note", 2, 0), ("Wert", 0, 5), ("Art", 2, 2), ("X", 0, 6), ("Y", 0, 7), ("Z", 0, 8)]
    fields = "".join(
        f'<FieldDefn index="{n}"><Name>{name}</Name><Type>{kind}</Type><Usage>{use}</Usage></FieldDefn>'
        for n, (name, kind, use) in enumerate(columns)
    )
    rows = "".join(
        f'<Row index="{n}">{"".join(f"<F>{cell}</F>" for cell in row)}</Row>'
        for n, row in enumerate([("?", 3, "wood", 0, 100, 0), ("?", 7, "wood", 1, 1, 1), ("?", 9, "", 255, 255, 0)])
    )
    (tmp_path / "l.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><GDALRasterAttributeTable>{fields}{rows}</GDALRasterAttributeTable>'
        "</PAMRasterBand></PAMDataset>",
        encoding="utf-8",
    )
    classes = read_label_raster(path, GRID).classes
    assert [(c.name, c.colour) for c in classes] == [("wood", "#006400"), ("wood (7)", "#010101"), ("9", "#ffff00")]


def test_an_attribute_table_of_esri(tmp_path: Path) -> None:
    path = saved(tmp_path / "l.tif", NOISE)
    table = {"Value": [3, 7], "Count": [1, 1], "CODE": ["x", "y"], "LABEL3": ["Forest", "Sea"], "Red": [1, 2]}
    frame = pd.DataFrame(table)
    pyogrio.write_dataframe(frame, tmp_path / "t.dbf", driver="ESRI Shapefile")
    (tmp_path / "t.dbf").rename(tmp_path / "l.tif.vat.dbf")
    assert [c.name for c in read_label_raster(path, GRID).classes] == ["Forest", "Sea", "9"]


def test_a_legend_counts_more_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("value,name,code,colour\n3,Wood,1,#006400\n7,Wood,,\n9,,,\n", encoding="utf-8")
    values = np.where(NOISE == 0, np.int16(500), NOISE)
    path = saved(tmp_path / "l.tif", values)
    legend = read_legend(str(tmp_path / "l.csv"))
    with pytest.raises(LabelError, match="found 1 that it does not have: `500`"):
        read_label_raster(path, GRID, legend=legend)
    with pytest.raises(LabelError, match=r"at least 2 classes .* found `Wood`"):
        read_label_raster(path, GRID, legend=legend, skip_unmapped=True)


def test_a_legend_may_name_the_files_own_names(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("value,name\noak,Wood\n7,Rock\n9,\n", encoding="utf-8")
    path = saved(tmp_path / "l.tif", NOISE)
    (tmp_path / "l.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category/><Category/><Category/><Category>Oak</Category>'
        "</CategoryNames></PAMRasterBand></PAMDataset>",
        encoding="utf-8",
    )
    heard: list[Event] = []
    read = read_label_raster(path, GRID, legend=read_legend(str(tmp_path / "l.csv")), report=heard.append)
    np.testing.assert_array_equal(read.codes, np.select([NOISE == 3, NOISE == 7], [2, 1], 0))
    assert [c.name for c in read.classes] == ["Rock", "Wood"]
    assert [e.text.split(" of ")[0] for e in heard if isinstance(e, Note)] == [f"{(NOISE == 9).sum()} pixels"]


def test_products_with_their_legends(tmp_path: Path) -> None:
    cover = np.choose(NOISE % 4, [np.uint8(0), np.uint8(10), np.uint8(80), np.uint8(95)])
    read = read_label_raster(saved(tmp_path / "w.tif", cover), GRID, legend=read_legend("worldcover"))
    assert {c.name: c.colour for c in read.classes}.items() <= dict(read_legend("worldcover").colours).items()
    np.testing.assert_array_equal(read.codes, cover)
    world = np.choose(NOISE % 4, [np.uint8(0), np.uint8(1), np.uint8(2), np.uint8(2)])
    read = read_label_raster(saved(tmp_path / "d.tif", world), GRID, legend=read_legend("dynamic-world"))
    np.testing.assert_array_equal(read.codes, np.where(world == 0, 9, world))
    assert read.classes[-1].name == "Water"
    path = saved(tmp_path / "dn.tif", world, nodata=0)
    np.testing.assert_array_equal(read_label_raster(path, GRID, legend=read_legend("dynamic-world")).codes, world)
    codes = np.choose(NOISE % 4, [np.int16(-128), np.int16(311), np.int16(112), np.int16(523)])
    read = read_label_raster(saved(tmp_path / "c.tif", codes, nodata=-128), GRID, legend=read_legend("corine"))
    assert (read.classes[0].name, read.classes[0].colour) == ("Broad-leaved forest", "#80ff00")


# --- what cannot be used ---


@pytest.mark.parametrize(
    ("values", "profile", "message"),
    [
        (NOISE.astype(np.int16) * 100, {}, "codes from 1 to 255 .* found `300`, `700`, `900`: give a --legend"),
        (NOISE.astype(np.int16) - 4, {}, "found `-4`, `-1`"),
        (NOISE.astype(np.float32) / 2, {}, "numbers that are not whole, such as 1.5"),
        (np.stack([NOISE] * 3), {}, "expected one band .* found 3: run `gdal_translate -b 1"),
        (NOISE.astype(np.complex64), {}, "found values of the type complex64"),
        (NOISE, {"nodata": 3, "grid": moved(GRID, 500, 0, (24, 30))}, "expected labels on the imagery"),
        (np.zeros_like(NOISE), {}, "at least 2 classes .* found none"),
        (np.zeros_like(NOISE), {"nodata": 0}, "labelled pixels .* found none"),
        (np.full_like(NOISE, 3), {}, "at least 2 classes .* found `3`"),
        (NOISE, {"grid": None}, "expected georeferencing in .* -a_srs"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rasters_that_cannot_be_used(
    tmp_path: Path, values: NDArray[Any], profile: dict[str, Any], message: str
) -> None:
    path = saved(tmp_path / "l.tif", values, **profile)
    with pytest.raises(LabelError, match=message) as caught:
        read_label_raster(path, GRID)
    assert "\n" not in str(caught.value)


def test_a_damaged_raster_is_one_line(tmp_path: Path) -> None:
    values = RNG.choice(np.array([1, 2, 3], np.uint8), (200, 200))
    path = saved(tmp_path / "l.tif", values, moved(GRID, 0, 0, values.shape), compress="deflate")
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(len(content) - 2000) + content[-1000:])
    with pytest.raises(LabelError, match="cannot be read"):
        read_label_raster(path, moved(GRID, 0, 0, values.shape))


def test_which_files_are_rasters(tmp_path: Path) -> None:
    assert is_raster(saved(tmp_path / "l.TIF", NOISE))
    (tmp_path / "text.tif").write_text("hello", encoding="utf-8")
    (tmp_path / "l.vrt").write_text("<OGRVRTDataSource></OGRVRTDataSource>", encoding="utf-8")
    (tmp_path / "l.csv").write_text("x,y,z\n1,2,3\n2,2,3\n", encoding="utf-8")
    saved(tmp_path / "l.dat", NOISE)
    for name in ("text.tif", "l.vrt", "l.csv", "l.dat", "none.tif"):
        assert not is_raster(tmp_path / name)


# --- patches ---


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_patches_are_connected_pixels_of_one_class(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.choice(np.array([0, 1, 255], np.uint8), (height, width), p=[0.7, 0.15, 0.15])
    features, counts = patches_of(codes)
    if (codes > 0).mean() > 0.5:
        assert not features.any()
        assert counts == {}
        return
    assert sorted(np.unique(features[codes > 0])) == list(range(1, sum(counts.values()) + 1))
    assert (features[codes == 0] == 0).all()
    for number in range(1, int(features.max(initial=0)) + 1):
        place = features == number
        assert len(np.unique(codes[place])) == 1
        assert ndimage.label(place)[1] == 1
        around = ndimage.binary_dilation(place) & ~place
        assert (codes[around] != codes[place][0]).all()

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from pyproj import Geod, Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine

from eearth.events import Warned
from eearth.geo.grid import Grid
from eearth.geo.products.landcover import areas
from eearth.geo.products.landcover.areas import count_areas, write_areas
from eearth.geo.products.landcover.prediction import Reason

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GEOD = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Legend:
    code: int
    name: str
    colour: str = "#ff8800"


CLASSES = (Legend(1, "water"), Legend(7, 'maize, "corn"'), Legend(200, "seen nowhere"))


def write(path: Path, bands: dict[str, NDArray[np.uint8]], grid: Grid) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=len(bands), height=grid.height, width=grid.width,
        crs=grid.crs, transform=grid.transform,
    ) as file:  # fmt: skip
        file.write(np.stack(list(bands.values())))
        file.descriptions = tuple(bands)
    return path


def written(folder: Path, grid: Grid, seed: int = 0) -> tuple[Path, Path, NDArray[np.uint8], NDArray[np.uint8]]:
    """A map: half of it outside the region, some of the rest never observed or rejected."""
    rng = np.random.default_rng(seed)
    unmapped = Reason.NEVER_OBSERVED, Reason.REJECTED
    reasons = rng.choice([Reason.MAPPED] * 3 + [*unmapped, Reason.CHANGED], grid.shape).astype(np.uint8)
    codes = np.where(np.isin(reasons, unmapped), 0, rng.choice([1, 7], grid.shape)).astype(np.uint8)
    codes[:, : grid.width // 2], reasons[:, : grid.width // 2] = 0, Reason.OUTSIDE_REGION
    landcover = write(folder / "landcover.tif", {"land cover": codes}, grid)
    known = write(folder / "confidence.tif", {"confidence": codes, "margin": codes, "reason": reasons}, grid)
    return landcover, known, codes, reasons


GRIDS = {
    "UTM": Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 150, 130),
    "degrees": Grid(CRS.from_epsg(4326), Affine(0.02, 0, 14, 0, -0.01, 61), 150, 130),
    "Web Mercator": Grid(CRS.from_epsg(3857), Affine(900, 0, 1_600_000, 0, -900, 8_600_000), 150, 130),
    "polar": Grid(CRS.from_epsg(3413), Affine(2000, 0, 1_900_000, 0, -2000, 300_000), 150, 130),
}


def cell(grid: Grid, row: int, col: int) -> float:
    """Square metres of a pixel, as pyproj measures a polygon of geodesics with many corners."""
    along = np.linspace(0, 1, 9)
    xs = np.concatenate([col + along, np.full(9, col + 1), col + 1 - along, np.full(9, col)])
    ys = np.concatenate([np.full(9, row), row + along, np.full(9, row + 1), row + 1 - along])
    lon, lat = Transformer.from_crs(grid.crs.to_wkt(), 4326, always_xy=True).transform(*(grid.transform @ (xs, ys)))
    return abs(float(GEOD.polygon_area_perimeter(lon, lat)[0]))


@pytest.mark.parametrize("name", GRIDS)
def test_areas_are_those_on_the_ground(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(areas, "TILE", 64)
    grid = GRIDS[name]
    landcover, known, codes, reasons = written(tmp_path, grid)
    found = count_areas(landcover, known, grid, CLASSES)
    assert [(area.code, area.name) for area in found] == [
        (1, "water"), (7, 'maize, "corn"'), (200, "seen nowhere"), (None, "never observed"), (None, "rejected"),
    ]  # fmt: skip
    wanted = [codes == 1, codes == 7, codes == 200, reasons == Reason.NEVER_OBSERVED, reasons == Reason.REJECTED]
    assert [area.pixels for area in found] == [int(mask.sum()) for mask in wanted]
    rows, cols = range(5, 150, 10), range(5, 130, 10)  # an area changes evenly over a few pixels
    coarse = np.array([[cell(grid, row, col) for col in cols] for row in rows])
    size = coarse.repeat(10, 0).repeat(10, 1)
    if name == "UTM":  # pixels of one size, as everybody counts them
        size[:] = 100
    for area, mask in zip(found, wanted, strict=True):
        assert area.square_metres == pytest.approx(size[mask].sum(), rel=1e-3 if mask.any() else 0)
    total = sum(area.square_metres for area in found)
    assert [area.share for area in found] == pytest.approx([area.square_metres / total for area in found])


def test_degrees_are_exact(tmp_path: Path) -> None:
    grid = Grid(CRS.from_epsg(4326), Affine(0.5, 0, 14, 0, -0.5, 70), 40, 2)
    landcover, known, codes, _ = written(tmp_path, grid)
    found = count_areas(landcover, known, grid, CLASSES)
    # Between two parallels, as a polygon whose corners follow them closely.
    west, east = np.linspace(0, 0.5, 400), np.linspace(0.5, 0, 400)
    size = []
    for row in range(40):
        lat = np.concatenate([np.full(400, 69.5 - row / 2), np.full(400, 70 - row / 2)])
        size.append(GEOD.polygon_area_perimeter(np.concatenate([west, east]), lat)[0])
    for area, code in zip(found, (1, 7), strict=False):
        assert area.square_metres == pytest.approx(np.array(size) @ (codes == code).sum(axis=1), rel=1e-6)


def test_table_says_how_it_was_counted(tmp_path: Path) -> None:
    landcover, known, codes, _ = written(tmp_path, GRIDS["UTM"])
    path = tmp_path / "areas.csv"
    write_areas(path, count_areas(landcover, known, GRIDS["UTM"], CLASSES))
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["code"] for row in rows] == ["1", "7", "200", "", ""]
    assert (rows[1]["name"], rows[1]["pixels"]) == ('maize, "corn"', str((codes == 7).sum()))
    assert float(rows[1]["area_km2"]) == pytest.approx((codes == 7).sum() / 10_000)
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-5)
    assert all("biased" in row["method"] and "eearth assess" in row["method"] for row in rows)


def test_map_without_a_pixel_of_the_region_has_no_areas(tmp_path: Path) -> None:
    grid, nothing = GRIDS["UTM"], np.zeros(GRIDS["UTM"].shape, np.uint8)
    landcover = write(tmp_path / "landcover.tif", {"land cover": nothing}, grid)
    known = write(tmp_path / "confidence.tif", {"confidence": nothing, "reason": nothing + Reason.OUTSIDE_REGION}, grid)
    assert {(area.pixels, area.square_metres, area.share) for area in count_areas(landcover, known, grid, CLASSES)} == {
        (0, 0.0, 0.0)
    }


def test_grid_that_reaches_off_the_globe_has_its_pixels_counted(tmp_path: Path) -> None:
    grid = Grid(CRS.from_epsg(3035), Affine(1e6, 0, -5e7, 0, -1e6, 5e7), 100, 100)
    landcover, known, codes, _ = written(tmp_path, grid)
    events: list[object] = []
    found = count_areas(landcover, known, grid, CLASSES, events.append)
    assert found[0].pixels == (codes == 1).sum()
    assert found[0].share == pytest.approx(found[0].pixels / sum(area.pixels for area in found))
    warned = [event.text for event in events if isinstance(event, Warned)]
    assert len(warned) == 1
    assert warned[0].startswith("no areas in square kilometres: expected a map on the globe")
    write_areas(tmp_path / "areas.csv", found)
    assert f"1,water,{found[0].pixels},," in (tmp_path / "areas.csv").read_text(encoding="utf-8")

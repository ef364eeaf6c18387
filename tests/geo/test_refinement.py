from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine
from scipy import ndimage

from eearth.errors import EearthError
from eearth.geo.grid import Grid
from eearth.geo.products.generalisation.refinement import Refinement
from eearth.geo.products.generalisation.sieve import Unit, generalised
from eearth.geo.products.landcover.prediction import Prediction, Reason
from eearth.geo.products.landcover.writer import LandCoverWriter

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Legend:
    code: int
    name: str
    colour: str


CLASSES = (Legend(1, "forest", "#006400"), Legend(4, "water", "#0064c8"), Legend(9, "snow", "#ffffff"))
GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), 300, 260)


def made() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Blots of all classes, with holes and a lone island in the west; and the reasons."""
    rng = np.random.default_rng(0)
    fields = [ndimage.gaussian_filter(rng.standard_normal(GRID.shape), 1.5) for _ in CLASSES]
    codes = np.array([entry.code for entry in CLASSES], np.uint8)[np.argmax(fields, axis=0)]
    reasons = rng.choice([Reason.MAPPED] * 96 + [Reason.NEVER_OBSERVED, Reason.REJECTED] * 2, GRID.shape).astype(
        np.uint8
    )
    reasons[:, :40], reasons[100:103, 10:14] = Reason.OUTSIDE_REGION, Reason.MAPPED
    return np.where(reasons == Reason.MAPPED, codes, 0).astype(np.uint8), reasons


def writer(folder: Path) -> LandCoverWriter:
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    return LandCoverWriter(folder, folder / "scratch", GRID, CLASSES, {"MODEL": "ab"})


def full(folder: Path) -> LandCoverWriter:
    codes, reasons = made()
    percent, out = np.full(GRID.shape, 80, np.uint8), writer(folder)
    for index, tile in enumerate(GRID.windows(128)):
        of = tile.slices
        band = percent[of]
        out.write(index, tile, Prediction(codes[of], band, band, band, reasons[of], band))
    return out


def test_a_map_is_refined(tmp_path: Path) -> None:
    codes, reasons = made()
    expected, tally = generalised(lambda w: codes[w.slices], GRID.shape, GRID.window, Unit.on(GRID, 0.5))
    path, figures = Refinement(GRID, 0.5, "gpkg", 0.0).finish(full(tmp_path), CLASSES, tmp_path, tmp_path / "scratch")
    with rasterio.open(path) as landcover, rasterio.open(tmp_path / "confidence.tif") as known:
        np.testing.assert_array_equal(landcover.read(1), expected)
        assert (landcover.tags()["CLASS_4"], landcover.colormap(1)[4][:3]) == ("water", (0, 100, 200))
        np.testing.assert_array_equal(known.read(4), np.where(expected != codes, Reason.CHANGED, reasons))
    assert "water" in (tmp_path / "landcover.tif.aux.xml").read_text(encoding="utf-8")
    with (tmp_path / "areas.csv").open(encoding="utf-8") as file:
        counted = {row["name"]: int(row["pixels"]) for row in csv.DictReader(file)}
    assert counted == {entry.name: int((expected == entry.code).sum()) for entry in CLASSES} | {
        "never observed": int((reasons == Reason.NEVER_OBSERVED).sum()),
        "rejected": int((reasons == Reason.REJECTED).sum()),
    }  # fmt: skip
    polygons = gpd.read_file(tmp_path / "landcover.gpkg")
    assert polygons.area.sum() == pytest.approx((expected > 0).sum() * 100)
    region = (reasons != Reason.OUTSIDE_REGION).sum()
    assert figures == {
        "mapped pixels": int((expected > 0).sum()),
        "mapped area": f"{(expected > 0).sum() / 10_000:.2f} km²",
        **{name: f"{pixels / region:.1%}" for name, pixels in counted.items()},
        "minimum mapping unit": (
            f"0.5 ha: {tally.absorbed} smaller patches ({tally.pixels} pixels) took a neighbour's class"
            f"; {tally.left} border nothing larger, and stay"
        ),
        "polygons": len(polygons),
    }
    assert min(tally.absorbed, tally.left) > 0


def test_it_can_be_done_again_after_a_kill(tmp_path: Path) -> None:
    refinement = Refinement(GRID, 0.5, "none", 1.0)
    refinement.finish(full(tmp_path / "one"), CLASSES, tmp_path / "one", tmp_path / "one" / "scratch")
    full(tmp_path / "two")
    for _ in range(2):  # killed after everything but the end of the stage; nothing is mapped anew
        refinement.finish(writer(tmp_path / "two"), CLASSES, tmp_path / "two", tmp_path / "two" / "scratch")
    for name in ("landcover.tif", "confidence.tif", "areas.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_without_wishes_the_map_stays_as_it_is(tmp_path: Path) -> None:
    codes, reasons = made()
    path, figures = Refinement(GRID, 0.0, "none", 1.0).finish(full(tmp_path), CLASSES, tmp_path, tmp_path / "scratch")
    with rasterio.open(path) as landcover, rasterio.open(tmp_path / "confidence.tif") as known:
        np.testing.assert_array_equal(landcover.read(1), codes)
        np.testing.assert_array_equal(known.read(4), reasons)
    assert not {"minimum mapping unit", "polygons"} & set(figures)
    assert not list(tmp_path.glob("*.gpkg"))


def test_what_cannot_be_done_is_said_before_the_first_tile() -> None:
    off = Grid(CRS.from_epsg(3035), Affine(1e6, 0, -5e7, 0, -1e6, 5e7), 100, 100)
    Refinement(off, 0.0, "none", 1.0)
    for wish in ((1.0, "none"), (0.0, "gpkg")):
        with pytest.raises(EearthError, match="on the globe"):
            Refinement(off, *wish, 1.0)

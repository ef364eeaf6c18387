"""Whether a map shows where its tiles or windows meet.

    python benchmarks/seams.py WORKSPACE [--tile-size 64] [--window-size 96] [--shifts 20]

Maps the imagery of a workspace with its trained model three times: tile by tile as `eearth predict` does, in windows
that meet without any overlap, which must be found out, and, for as many random cuts of the imagery as are wanted, anew.

A seam is looked for by the share of neighbouring pixels of which one is another class, and by how much the confidence
differs, across the lines in question and by how much that exceeds the lines beside them. The same lines shifted by
every number of pixels up to their distance are what chance makes of them: the p-value is the share of these that show
as much. Without seams it is evenly distributed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eearth.data.regions import open_series
from eearth.data.series import Series
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Grid, Window
from eearth.geo.lattice import margin_for, phase_of
from eearth.inference.classify import classify
from eearth.inference.tiles import predict_tile
from eearth.models.files import LAND_COVER, load_land_cover
from eearth.models.segmentation import LandCoverModel
from eearth.workspace import Workspace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.geo.products.landcover.prediction import Prediction


@dataclass(frozen=True)
class Seam:
    """What shows at the lines, and how likely chance shows as much.

    Attributes:
        excess: By how much more differs across the lines than across those beside them.
        elsewhere: The same of all other lines.
        p: See the module.
    """

    excess: float
    elsewhere: float
    p: float


def across(values: NDArray[np.uint8], axis: int, *, classes: bool) -> NDArray[np.float64]:
    """How much more each line of pixels differs from the one before than its neighbours do; NaN at the edges.

    Args:
        values: (y, x).
        axis: 0 for rows, 1 for columns.
        classes: Whether only equality counts.
    """
    lines = np.moveaxis(values.astype(np.int16), axis, 0)
    steps = np.abs(np.diff(lines, axis=0))
    step = np.concatenate([[np.nan], (steps > 0 if classes else steps).mean(axis=1), [np.nan]])
    beside = (step[:-2] + step[2:]) / 2  # what changes over the map, such as fields here and forest there, is in both
    return np.concatenate([[np.nan], step[1:-1] - beside])


def seam(values: NDArray[np.uint8], distance: int, first: tuple[int, int] = (0, 0), *, classes: bool) -> Seam:
    """Look for seams at every `distance` pixels from the `first` (row, column) on."""
    steps = [across(values, axis, classes=classes)[first[axis] :] for axis in (0, 1)]
    shown = np.array(
        [np.nanmean(np.concatenate([each[shift::distance] for each in steps])) for shift in range(distance)]
    )
    others = shown[1:]
    return Seam(float(shown[0]), float(others.mean()), float((1 + (others >= shown[0]).sum()) / distance))


@dataclass(frozen=True)
class Site:
    """Imagery, a model, and how it is slid."""

    model: LandCoverModel
    series: Series
    phase: tuple[int, int]
    size: int
    margin: int

    def map(self, window: Window) -> Prediction:
        """One tile."""
        inside = np.ones((window.height, window.width), bool)
        sliding: dict[str, Any] = {"size": self.size, "margin": self.margin, "device": "cpu", "batch": 2}
        found = predict_tile(
            self.model, self.series, window, inside, bands=self.model.bands, phase=self.phase,
            augment=self.model.augment, **sliding,
        )  # fmt: skip
        return classify(*found, inside, self.model.classes, self.model.temperature)

    def tiled(self, side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(classes, confidence) of all tiles of `side` pixels."""
        shape = self.series.shape
        classes, confidence = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        for row in range(0, shape[0], side):
            for col in range(0, shape[1], side):
                window = Window(row, col, min(side, shape[0] - row), min(side, shape[1] - col))
                made = self.map(window)
                classes[window.slices], confidence[window.slices] = made.landcover, made.confidence
        return classes, confidence

    def cut(self, row: int, col: int, height: int, width: int) -> Site:
        """The same of a part of the imagery."""
        held = self.series
        place = slice(row, row + height), slice(col, col + width)
        part = Series(
            held.reflectance[:, :, *place], held.valid[:, *place], held.times, held.bands, held.scale, held.offset
        )
        phase = (self.phase[0] + row) % 4, (self.phase[1] + col) % 4
        return Site(self.model, part, phase, self.size, self.margin)


def open_site(folder: Path, size: int) -> Site:
    """The site of a workspace."""
    workspace = Workspace(folder)
    model, _ = load_land_cover(workspace.folder("finetune") / LAND_COVER)
    grid: Grid = Cube.open(workspace.folder("download") / CUBE).grid
    held = open_series(workspace)
    whole = Series(
        np.asarray(held.reflectance[:]), np.asarray(held.valid[:]), held.times, held.bands, held.scale, held.offset
    )
    return Site(model, whole, phase_of(grid), size, margin_for(model.margin))


def differing(site: Site, whole: NDArray[np.uint8], shifts: int, seed: int = 0) -> tuple[int, int]:
    """(pixels whose class differs, pixels compared) beyond the margin of random cuts of the imagery."""
    rng = np.random.default_rng(seed)
    wrong = total = 0
    height, width = site.series.shape
    for _ in range(shifts):
        row, col = (int(rng.integers(0, side // 3)) for side in (height, width))
        rows, cols = (int(rng.integers(side // 2, side - first + 1)) for side, first in ((height, row), (width, col)))
        made = site.cut(row, col, rows, cols).map(Window(0, 0, rows, cols)).landcover
        edge = site.margin
        inner = np.s_[edge : rows - edge, edge : cols - edge]
        same = whole[row : row + rows, col : col + cols][inner] == made[inner]
        wrong, total = wrong + int((~same).sum()), total + same.size
    return wrong, total


def main() -> None:
    """Print what shows at the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--tile-size", type=int, default=64)
    parser.add_argument("--window-size", type=int, default=192)
    parser.add_argument("--shifts", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    site = open_site(given.workspace, given.window_size)
    bad = Site(site.model, site.series, site.phase, 32, 0)
    whole, _ = site.tiled(max(site.series.shape))
    starts = tuple(-each % 32 for each in site.phase)
    for name, made, distance, first in (
        (f"tiles of {given.tile_size}", site.tiled(given.tile_size), given.tile_size, (0, 0)),
        ("windows of 32 without overlap", bad.tiled(max(site.series.shape)), 32, (starts[0], starts[1])),
    ):
        print(f"{name}: {(made[0] != whole).sum()} of {whole.size} classes are not those of one tile")
        for what, values, classes in (("class changes", made[0], True), ("confidence steps", made[1], False)):
            found = seam(values, distance, first, classes=classes)
            print(f"  {what}: {found.excess:+.4f} at the lines, {found.elsewhere:+.4f} elsewhere, p = {found.p:.3f}")
    if given.shifts:
        wrong, total = differing(site, whole, given.shifts)
        print(
            f"{given.shifts} random cuts: {wrong} of {total} classes differ beyond the margin of {site.margin} pixels"
        )


if __name__ == "__main__":
    main()

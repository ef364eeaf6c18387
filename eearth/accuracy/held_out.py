"""How well a model, or its map, does on the test blocks of the labels, with intervals from whole blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import geopandas as gpd
import numpy as np
import rasterio
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.features import rasterize

from eearth.accuracy.bootstrap import FEWEST_GROUPS, MeasuredGroups, bootstrap, group_confusions
from eearth.errors import WorkspaceError
from eearth.geo.grid import Grid
from eearth.geo.labels.legend import LandCoverClass
from eearth.geo.raster import read_raster
from eearth.geo.splits.blocks import NAMES, TEST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


KIND = "test blocks"
NOTE = (
    "Accuracy on held-out blocks of the labels. They are no probability sample of the map, so these figures and their "
    "intervals speak of places like the labelled ones, not of the whole map; no area can be estimated from them."
)
FEATURES = "features.tif"

# Below this many groups bootstrap intervals are far too narrow: see docs/stages/assess.md.
FEW_GROUPS = 20


@dataclass(frozen=True)
class ModelAccuracy:
    """Accuracy on the test blocks.

    Attributes:
        classes: The K classes of the reference and the predictions.
        confusion: Pixels, (K, K + 1), row = reference, last column = no data.
        groups: How many blocks or features the intervals rest on.
        measured: The measures with their intervals.
        flags: What a reader has to know.
    """

    classes: tuple[LandCoverClass, ...]
    confusion: NDArray[np.int64]
    groups: int
    measured: MeasuredGroups
    flags: tuple[str, ...]


def assess_blocks(
    reference: NDArray[np.uint8],
    mapped: NDArray[np.uint8],
    groups: NDArray[np.int64],
    classes: Sequence[LandCoverClass],
    *,
    replicates: int,
    seed: int,
) -> ModelAccuracy:
    """Compare predictions with the reference.

    Args:
        reference: (pixel,) class codes of the test pixels.
        mapped: (pixel,) class codes; 0 = no data.
        groups: (pixel,) the block or feature of each.
        classes: The legend; classes that occur in neither are left out.
        replicates: Bootstrap samples.
        seed: Of the bootstrap.
    """
    occurring = {*np.unique(reference).tolist(), *np.unique(mapped).tolist()}
    shown = tuple(entry for entry in classes if entry.code in occurring)
    position = np.full(256, len(shown))
    position[[entry.code for entry in shown]] = np.arange(len(shown))
    confusions = group_confusions(position[reference], position[mapped], groups, len(shown))
    measured = bootstrap(confusions, replicates=replicates, seed=seed)
    return ModelAccuracy(shown, confusions.sum(axis=0), len(confusions), measured, tuple(_flags(confusions, shown)))


def _flags(confusions: NDArray[np.int64], classes: Sequence[LandCoverClass]) -> list[str]:
    flags = []
    if len(confusions) < FEW_GROUPS:
        flags.append(f"{len(confusions)} groups of pixels: intervals from fewer than {FEW_GROUPS} are too narrow")
    homes = (confusions.sum(axis=2) > 0).sum(axis=0)
    flags += [
        f"{entry.name} has test pixels in {count} group{'s' * (count != 1)}: no interval for its producer's accuracy"
        for entry, count in zip(classes, homes.tolist(), strict=True)
        if count < FEWEST_GROUPS
    ]
    lost = int(confusions[:, :, -1].sum())
    return flags + ([f"{lost} test pixels have no data in the map and count as errors"] if lost else [])


def groups_of(folder: Path, held: NDArray[np.bool_], grid: Grid, kind: Literal["blocks", "features"]) -> NDArray[Any]:
    """The group of each test pixel, (pixel,): what the bootstrap draws whole.

    Blocks are the outlines of `split.geojson`; a feature with half of its test pixels or more in one of them belongs
    whole to that one. A feature outside all of them is a group of its own, and so is what belongs to no feature there.

    Args:
        folder: The folder of the labels.
        held: (y, x), the test pixels.
        grid: Its grid.
        kind: blocks, or the features of `features.tif`.

    Raises:
        WorkspaceError: `features` are asked for and not there.
    """
    path = folder / FEATURES
    features = _read_features(path, grid)[held].astype(np.int64) if path.is_file() else None
    if kind == "features":
        if features is None:
            msg = f"expected {path} for --resample features, found nothing: run `eearth rasterize` again"
            raise WorkspaceError(msg)
        return features
    squares = _squares(folder / "split.geojson", grid)
    blocks = squares[held].astype(np.int64)
    return blocks if features is None else _whole(blocks, features)


def _read_features(path: Path, grid: Grid) -> NDArray[np.uint32]:
    found: NDArray[np.uint32] = read_raster(path, grid)
    return found


def _squares(path: Path, grid: Grid) -> NDArray[np.int32]:
    """(y, x) number of the test block that each pixel's centre lies in; 0 in none."""
    frame = gpd.read_file(path)
    frame = frame[frame["part"] == NAMES[TEST]].to_crs(CRS.from_wkt(grid.crs.to_wkt()))
    shapes = [(shape, number) for number, shape in enumerate(frame.geometry, start=1)]
    if not shapes:
        return np.zeros(grid.shape, dtype=np.int32)
    found: NDArray[np.int32] = rasterize(shapes, out_shape=grid.shape, transform=grid.transform, dtype="int32")
    return found


def _whole(blocks: NDArray[np.int64], features: NDArray[np.int64]) -> NDArray[np.int64]:
    """The block of each pixel, or of most of its feature; below 0 for a feature in no block.

    A feature of which no block holds half is larger than blocks: its pixels stay in those that they lie in.
    """
    found, own = np.unique(features, return_inverse=True)
    counts = np.zeros((found.size, int(blocks.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(counts, (own, blocks), 1)
    home, pixels = counts[:, 1:].argmax(axis=1) + 1 if counts.shape[1] > 1 else 0 * found, counts.sum(axis=1)
    mostly = 2 * counts[np.arange(found.size), home] >= pixels
    home = np.where(counts[:, 0] == pixels, -found, home)
    alone = np.where(blocks > 0, blocks, -features)
    return np.where((features > 0) & (mostly | (home < 0))[own], home[own], alone)


def values_of_map(path: Path, grid: Grid, held: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The map's classes at some pixels of the labels' grid, (pixel,); 0 where it has no data or does not reach.

    Raises:
        WorkspaceError: The map does not lie on the labels' pixels.
    """
    with rasterio.open(path) as file:
        own = Grid(file.crs, file.transform, file.height, file.width)
        offset = own.offset_of(grid)
        if offset is None:
            msg = f"expected {path} on the pixels of the labels, found another grid: use --predictions model"
            raise WorkspaceError(msg)
        rows, cols = (place + first for place, first in zip(np.nonzero(held), offset, strict=True))
        inside = (rows >= 0) & (rows < own.height) & (cols >= 0) & (cols < own.width)
        found = np.zeros(len(rows), dtype=np.uint8)
        found[inside] = file.read(1)[rows[inside], cols[inside]]
    return found

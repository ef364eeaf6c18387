"""How well a model, or its map, does on the test blocks of the labels, with intervals from whole blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from eearth.accuracy.bootstrap import FEWEST_GROUPS, MeasuredGroups, bootstrap, group_confusions
from eearth.errors import WorkspaceError
from eearth.geo.distance import pixel_sides
from eearth.geo.grid import Grid
from eearth.geo.labels.legend import LandCoverClass
from eearth.geo.raster import read_raster
from eearth.geo.splits.blocks import TRAIN, VALIDATION
from eearth.geo.splits.files import told_of_split
from eearth.geo.splits.footprints import footprints_of
from eearth.geo.splits.split import laid_out

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
    flags: Sequence[str] = (),
) -> ModelAccuracy:
    """Compare predictions with the reference.

    Args:
        reference: (pixel,) class codes of the test pixels.
        mapped: (pixel,) class codes; 0 = no data.
        groups: (pixel,) the block or feature of each.
        classes: The legend; classes that occur in neither are left out.
        replicates: Bootstrap samples.
        seed: Of the bootstrap.
        flags: What is known already.
    """
    occurring = {*np.unique(reference).tolist(), *np.unique(mapped).tolist()}
    shown = tuple(entry for entry in classes if entry.code in occurring)
    position = np.full(256, len(shown))
    position[[entry.code for entry in shown]] = np.arange(len(shown))
    confusions = group_confusions(position[reference], position[mapped], groups, len(shown))
    measured = bootstrap(confusions, replicates=replicates, seed=seed)
    told = (*flags, *_flags(confusions, shown))
    return ModelAccuracy(shown, confusions.sum(axis=0), len(confusions), measured, told)


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


def groups_of(
    folder: Path, held: NDArray[np.bool_], grid: Grid, kind: Literal["blocks", "features"]
) -> tuple[NDArray[np.int64], list[str]]:
    """(the group of each test pixel: what the bootstrap draws whole, (pixel,); what a reader has to know of them).

    Blocks are the squares that the split dealt out, and a feature that was not divided belongs whole to the one that
    its middle lies in. Where the split has no blocks, squares are laid over the test pixels as if they were to be
    split.

    Args:
        folder: The folder of the labels.
        held: (y, x), the test pixels.
        grid: Its grid.
        kind: blocks, or the features of `features.tif`.

    Raises:
        WorkspaceError: `features` are asked for and not there.
    """
    path = folder / FEATURES
    there = path.is_file()
    if kind == "features":
        if not there:
            msg = f"expected {path} for --resample features, found nothing: run `eearth rasterize` again"
            raise WorkspaceError(msg)
        return read_raster(path, grid)[held].astype(np.int64), []
    shape, flags = _block(folder, held, grid)
    rows, columns = np.nonzero(held)
    squares = _square(rows, columns, grid, shape)
    if there:
        features, homes = _homes(path, read_raster(folder / "split.tif", grid), grid, shape)
        home = homes[features[held]]
        squares = np.where(home >= 0, home, squares)
    return squares, flags


def _block(folder: Path, held: NDArray[np.bool_], grid: Grid) -> tuple[tuple[int, int], list[str]]:
    """((height, width) of a block in pixels, flags)."""
    known = told_of_split(folder).get("block_pixels")
    if known is not None:
        return (int(known[0]), int(known[1])), []
    sides = pixel_sides(grid)
    squares, _ = laid_out(held.astype(np.uint8), sides, None, None)
    size = f"{squares.height * sides[0]:.4g} x {squares.width * sides[1]:.4g} m"
    told = f"the split has no blocks of known size: the groups are squares of {size} laid over the test pixels"
    return (squares.height, squares.width), [f"{told}, and neighbouring ones may be alike"]


def _homes(
    path: Path, split: NDArray[np.uint8], grid: Grid, shape: tuple[int, int]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """((y, x) the features, (feature + 1,) the square that holds each; -1 where pixels stay in those they lie in).

    As the split deals them out, a feature is held by the square that its middle lies in. Pixels of no feature, and of
    one with pixels to learn from as well, which the split has divided, are held alone.
    """
    features: NDArray[np.uint32] = read_raster(path, grid)
    footprints = footprints_of(split, features)
    rows, columns = footprints.row.astype(np.int64), footprints.column.astype(np.int64)
    homes = _square(rows, columns, grid, shape)
    homes[np.unique(features[(split == TRAIN) | (split == VALIDATION)])] = -1
    homes[0] = -1
    return features, homes


def _square(rows: NDArray[np.int64], columns: NDArray[np.int64], grid: Grid, shape: tuple[int, int]) -> NDArray[Any]:
    """Number of the square that pixels lie in; squares of `shape` are aligned on the grid's upper left corner."""
    height, width = shape
    return rows // height * math.ceil(grid.width / width) + columns // width


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

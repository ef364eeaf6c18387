"""The outlines of what each block holds: its square, and the features that reach out of one block into another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import rasterio.features
import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from eearth.geo.splits.blocks import NAMES, Blocks, rectangles, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid


@dataclass(frozen=True)
class Territory:
    """A piece of ground that serves one purpose.

    Attributes:
        outline: Polygon or multipolygon in the grid's CRS.
        part: "train", "validation" or "test".
        fold: The fold, from 1; None without folds.
    """

    outline: BaseGeometry
    part: str
    fold: int | None = None


def territories(
    labels: NDArray[np.uint8],
    blocks: Blocks,
    of_block: NDArray[np.uint8],
    fold: NDArray[np.uint8] | None,
    grid: Grid,
) -> tuple[Territory, ...]:
    """The blocks without what in them belongs elsewhere, then the pieces of features that do.

    Args:
        labels: (y, x) class codes.
        blocks: What they were dealt in.
        of_block: (block,) the part of each.
        fold: (block,) the fold of each.
        grid: The grid of `labels`.
    """
    ones = np.ones_like(of_block) if fold is None else fold
    purposes, purpose = np.unique(np.stack([of_block, ones]), axis=1, return_inverse=True)
    numbers = (purpose.ravel() + 1).astype(np.uint8)

    def territory(outline: BaseGeometry, number: int) -> Territory:
        part, its_fold = (int(value) for value in purposes[:, number - 1])
        return Territory(outline, NAMES[part], None if fold is None else its_fold)

    strays = _strays(labels, blocks, numbers, grid)
    tree = shapely.STRtree([outline for outline, _ in strays])
    squares = []
    for (square, _), number in zip(rectangles(blocks, of_block, grid), numbers, strict=True):
        inside = tree.geometries[tree.query(square, predicate="intersects")]
        squares.append(territory(square.difference(shapely.union_all(inside)) if inside.size else square, int(number)))
    return (*squares, *(territory(outline, number) for outline, number in strays))


def _strays(
    labels: NDArray[np.uint8], blocks: Blocks, purpose: NDArray[np.uint8], grid: Grid
) -> list[tuple[BaseGeometry, int]]:
    """Outlines of pixels that serve another purpose than the block around them, and that purpose."""
    if blocks.homes is None:
        return []
    held = spread(purpose, blocks, labels)
    astray = held != spread(purpose, replace(blocks, homes=None), labels)
    found = rasterio.features.shapes(held, mask=astray, transform=grid.transform)
    return [(shape(outline), int(number)) for outline, number in found]

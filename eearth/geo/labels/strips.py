"""Features → the feature that each pixel of a grid belongs to, a strip of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.geo.labels.coverage import covered
from eearth.geo.labels.outlines import Outlines
from eearth.geo.labels.overlaps import Claims, Ledger, Policy, contested, expanded, largest, owners

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eearth.geo.grid import Grid

# A point closer than this share of a pixel to a pixel edge lies on it: the rounding of a reprojected coordinate must
# not decide to which pixel it belongs.
ON_EDGE = 1e-6
# Pixels that the features of a strip claim together, about: each takes some 50 bytes while the strip is burnt.
STRIP_PIXELS = 4_000_000
TASK = "burning labels"


@dataclass(frozen=True)
class Burning:
    """What to burn, and by what rules.

    Attributes:
        outlines: The features, on the grid.
        values: Class code of each feature, uint8.
        least: See `least_share`.
        overlap: Whose a pixel is that labels of different classes claim.
    """

    outlines: Outlines
    values: NDArray[np.uint8]
    least: float | None
    overlap: Policy

    def on(self, grid: Grid, numbers: NDArray[np.int64], report: Report = silent) -> tuple[NDArray[np.uint32], Ledger]:
        """Burn onto a grid.

        Args:
            grid: Where to.
            numbers: What each feature is called in the raster, from 1.
            report: Hears of the progress.

        Returns:
            The number of the feature that each pixel belongs to, (y, x), 0 = none; and what was contested.
        """
        features = np.zeros(grid.shape, dtype=np.uint32)
        ledger = Ledger(self.values, grid.width)
        of_owner = np.append(numbers, 0).astype(np.uint32)  # the last one, at -1, is of pixels without an owner
        report(Started(task=TASK, total=grid.height, unit="rows"))
        for rows in _strips(self.outlines, grid):
            owner = self._owners(rows, grid.width, ledger)
            features[rows.start : rows.stop] = of_owner[owner].reshape(len(rows), grid.width)
            report(Advanced(task=TASK, steps=len(rows)))
        report(Finished(task=TASK))
        return features, ledger

    def _owners(self, rows: range, width: int, ledger: Ledger) -> NDArray[np.int64]:
        """The position of the feature that each pixel of a strip belongs to, row by row; -1 for none."""
        claims = self._claims(rows, width)
        owner = owners(claims, len(rows) * width, backwards=self.overlap == "first")
        disputed = contested(claims, owner, self.values)
        if not disputed.any():
            return owner
        rivals = claims.of(disputed[claims.pixel])
        ledger.add(rivals, rows.start)
        if self.overlap == "drop":
            owner[disputed] = -1
        elif self.overlap == "largest":
            best = largest(rivals, self.outlines, rows, width)
            owner[best.pixel] = best.feature
        return owner

    def _claims(self, rows: range, width: int) -> Claims:
        """What all features claim of a strip."""
        outlines = self.outlines
        chosen = np.flatnonzero((outlines.rows[:, 0] < rows.stop) & (outlines.rows[:, 1] > rows.start))
        claims, _ = expanded(covered(outlines.edges(chosen), rows, width, self.least), rows.start, width)
        column, row = np.floor(outlines.points + ON_EDGE).T
        here = (row >= rows.start) & (row < rows.stop) & (column >= 0) & (column < width)
        if not here.any():
            return claims
        pixel = ((row[here] - rows.start) * width + column[here]).astype(np.int64)
        feature = np.append(claims.feature, outlines.point_of[here])
        order = np.argsort(feature, kind="stable")
        return Claims(np.append(claims.pixel, pixel)[order], feature[order])


def _strips(outlines: Outlines, grid: Grid) -> Iterator[range]:
    """Rows that are burnt at once: few where there is much to burn."""
    first, stop = outlines.rows.T
    change = np.bincount(first, outlines.load, grid.height + 1) - np.bincount(stop, outlines.load, grid.height + 1)
    work = np.cumsum(np.cumsum(change)[:-1] + grid.width)
    row = 0
    while row < grid.height:
        done = work[row - 1] if row else 0.0
        end = max(row + 1, int(np.searchsorted(work, done + STRIP_PIXELS, side="right")))
        yield range(row, end)
        row = end

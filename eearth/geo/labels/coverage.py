"""Which pixels a polygon covers: those whose centre it holds, and of each pixel the exact share that it holds.

Both look at all polygons of a strip of rows at once, edge by edge, so that small polygons cost no more than their
edges do. A line that goes down through a row has the polygon on one side of it, and the next line ends it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eearth.errors import UsageError
from eearth.geo.labels.outlines import consecutive

if TYPE_CHECKING:
    from eearth.geo.labels.outlines import Edges

CENTRE, TOUCHED = "centre", "touched"
# A share this near to the one asked for counts as that, so that rounding cannot take a pixel away that is exactly half
# covered, or give one to a polygon that ends at its edge.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Spans:
    """Neighbouring pixels of one row that a feature covers alike.

    Attributes:
        feature: Position of the feature, (n,), rising.
        row: Row of the grid, (n,).
        left, right: First column, and the one after the last, (n,).
        share: Share of each pixel's area that lies inside the feature, 0 to 1, (n,); not a number where not asked for.
    """

    feature: NDArray[np.int64]
    row: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    share: NDArray[np.float64]

    def take(self, chosen: NDArray[np.bool_]) -> Spans:
        """The spans of a mask."""
        return Spans(self.feature[chosen], self.row[chosen], self.left[chosen], self.right[chosen], self.share[chosen])


def least_share(coverage: str) -> float | None:
    """The share of a pixel that a polygon must cover to label it; None: its centre decides.

    Args:
        coverage: `centre`, `touched`, or a share such as "0.5" or "50%".

    Raises:
        UsageError: It is none of these.
    """
    text = coverage.strip().lower()
    if text == CENTRE:
        return None
    if text == TOUCHED:
        return 0.0
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        msg = f"expected --coverage {CENTRE}, {TOUCHED}, or a share such as 0.5 or 50%, found {coverage!r}"
        raise UsageError(msg)
    return share


def covered(edges: Edges, rows: range, width: int, least: float | None) -> Spans:
    """What polygons label within some rows of a grid `width` columns wide, by the rule of `least_share`."""
    if least is None:
        return by_centre(edges, rows, width)
    spans = by_area(edges, rows, width)
    return spans.take(spans.share > ROUNDING if least == 0 else spans.share >= least - ROUNDING)


def by_centre(edges: Edges, rows: range, width: int) -> Spans:
    """The pixels whose centres lie inside the polygons.

    A centre on an upper or a right edge counts as inside, on a lower or a left one as outside, as in GDAL's polygon
    fill: of two polygons that share an edge one has it.
    """
    down = edges.y0 < edges.y1
    xa, ya = np.where(down, edges.x0, edges.x1), np.where(down, edges.y0, edges.y1)
    xb, yb = np.where(down, edges.x1, edges.x0), np.where(down, edges.y1, edges.y0)
    first, stop = (np.clip(np.ceil(y - 0.5), rows.start, rows.stop).astype(np.int64) for y in (ya, yb))
    edge, row = np.repeat(np.arange(len(first)), stop - first), consecutive(first, stop - first)
    # The order of these operations is GDAL's: where a centre lies on an edge but for rounding, both round alike.
    crossing = (row + 0.5 - ya[edge]) * (xb - xa)[edge] / (yb - ya)[edge] + xa[edge]
    column = np.clip(np.floor(crossing + 0.5), 0, width).astype(np.int64)
    # Sorted by feature, row and column, each second crossing ends what the one before began.
    key = (edges.feature[edge] * len(rows) + row - rows.start) * (width + 1) + column
    key.sort()
    line, left = np.divmod(key[0::2], width + 1)
    right = key[1::2] % (width + 1)
    feature, row = np.divmod(line, len(rows))
    return Spans(feature, row + rows.start, left, right, np.full(len(left), np.nan)).take(left < right)


def by_area(edges: Edges, rows: range, width: int) -> Spans:
    """Every pixel that the polygons meet, with the exact share of its area inside.

    Each edge is cut where it enters another pixel. A piece that goes down by `d` adds `d` to all pixels to its right in
    the row, and to its own pixel the share of `d` that lies to its right: the signed areas of a polygon's pieces sum up
    to its area (Green's theorem).
    """
    feature, row, column, inside, beyond = _pieces(edges, rows, width)
    # One column on each side of the grid gathers what lies there, so that each row of a polygon sums up to nothing.
    across = width + 2
    key = (feature * len(rows) + row - rows.start) * across + column + 1
    order = np.argsort(key)
    key, inside, beyond = key[order], inside[order], beyond[order]
    firsts = np.flatnonzero(np.diff(key, prepend=-1))
    if not firsts.size:
        return _spans_of(key, key, key, rows, np.zeros(0))
    inside, beyond = np.add.reduceat(inside, firsts), np.add.reduceat(beyond, firsts)
    line, column = np.divmod(key[firsts], across)
    column -= 1
    total = np.cumsum(beyond)
    cells = _spans_of(line, column, column + 1, rows, inside + total - beyond)
    between = _spans_of(line[:-1], column[:-1] + 1, column[1:], rows, total[:-1])
    inner = (line[1:] == line[:-1]) & (between.left < between.right) & (between.share > ROUNDING)
    return _merged(cells.take((cells.left >= 0) & (cells.right <= width)), between.take(inner))


def _spans_of(
    line: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64], rows: range, share: NDArray[np.float64]
) -> Spans:
    """Spans whose `line` counts the rows of all features, one feature after the other."""
    feature, row = np.divmod(line, len(rows))
    return Spans(feature, row + rows.start, left, right, np.clip(share, 0.0, 1.0))


def _merged(*parts: Spans) -> Spans:
    """Spans of several kinds, by feature."""
    names = ("feature", "row", "left", "right", "share")
    joined = Spans(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    order = np.argsort(joined.feature, kind="stable")
    return Spans(*(getattr(joined, name)[order] for name in names))


def _pieces(edges: Edges, rows: range, width: int) -> tuple[NDArray[Any], ...]:
    """(feature, row, column, signed area inside the pixel, fall) of each piece of an edge within one pixel.

    The column is -1 left of the grid, and `width` right of it.
    """
    steep = edges.take(edges.y0 != edges.y1)  # level edges have no area below them
    which, (y0, y1), (x0, x1) = _cut((steep.y0, steep.y1), (steep.x0, steep.x1), rows.start, rows.stop)
    row = np.floor((y0 + y1) / 2).astype(np.int64)
    here = (row >= rows.start) & (row < rows.stop)
    which, row = which[here], row[here]
    part, (x0, x1), (y0, y1) = _cut((x0[here], x1[here]), (y0[here], y1[here]), 0, width)
    which, row = which[part], row[part]
    middle = (x0 + x1) / 2
    column = np.clip(np.floor(middle), -1, width).astype(np.int64)
    fall = (y1 - y0) * steep.turn[which]
    return steep.feature[which], row, column, fall * (column + 1 - middle), fall


def _cut(
    along: tuple[NDArray[np.float64], NDArray[np.float64]],
    across: tuple[NDArray[np.float64], NDArray[np.float64]],
    low: int,
    high: int,
) -> tuple[NDArray[np.int64], tuple[NDArray[np.float64], ...], tuple[NDArray[np.float64], ...]]:
    """Cut lines at the whole numbers from `low` to `high` of one coordinate.

    Returns:
        The line of each piece; its start and end along; its start and end across.
    """
    (a, b), (p, q) = along, across
    first = np.clip(np.floor(np.minimum(a, b)) + 1, low, high + 1).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(a, b)) - 1, low - 1, high).astype(np.int64)
    cuts = np.maximum(last - first + 1, 0)
    line, number = np.repeat(np.arange(len(a)), cuts + 1), consecutive(np.zeros(len(a), dtype=np.int64), cuts + 1)
    rises = (a < b)[line]
    slope = np.divide(q - p, b - a, out=np.zeros(len(a)), where=a != b)[line]

    def at(cut: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both coordinates of a line's cut, counted in its direction."""
        place = np.where(rises, first[line] + cut, last[line] - cut).astype(np.float64)
        return place, p[line] + (place - a[line]) * slope

    (start, start_across), (end, end_across) = at(number - 1), at(number)
    begins, ends = number == 0, number == cuts[line]
    along_piece = np.where(begins, a[line], start), np.where(ends, b[line], end)
    return line, along_piece, (np.where(begins, p[line], start_across), np.where(ends, q[line], end_across))

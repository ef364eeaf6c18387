"""Random pixels of each class of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from numpy.typing import NDArray

from eearth.errors import WorkspaceError
from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.geo.sampling.classmap import read_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eearth.geo.sampling.classmap import ClassMap


@dataclass(frozen=True)
class Drawn:
    """Sampled pixels in random order; arrays are (point,) int64.

    Attributes:
        codes: Their classes in the map.
        rows, cols: Where they lie.
    """

    codes: NDArray[np.int64]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]


def draw_pixels(source: ClassMap, points: Mapping[int, int], seed: int, report: Report = silent) -> Drawn:
    """Draw pixels of each class without replacement, each set of them as likely as any other.

    The pixels of a class are numbered row by row through the whole map, and numbers are drawn: what is drawn does not
    depend on the blocks of the file or of the reading, and each class's points do not depend on the other classes.

    Args:
        source: The map; nothing but the rows that hold a point is read.
        points: Class code → how many pixels, at most all of them.
        seed: Another one draws other pixels.
        report: Receives progress.

    Raises:
        WorkspaceError: The map is not the one that was counted.
    """
    places = [_places(source.rows[code], code, count, seed) for code, count in points.items() if count]
    codes, rows, ranks = (np.concatenate(parts) for parts in zip(*places, strict=True))
    by_row = np.lexsort((ranks, codes, rows))  # each block of the file is read once
    codes, rows, ranks = codes[by_row], rows[by_row], ranks[by_row]
    order = np.random.default_rng([seed]).permutation(len(codes))
    cols = _columns(source, codes, rows, ranks, report)
    return Drawn(codes[order], rows[order], cols[order])


def _places(
    in_rows: NDArray[np.int32], code: int, count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(class, row, number within the class's pixels of that row) of each point of a class."""
    ends = np.cumsum(in_rows, dtype=np.int64)
    random = np.random.default_rng([seed, code % 2**32])  # codes may be negative, seeds may not
    numbers = random.choice(int(ends[-1]), count, replace=False, shuffle=False)
    rows = np.searchsorted(ends, numbers, side="right")
    return np.full(count, code), rows, numbers - (ends[rows] - in_rows[rows])


def _columns(
    source: ClassMap, codes: NDArray[np.int64], rows: NDArray[np.int64], ranks: NDArray[np.int64], report: Report
) -> NDArray[np.int64]:
    """The columns of points that are in the order of their rows."""
    cols = np.empty(len(codes), dtype=np.int64)
    report(Started(task="draw", total=len(codes), unit="points"))
    with rasterio.open(source.path) as file:
        for point, (code, row, rank) in enumerate(zip(codes, rows, ranks, strict=True)):
            held = read_row(file, int(row), int(code))
            if len(held) != source.rows[int(code)][row]:
                msg = f"{source.path} changed while it was read: run the command again"
                raise WorkspaceError(msg)
            cols[point] = held[rank]
            report(Advanced(task="draw"))
    report(Finished(task="draw"))
    return cols

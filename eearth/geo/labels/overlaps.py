"""Pixels that several features claim: whose they are, and which features are in conflict."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from eearth.geo.ground import lonlat_of
from eearth.geo.labels.coverage import ROUNDING, by_area
from eearth.geo.labels.outlines import consecutive

if TYPE_CHECKING:
    from pathlib import Path

    from eearth.geo.grid import Grid
    from eearth.geo.labels.coverage import Spans
    from eearth.geo.labels.outlines import Outlines

Policy = Literal["last", "first", "error", "largest", "drop"]
# What a note says of a policy.
OUTCOMES = {
    "last": "the label later in the file counts",
    "first": "the label earlier in the file counts",
    "largest": "the one that covers the largest share of a pixel counts",
    "drop": "they get no label",
}
LISTED = 1000  # pairs of features in the list of conflicts, those with the most pixels
# Features of one pixel between which conflicts are looked for: of more, those that stand so near in the file's order.
NEIGHBOURS = 16


@dataclass(frozen=True)
class Claims:
    """Which features label which pixels of a strip, in file order.

    Attributes:
        pixel: Position in the strip, row by row, (n,).
        feature: Position of the feature, (n,), rising.
    """

    pixel: NDArray[np.int64]
    feature: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> Claims:
        """The claims of a mask."""
        return Claims(self.pixel[chosen], self.feature[chosen])


@dataclass(frozen=True)
class Pair:
    """Two features of different classes that meet.

    Attributes:
        first, second: Their numbers, in file order.
        first_class, second_class: Their classes.
        pixels: Number of pixels that both claim.
        lon, lat: Centre of one of those, in degrees.
    """

    first: int
    second: int
    first_class: str
    second_class: str
    pixels: int
    lon: float
    lat: float

    def __str__(self) -> str:
        """Both features, and where they meet."""
        return (
            f"features {self.first} (`{self.first_class}`) and {self.second} (`{self.second_class}`) "
            f"at longitude {self.lon:.5f}, latitude {self.lat:.5f}"
        )


@dataclass(frozen=True)
class Conflicts:
    """What is contested between labels of different classes.

    Attributes:
        pixels: Contested pixels.
        features: Features that have a share in one.
        pairs: Pairs of features of different classes that claim the same pixel.
        listed: Those with the most pixels, at most `LISTED`.
    """

    pixels: int
    features: int
    pairs: int
    listed: tuple[Pair, ...]

    def counts(self) -> dict[str, int]:
        """All of them in numbers."""
        return {"pixels": self.pixels, "features": self.features, "pairs": self.pairs, "listed": len(self.listed)}


def expanded(spans: Spans, first_row: int, width: int) -> tuple[Claims, NDArray[np.float64]]:
    """Spans as single pixels of a strip that begins at `first_row`, and the share of each."""
    counts = spans.right - spans.left
    pixel = consecutive((spans.row - first_row) * width + spans.left, counts)
    return Claims(pixel, np.repeat(spans.feature, counts)), np.repeat(spans.share, counts)


def owners(claims: Claims, pixels: int, *, backwards: bool) -> NDArray[np.int64]:
    """Of each pixel of a strip the position of the last (backwards: the first) feature that claims it; -1 for none."""
    owner = np.full(pixels, -1, dtype=np.int64)
    order = slice(None, None, -1 if backwards else 1)
    owner[claims.pixel[order]] = claims.feature[order]  # of a pixel that occurs several times the last one stays
    return owner


def contested(claims: Claims, owner: NDArray[np.int64], codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of a strip that are claimed for another class than their owner's."""
    found = np.zeros(owner.size, dtype=bool)
    found[claims.pixel[codes[claims.feature] != codes[owner[claims.pixel]]]] = True
    return found


def largest(claims: Claims, outlines: Outlines, rows: range, width: int) -> Claims:
    """For each pixel of some claims the one whose polygon covers the largest share of it, of equals the later one.

    A point covers no area.
    """
    # Each number is small enough for one key: pixels of a strip, and features of a file.
    features = np.unique(claims.feature)
    areas, shares = expanded(by_area(outlines.edges(features), rows, width), rows.start, width)
    size = len(rows) * width
    key = areas.feature * size + areas.pixel
    order = np.argsort(key)
    wanted = claims.feature * size + claims.pixel
    place = np.minimum(np.searchsorted(key, wanted, sorter=order), max(key.size - 1, 0))
    share = np.zeros(wanted.size)
    if key.size:
        share = np.where(key[order[place]] == wanted, shares[order[place]], 0.0)
    best = np.lexsort((claims.feature, np.round(share / ROUNDING), claims.pixel))
    last = np.append(np.diff(claims.pixel[best]) != 0, [True] * bool(best.size))
    return Claims(claims.pixel[best[last]], claims.feature[best[last]])


class Ledger:
    """Gathers conflicts, strip by strip.

    Args:
        codes: Class code of each feature.
        width: Columns of the grid.
    """

    def __init__(self, codes: NDArray[np.uint8], width: int) -> None:
        """Nothing is contested yet."""
        self.codes, self.width = codes, width
        self.pixels = 0
        self.involved = np.zeros(codes.size, dtype=bool)
        # Of each strip: key of a pair, pixels, and the first such pixel of the grid.
        self.found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, claims: Claims, first_row: int) -> None:
        """Take up all claims to the contested pixels of the strip that begins at `first_row`."""
        key = np.unique(claims.pixel * self.codes.size + claims.feature)  # a feature's parts may share a pixel
        pixel, feature = np.divmod(key, self.codes.size)
        self.pixels += int(np.count_nonzero(np.diff(pixel, prepend=-1)))
        self.involved[feature] = True
        for ahead in range(1, NEIGHBOURS):
            meet = np.flatnonzero(pixel[:-ahead] == pixel[ahead:])
            if not meet.size:
                break
            first, second = feature[meet], feature[meet + ahead]
            apart = self.codes[first] != self.codes[second]
            pairs = (first * self.codes.size + second)[apart]
            known, at, counts = np.unique(pairs, return_index=True, return_counts=True)
            self.found.append((known, counts, pixel[meet][apart][at] + first_row * self.width))

    def close(self, numbers: NDArray[np.int64], names: NDArray[Any], grid: Grid) -> Conflicts:
        """The list; `numbers` are those of the features in the file, `names` their classes."""
        if not self.found:
            return Conflicts(0, 0, 0, ())
        keys, counts, pixels = (np.concatenate(part) for part in zip(*self.found, strict=True))
        known, at, inverse = np.unique(keys, return_index=True, return_inverse=True)
        totals = np.bincount(inverse, weights=counts).astype(np.int64)
        most = np.argsort(-totals, kind="stable")[:LISTED]
        first, second = np.divmod(known[most], self.codes.size)
        lon, lat = lonlat_of(grid, *np.divmod(pixels[at[most]], grid.width))
        columns = (numbers[first], numbers[second], names[first], names[second], totals[most], lon, lat)
        listed = tuple(Pair(*entry) for entry in zip(*(column.tolist() for column in columns), strict=True))
        return Conflicts(self.pixels, int(self.involved.sum()), known.size, listed)


def write_conflicts(path: Path, conflicts: Conflicts) -> None:
    """Write the listed pairs as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("first", "second", "first_class", "second_class", "pixels", "lon", "lat"))
        for pair in conflicts.listed:
            place = f"{pair.lon:.6f}", f"{pair.lat:.6f}"
            writer.writerow((pair.first, pair.second, pair.first_class, pair.second_class, pair.pixels, *place))

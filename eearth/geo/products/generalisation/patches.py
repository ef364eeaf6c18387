"""The patches of a class map: connected pixels of one class, and the borders that they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Patches:
    """Connected pixels of one class; pixels touch along an edge (4 neighbours), as in GDAL's sieve and polygonizer.

    Patches are numbered from 0 by their first pixel, rows first. Pixels without a class make patches, too.

    Attributes:
        numbers: (y, x) int32, the patch of each pixel.
        codes: (patch,) its class code, 0 = none.
        pixels: (patch,) how many it has.
        first: (2, patch) row and column of its first pixel.
    """

    numbers: NDArray[np.int32]
    codes: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.uint8]) -> Patches:
        """Number them: stretches of a row first, then what touches between rows, for there are far fewer of these.

        Args:
            codes: (y, x) class codes, 0 = none.
        """
        fresh = np.ones(codes.shape, dtype=bool)
        np.not_equal(codes[:, 1:], codes[:, :-1], out=fresh[:, 1:])
        stretch = (np.cumsum(fresh, dtype=np.int32) - 1).reshape(codes.shape)
        touch = codes[1:] == codes[:-1]
        touch[:, 1:] &= fresh[1:, 1:] | fresh[:-1, 1:]  # once for each two stretches
        starts = np.flatnonzero(fresh)
        of_stretch = _joined(stretch[:-1][touch], stretch[1:][touch], len(starts))
        _, head = np.unique(of_stretch, return_index=True)
        first = starts[head]
        lengths = np.diff(starts, append=codes.size)
        return cls(
            numbers=of_stretch[stretch],
            codes=codes.ravel()[first],
            pixels=np.bincount(of_stretch, lengths, len(head)).astype(np.int64),
            first=np.stack(np.divmod(first, codes.shape[1])),
        )

    def __len__(self) -> int:
        """How many there are."""
        return len(self.codes)

    def on_edges(self, *, top: bool, left: bool, bottom: bool, right: bool) -> NDArray[np.bool_]:
        """(patch,) whether it touches one of these edges of the raster."""
        there = np.zeros(len(self), dtype=bool)
        n = self.numbers
        for wanted, line in ((top, n[0]), (left, n[:, 0]), (bottom, n[-1]), (right, n[:, -1])):
            if wanted:
                there[line] = True
        return there

    def longer_than(self, most: int, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(patch,) whether it is one of some patches, and has more rows or columns than that."""
        there = among & (self.pixels > most)  # no other one can be
        rows, cols = np.nonzero(there[self.numbers])
        numbers = self.numbers[rows, cols]
        span = np.zeros(len(self), dtype=np.int64)
        for places in (rows, cols):
            low, high = np.full(len(self), self.numbers.size), np.full(len(self), -1)
            np.minimum.at(low, numbers, places)
            np.maximum.at(high, numbers, places)
            span = np.maximum(span, high - low + 1)
        return there & (span > most)


@dataclass(frozen=True)
class Borders:
    """Where patches meet others; arrays are (border,).

    Attributes:
        patch: One patch.
        other: The other one.
        length: Pixel edges that they share.
    """

    patch: NDArray[np.int64]
    other: NDArray[np.int64]
    length: NDArray[np.int64]

    @classmethod
    def of(cls, patches: Patches, among: NDArray[np.bool_]) -> Borders:
        """Those of some patches with all others that have a class.

        Args:
            patches: All patches.
            among: (patch,) which are asked for; each has a class.
        """
        keys, count = [np.zeros(0, dtype=np.int64)], len(patches)
        for one, other in _neighbours(patches.numbers):
            apart = one != other
            for here, there in ((one[apart], other[apart]), (other[apart], one[apart])):
                meet = among[here] & (patches.codes[there] > 0)
                keys.append(here[meet].astype(np.int64) * count + there[meet])
        found, length = np.unique(np.concatenate(keys), return_counts=True)
        return cls(*np.divmod(found, count), length)


def _neighbours(numbers: NDArray[np.int32]) -> tuple[tuple[NDArray[np.int32], NDArray[np.int32]], ...]:
    """(pixels, their neighbours): below, and to the right."""
    return (numbers[:-1], numbers[1:]), (numbers[:, :-1], numbers[:, 1:])


def _joined(one: NDArray[np.int32], other: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """(stretch,) the patch of each stretch of a row, given which touch; numbered by their first stretch."""
    links = coo_array((np.ones(len(one), dtype=np.uint8), (one, other)), shape=(count, count))
    _, numbers = connected_components(links, directed=False)
    return np.asarray(numbers, dtype=np.int32)

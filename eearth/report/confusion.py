"""A confusion matrix as a table to read, or as a list of what is confused most where it is too large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eearth.report.sources import Document

# Classes above which nobody reads a table of all pairs.
MOST_CLASSES = 40
# Pairs that are listed instead.
MOST_PAIRS = 30

# Steps of the shading.
SHADES = 10

EMPTY = "no data in the map"


@dataclass(frozen=True)
class Cell:
    """A count, its share of the row, and the shade of that: 0 for none, 1 to `SHADES`."""

    count: int
    share: float
    shade: int
    right: bool


@dataclass(frozen=True)
class Pair:
    """One class taken for another."""

    row: str
    column: str
    count: int
    share: float


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Attributes:
        rows: What the rows are: "reference" or "map".
        columns: What the columns are.
        unit: Of the counts: "pixels" or "points".
        names: Of the rows.
        heads: Of the columns: the same names, and one for the pixels that the map leaves empty.
        table: The cells, row by row; empty for more than `MOST_CLASSES` classes.
        totals: Of each row.
        pairs: What is confused most, where there is no table.
        artifact: The file that holds all counts.
        field: Where in it.
    """

    rows: str
    columns: str
    unit: str
    names: tuple[str, ...]
    heads: tuple[str, ...]
    table: tuple[tuple[Cell, ...], ...]
    totals: tuple[int, ...]
    pairs: tuple[Pair, ...]
    artifact: str
    field: str


def read_confusion(
    document: Document, counts: str, codes: str, names: Mapping[int, str], *, rows: str, columns: str, unit: str
) -> Confusion | None:
    """Read a matrix of counts; None where the file has none that fits its codes.

    Args:
        document: The file.
        counts: JSON pointer of the counts, (K, K) or (K, K + 1) with the pixels that the map leaves empty last.
        codes: JSON pointer of the K codes.
        names: Code → class name.
        rows: What the rows are.
        columns: What the columns are.
        unit: Of the counts.
    """
    of_rows = tuple(names.get(int(code), f"code {code}") for code in document.entries(codes))
    matrix = np.asarray(document.entries(counts), dtype=np.int64)
    if not of_rows or matrix.shape not in ((len(of_rows), len(of_rows)), (len(of_rows), len(of_rows) + 1)):
        return None
    if not matrix[:, len(of_rows) :].any():
        matrix = matrix[:, : len(of_rows)]
    heads = (*of_rows, EMPTY)[: matrix.shape[1]]
    totals = matrix.sum(axis=1)
    share = matrix / np.maximum(totals, 1)[:, None]
    small = len(of_rows) <= MOST_CLASSES
    return Confusion(
        rows=rows,
        columns=columns,
        unit=unit,
        names=of_rows,
        heads=heads,
        table=_cells(matrix, share) if small else (),
        totals=tuple(int(total) for total in totals),
        pairs=() if small else _pairs(matrix, share, of_rows, heads),
        artifact=document.artifact,
        field=counts,
    )


def _cells(matrix: np.ndarray, share: np.ndarray) -> tuple[tuple[Cell, ...], ...]:
    shades = np.ceil(share * SHADES).astype(int)
    return tuple(
        tuple(
            Cell(int(count), float(share[row, column]), int(shades[row, column]), right=row == column)
            for column, count in enumerate(counts)
        )
        for row, counts in enumerate(matrix)
    )


def _pairs(matrix: np.ndarray, share: np.ndarray, names: tuple[str, ...], heads: tuple[str, ...]) -> tuple[Pair, ...]:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    most = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    places = (divmod(int(place), matrix.shape[1]) for place in most if wrong.flat[place])
    return tuple(
        Pair(names[row], heads[column], int(matrix[row, column]), float(share[row, column])) for row, column in places
    )

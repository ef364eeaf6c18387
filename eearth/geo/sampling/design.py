"""What a sample was drawn from and how: the file that turns labelled points into estimates."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eearth.errors import EearthError, WorkspaceError
from eearth.geo.grid import Grid
from eearth.manifest import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DESIGN = "design.json"
KIND = "stratified random sample"
POINT = ("id", "code", "row", "col")  # what the file says of each point


@dataclass(frozen=True)
class DesignStratum:
    """One class of the map as the sample was drawn.

    Attributes:
        code, name, colour: As in the map's legend.
        pixels: Pixels of the map with that class; 0 for a class of the legend that the map lacks.
        area_km2: Their area.
        share: Their share of the mapped pixels.
        expected_users_accuracy: What the size of the sample was computed with; None for a class that the map lacks.
        points: Points drawn.
        inclusion_probability: Of each of its pixels: points / pixels; None for a class that the map lacks.
        why: The reason of that number of points.
    """

    code: int
    name: str
    colour: str
    pixels: int
    area_km2: float
    share: float
    expected_users_accuracy: float | None
    points: int
    inclusion_probability: float | None
    why: str


@dataclass(frozen=True)
class Design:
    """A stratified random sample of a map's pixels; arrays are (point,).

    Attributes:
        map_digest: sha256 of the map's file.
        map_path: Where it lay.
        grid: Its grid.
        seed: Of the draw.
        strata: The classes.
        ids: The points' numbers in the file that is labelled.
        codes: Their classes in the map, which the interpreter is not to see.
        rows, cols: Their pixels.
    """

    map_digest: str
    map_path: str
    grid: Grid
    seed: int
    strata: tuple[DesignStratum, ...]
    ids: NDArray[np.int64]
    codes: NDArray[np.int64]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]

    def write(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Write it as JSON, with the settings that it came from."""
        columns = zip(self.ids.tolist(), self.codes.tolist(), self.rows.tolist(), self.cols.tolist(), strict=True)
        data = {
            "kind": KIND,
            "map": {"digest": self.map_digest, "path": self.map_path, "grid": self.grid.as_dict()},
            "seed": self.seed,
            "settings": dict(settings),
            "strata": [asdict(stratum) for stratum in self.strata],
            "points": [dict(zip(POINT, point, strict=True)) for point in columns],
        }
        write_json(path, data)

    @classmethod
    def read(cls, path: Path) -> Design:
        """Read what `write` wrote.

        Raises:
            WorkspaceError: The file is missing, or holds something else.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            points = np.array([[point[key] for key in POINT] for point in data["points"]], dtype=np.int64)
            design = cls(
                data["map"]["digest"],
                data["map"]["path"],
                Grid.from_dict(data["map"]["grid"]),
                data["seed"],
                tuple(DesignStratum(**stratum) for stratum in data["strata"]),
                *points.T,
            )
        except (OSError, ValueError, TypeError, KeyError, EearthError) as error:
            msg = f"expected the design of a sample at {path}, found {error!r}: it is written by `eearth sample`"
            raise WorkspaceError(msg) from error
        known = {stratum.code for stratum in design.strata}
        if len(set(design.ids.tolist())) != len(design.ids) or not set(design.codes.tolist()) <= known:
            msg = f"expected the design of a sample at {path}, found one that contradicts itself: draw a new sample"
            raise WorkspaceError(msg)
        return design

    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(x, y) of the points in the map's CRS: the centres of their pixels."""
        return self.grid.x()[self.cols], self.grid.y()[self.rows]

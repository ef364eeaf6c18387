"""From the tiles of a map to its files: small patches let go of, areas counted, polygons drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eearth.events import Note, Report, silent
from eearth.geo.grid import Grid
from eearth.geo.products.generalisation.sieve import Tally, Unit, generalise
from eearth.geo.products.generalisation.vector import write_polygons
from eearth.geo.products.generalisation.vector_file import check_format
from eearth.geo.products.landcover.areas import AREAS, Area, count_areas, write_areas
from eearth.geo.sampling.areas import PixelAreas

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eearth.geo.products.landcover.prediction import MapClass
    from eearth.geo.products.landcover.writer import LandCoverWriter

SIEVED = "sieved-landcover.tif"


@dataclass(frozen=True)
class Refinement:
    """What is made of a map when all its tiles are there.

    Attributes:
        grid: The map's grid.
        hectares: Its minimum mapping unit; 0 for none.
        vector: The kind of its file of polygons: "gpkg", "parquet", or "none".
        simplify: How much the borders of polygons are simplified, in pixels.
    """

    grid: Grid
    hectares: float
    vector: str
    simplify: float

    def __post_init__(self) -> None:
        """Refuse before the first tile what would be refused after the last one.

        Raises:
            UsageError: A library is missing.
            EearthError: Sizes on the ground are needed, and part of the grid lies off the globe.
        """
        check_format(self.vector)
        if self.hectares or self.vector != "none":
            PixelAreas(self.grid)

    def finish(
        self, writer: LandCoverWriter, classes: Sequence[MapClass], folder: Path, scratch: Path, report: Report = silent
    ) -> tuple[Path, dict[str, Any]]:
        """Write `landcover.tif`, `confidence.tif`, `areas.csv` and perhaps `landcover.gpkg` or `.parquet`.

        Args:
            writer: All tiles are written.
            classes: The legend.
            folder: Where the finished files go.
            scratch: Where unfinished ones lie, on the same file system.
            report: Receives progress.

        Returns:
            (the map, figures for the summary).

        Raises:
            DiskError: The files could not be written.
        """
        tally = self._generalised(writer, scratch, report)
        landcover, confidence = writer.finish(scratch / SIEVED if tally else None)
        areas = count_areas(landcover, confidence, self.grid, classes, report)
        write_areas(folder / AREAS, areas)
        figures = _told(areas) | ({} if tally is None else {"minimum mapping unit": _sentence(self.hectares, tally)})
        if self.vector != "none":
            path = folder / f"{landcover.stem}.{self.vector}"
            figures["polygons"] = write_polygons(
                path, landcover, confidence, self.grid, classes, simplify=self.simplify, scratch=scratch, report=report
            )
        report(Note(text=f"{AREAS} counts pixels; `eearth sample` and `eearth assess` estimate areas without bias"))
        return landcover, figures

    def _generalised(self, writer: LandCoverWriter, scratch: Path, report: Report) -> Tally | None:
        """What became of small patches; None if none are let go of."""
        if not self.hectares:
            return None
        return generalise(writer.collected, scratch / SIEVED, self.grid, Unit.on(self.grid, self.hectares), report)


def _told(areas: Sequence[Area]) -> dict[str, Any]:
    """Pixels and square kilometres of the map, and the share of the region of each class and of what has none."""
    mapped = [area for area in areas if area.code is not None]
    shown = [area for area in areas if area.code is not None or area.pixels]
    return {
        "mapped pixels": sum(area.pixels for area in mapped),
        "mapped area": f"{sum(area.square_kilometres for area in mapped):,.2f} km²",
        **{area.name: f"{area.share:.1%}" for area in shown},
    }


def _sentence(hectares: float, tally: Tally) -> str:
    left = f"; {tally.left} border nothing larger, and stay" if tally.left else ""
    return f"{hectares:g} ha: {tally.absorbed} smaller patches ({tally.pixels} pixels) took a neighbour's class{left}"

"""The imagery under a product of any region: the workspace's where it covers the region, otherwise fetched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from rasterio.features import geometry_mask

from eearth.config import provider_tables
from eearth.data.regions import asked_imagery
from eearth.errors import ModelError
from eearth.events import Report, silent
from eearth.geo.aoi import Region, parse_crs
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Grid, Window
from eearth.geo.imagery.download import write_cube
from eearth.geo.imagery.plan import plan_imagery, snapped_grid
from eearth.settings import DownloadSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

    from eearth.workspace import Workspace


class RegionSettings(Protocol):
    """What the settings of every stage that takes a region share."""

    @property
    def region(self) -> Path:
        """Polygon file."""

    @property
    def workers(self) -> int:
        """Assets read at the same time, where imagery must be fetched."""


@dataclass(frozen=True)
class Wish:
    """The imagery that a network wants.

    Attributes:
        bands: What it was trained on.
        asked: How the imagery that it was trained on was asked for: settings of the download.
        maker: The stage that trains such a network, for the advice in a message.
    """

    bands: tuple[str, ...]
    asked: Mapping[str, Any]
    maker: str


@dataclass(frozen=True)
class Scenery:
    """The imagery under a product.

    Attributes:
        cube: The imagery.
        grid: The product's grid, on the cube's pixel lattice.
        first: (row, column) of the product's first pixel in the cube.
        fetched: The imagery was fetched for this product, because the workspace's does not cover the region.
    """

    cube: Cube
    grid: Grid
    first: tuple[int, int]
    fetched: bool

    @property
    def period(self) -> tuple[datetime, datetime]:
        """First and last acquisition, UTC without a zone."""
        first, last = (time.astype("datetime64[s]").item() for time in self.cube.times[[0, -1]])
        return first, last

    def provenance(self, wish: Wish, *, model: str, encoder: str, window_size: int) -> dict[str, str]:
        """What a product was made of, for its metadata.

        Args:
            wish: What the network wanted.
            model: Digest of the network's file or stage.
            encoder: Name of the encoder.
            window_size: Side of the windows that the network saw.
        """
        return {
            "SOFTWARE": "eearth",
            "MODEL": model,
            "ENCODER": encoder,
            "BANDS": ",".join(wish.bands),
            "COLLECTION": str(wish.asked.get("collection") or ""),
            "IMAGERY": hashlib.sha256("\n".join(self.cube.items).encode()).hexdigest(),
            "ACQUISITIONS": str(len(self.cube.times)),
            "FIRST_ACQUISITION": str(np.datetime_as_string(self.cube.times[0], unit="s")),
            "LAST_ACQUISITION": str(np.datetime_as_string(self.cube.times[-1], unit="s")),
            "WINDOW": f"{window_size}",
        }


def find_scenery(
    workspace: Workspace,
    region: Region,
    wish: Wish,
    settings: RegionSettings,
    *,
    scratch: Path,
    report: Report = silent,
) -> Scenery:
    """The workspace's imagery if it covers the region and has the bands, otherwise imagery fetched for this product.

    Args:
        workspace: Whose imagery is at hand, and whose providers count.
        region: What the product covers.
        wish: What the network wants.
        settings: Where the region lies, and how many assets to read at the same time.
        scratch: Where fetched imagery goes.
        report: Receives progress.

    Raises:
        EearthError: The imagery cannot be had.
    """
    at_hand = None
    if workspace.folder("download").is_dir():
        at_hand = Cube.open(workspace.folder("download") / CUBE)
        grid = at_hand.grid.over(region.projected(parse_crs(at_hand.grid.crs.to_wkt())).bounds)
        offset = at_hand.grid.offset_of(grid)
        if offset is not None and _covers(at_hand.grid, grid, offset) and set(at_hand.bands) >= set(wish.bands):
            return Scenery(at_hand, grid, offset, fetched=False)
    request = _request(workspace, wish, settings)
    lattice = _grid_to_fetch(region, request, at_hand)
    providers = provider_tables(workspace.root)
    plan = plan_imagery(region, request, folder=scratch, providers=providers, grid=lattice, report=report)
    write_cube(plan, scratch / CUBE, scratch=scratch, report=report)
    return Scenery(Cube.open(scratch / CUBE), plan.grid, (0, 0), fetched=True)


def _covers(outer: Grid, inner: Grid, offset: tuple[int, int]) -> bool:
    row, col = offset
    return row >= 0 and col >= 0 and row + inner.height <= outer.height and col + inner.width <= outer.width


def _request(workspace: Workspace, wish: Wish, settings: RegionSettings) -> DownloadSettings:
    """Ask as the workspace's imagery was asked for, or else as the network's was, for the bands of the network."""
    asked = asked_imagery(workspace) if workspace.folder("download").is_dir() else wish.asked
    lists = {name: tuple(value) for name, value in asked.items() if isinstance(value, list)}
    changed = {"region": settings.region, "bands": wish.bands, "workers": settings.workers}
    try:
        return DownloadSettings(**{**asked, **lists, **changed})
    except TypeError as error:
        msg = (
            f"expected the model to say how its imagery was asked for, found {sorted(asked)}: "
            f"run `eearth {wish.maker}` again"
        )
        raise ModelError(msg) from error


def _grid_to_fetch(region: Region, request: DownloadSettings, at_hand: Cube | None) -> Grid | None:
    """The lattice of the imagery at hand where that is near; otherwise what the request says."""
    if at_hand is None:
        return None
    crs = parse_crs(at_hand.grid.crs.to_wkt())
    if region.projected(crs).intersects(at_hand.grid.footprint) or crs == region.utm():
        return at_hand.grid.over(region.projected(crs).bounds)
    return snapped_grid(region, request, at_hand.grid.resolution[0]) if request.grid == "snap" else None


def inside_of(region: Region, grid: Grid) -> Callable[[Window], NDArray[np.bool_]]:
    """Window of the grid → which of its pixels the region touches; a region smaller than a pixel is that pixel."""
    shape: BaseGeometry = region.projected(parse_crs(grid.crs.to_wkt()))

    def inside(window: Window) -> NDArray[np.bool_]:
        part = grid.crop(window)
        mask: NDArray[np.bool_] = geometry_mask(
            [shape], out_shape=part.shape, transform=part.transform, all_touched=True, invert=True
        )
        return mask

    return inside

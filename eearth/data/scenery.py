"""Which imagery a product of any region is made from: the workspace's where it covers the region, otherwise fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eearth.config import provider_tables
from eearth.data.regions import asked_imagery
from eearth.errors import ModelError, NothingFoundError
from eearth.geo.aoi import Region, parse_crs
from eearth.geo.cube import CUBE, Cube
from eearth.geo.grid import Grid
from eearth.geo.imagery.plan import plan_imagery, snapped_grid
from eearth.geo.imagery.stream import Fetching
from eearth.geo.products.metadata.provenance import imagery_digest
from eearth.manifest import redacted
from eearth.settings import DownloadSettings

if TYPE_CHECKING:
    from eearth.workspace import Workspace

# Around the point where scenes are looked at before anything else: about a kilometre.
SPOT_DEGREES = 0.005


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
        grid: The product's grid, on the imagery's pixel lattice.
        held: The workspace's imagery, where it covers the product; None where it is fetched for each part.
        fetching: How it is fetched otherwise.
    """

    grid: Grid
    held: Path | None
    fetching: Fetching | None

    def provenance(self, wish: Wish, *, model: str, encoder: str, window_size: int) -> dict[str, str]:
        """What a product is made of, for its metadata, as far as that is known before it is begun.

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
            "WINDOW": f"{window_size}",
            **(_described(Cube.open(self.held)) if self.held else self._asked()),
        }

    def _asked(self) -> dict[str, str]:
        assert self.fetching is not None  # noqa: S101 - imagery that is not held is fetched
        request = self.fetching.request
        return {"CATALOG": redacted(request.catalog), "DATETIME": str(request.datetime)}


def _described(cube: Cube) -> dict[str, str]:
    return {
        "IMAGERY": imagery_digest(cube.items),
        "ACQUISITIONS": str(len(cube.times)),
        "FIRST_ACQUISITION": str(np.datetime_as_string(cube.times[0], unit="s")),
        "LAST_ACQUISITION": str(np.datetime_as_string(cube.times[-1], unit="s")),
    }


def find_scenery(
    workspace: Workspace, region: Region, wish: Wish, settings: RegionSettings, *, scratch: Path
) -> Scenery:
    """The workspace's imagery if it covers the region and has the bands, otherwise how to fetch it part by part.

    Args:
        workspace: Whose imagery is at hand, and whose providers count.
        region: What the product covers.
        wish: What the network wants.
        settings: Where the region lies, and how many assets to read at the same time.
        scratch: Where fetched imagery lies while it is needed.

    Raises:
        EearthError: The imagery cannot be had.
    """
    held = workspace.folder("download") / CUBE
    at_hand = Cube.open(held) if workspace.folder("download").is_dir() else None
    if at_hand:
        grid = at_hand.grid.over(region.projected(parse_crs(at_hand.grid.crs.to_wkt())).bounds)
        offset = at_hand.grid.offset_of(grid)
        if offset is not None and _covers(at_hand.grid, grid, offset) and set(at_hand.bands) >= set(wish.bands):
            return Scenery(grid, held, None)
    request = _request(workspace, wish, settings)
    providers = provider_tables(workspace.root)
    grid = _grid_to_fetch(region, request, at_hand) or _first_grid(region, request, providers, scratch)
    return Scenery(grid, None, Fetching(request, providers, region, scratch / "imagery"))


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


def _first_grid(
    region: Region, request: DownloadSettings, providers: Mapping[str, Mapping[str, Any]], folder: Path
) -> Grid:
    """The grid over a region that the scenes at a point of it suggest; those of the whole where none is there."""
    point = region.geometry.representative_point()
    spot = Region(point.buffer(SPOT_DEGREES), region.name)
    try:
        found = plan_imagery(spot, request, folder=folder, providers=providers).grid
    except NothingFoundError:
        return plan_imagery(region, request, folder=folder, providers=providers).grid
    if request.grid == "snap":
        return snapped_grid(region, request, found.resolution[0])
    return found.over(region.projected(parse_crs(found.crs.to_wkt())).bounds)


def _grid_to_fetch(region: Region, request: DownloadSettings, at_hand: Cube | None) -> Grid | None:
    """The lattice of the imagery at hand where that is near; otherwise what the request says."""
    if at_hand is None:
        return None
    crs = parse_crs(at_hand.grid.crs.to_wkt())
    if region.projected(crs).intersects(at_hand.grid.footprint) or crs == region.utm():
        return at_hand.grid.over(region.projected(crs).bounds)
    return snapped_grid(region, request, at_hand.grid.resolution[0]) if request.grid == "snap" else None

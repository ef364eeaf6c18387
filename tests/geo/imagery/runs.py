"""Downloads of the small site within the process of the test."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from small_site import BANDS, COLLECTION, Site

from eearth.events import Event, Warned
from eearth.geo.cube import CUBE, Cube
from eearth.geo.imagery.pieces import Job
from eearth.manifest import Manifest
from eearth.settings import DownloadSettings
from eearth.stages.download import download
from eearth.workspace import Workspace

if TYPE_CHECKING:
    import pytest
    from numpy.typing import NDArray


@dataclass
class Done:
    """A finished download, and what it said."""

    folder: Path
    manifest: Manifest
    heard: list[Event]

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.heard if isinstance(event, Warned)]

    @property
    def cube(self) -> Cube:
        return Cube.open(self.folder / "imagery" / CUBE)

    @property
    def arrays(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(values (time, band, y, x), valid (time, y, x))."""
        return np.asarray(self.cube.reflectance[...]), np.asarray(self.cube.valid[...])


def run(site: Site, catalog: Path | str, folder: Path, **asked: Any) -> Done:
    heard: list[Event] = []
    settings = DownloadSettings(
        **{"region": site.region, "catalog": str(catalog), "collection": COLLECTION, "bands": BANDS, "datetime": "2023",
           "max_cloud": 100.0, "workers": 4, **asked},
    )  # fmt: skip
    manifest = download(Workspace(folder), settings, heard.append)
    assert manifest is not None
    return Done(folder, manifest, heard)


def catalog_of(site: Site, folder: Path, without: tuple[str, ...] = ()) -> Path:
    """A catalog of the site's files on the disk. At the same place for the same folder: it is what a setting names."""
    shutil.rmtree(folder, ignore_errors=True)
    return site.catalog(folder, str(site.root), without)


def copy_of(site: Site, folder: Path) -> Site:
    """The site with files of its own, which a test may spoil."""
    shutil.copytree(site.root, folder)
    return replace(site, root=folder)


@dataclass
class Reads:
    """The pieces and masks that are read while it watches."""

    pieces: list[Job] = field(default_factory=list)
    masks: list[Job] = field(default_factory=list)

    @property
    def scenes(self) -> set[str]:
        return {part.scene for job in (*self.pieces, *self.masks) for part in job.parts}


def watched(monkeypatch: pytest.MonkeyPatch) -> Reads:
    from eearth.geo.imagery import assemble, fetch

    reads, look, read_piece = Reads(), fetch.look, fetch.read_piece

    def looking(job: Job) -> list[bytes]:
        reads.masks.append(job)
        return look(job)

    def reading(job: Job) -> bytes:
        reads.pieces.append(job)
        return read_piece(job)

    monkeypatch.setattr(fetch, "look", looking)
    monkeypatch.setattr(fetch, "read_piece", reading)
    monkeypatch.setattr(assemble, "read_piece", reading)
    return reads

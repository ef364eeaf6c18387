"""What a model learnt from, in the words of its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pyproj import CRS

from eearth.geo.aoi import lonlat_footprint
from eearth.geo.cube import CUBE, Cube
from eearth.geo.products.metadata.model_facts import TrainingRegion
from eearth.geo.splits.blocks import TEST, TRAIN, VALIDATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eearth.data.chips import LabelledSeries
    from eearth.geo.labels.legend import LandCoverClass
    from eearth.workspace import Workspace

# A region whose file nobody knows any more.
NAMELESS = "region"


def training_region(
    workspace: Workspace, labelled: LabelledSeries, classes: Sequence[LandCoverClass]
) -> TrainingRegion:
    """One workspace that a model learnt from.

    Args:
        workspace: Where its imagery is.
        labelled: That imagery, with labels and split.
        classes: The model's legend.

    Raises:
        WorkspaceError: The imagery is not there.
    """
    manifest = workspace.require("download")
    cube = Cube.open(workspace.folder("download") / CUBE)
    first, last = (time.astype("datetime64[s]").item() for time in cube.times[[0, -1]])
    return TrainingRegion(
        name=Path(manifest.paths.get("region", NAMELESS)).stem,
        outline=lonlat_footprint(cube.grid.bounds, CRS.from_wkt(cube.grid.crs.to_wkt())),
        pixel_metres=cube.grid.pixel_metres,
        collection=str(manifest.records.get("collection") or ""),
        first=first,
        last=last,
        acquisitions=len(cube.times),
        pixels={entry.code: _parts(labelled, entry.code) for entry in classes},
    )


def _parts(labelled: LabelledSeries, code: int) -> tuple[int, int, int]:
    """Pixels of a class for training, validation and test."""
    parts = labelled.split[labelled.labels == code]
    training, validation, test = (int(np.count_nonzero(parts == part)) for part in (TRAIN, VALIDATION, TEST))
    return training, validation, test

"""From a workspace to an accuracy on its test blocks: what the model, or its map, says there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.accuracy.held_out import ModelAccuracy, assess_blocks, groups_of, values_of_map
from eearth.data.regions import open_labelled
from eearth.errors import WorkspaceError
from eearth.evaluation import map_pixels
from eearth.geo.cube import CUBE, Cube
from eearth.geo.labels.legend import LandCoverClass
from eearth.geo.products.landcover.writer import LANDCOVER
from eearth.geo.splits.blocks import TEST
from eearth.models.device import choose_device
from eearth.models.files import LAND_COVER, load_land_cover

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.data.chips import LabelledSeries
    from eearth.settings import AssessSettings
    from eearth.workspace import Workspace


def assess_workspace(workspace: Workspace, settings: AssessSettings) -> ModelAccuracy | None:
    """Accuracy on the test part of the workspace's split; None where that has no pixel.

    Raises:
        EearthError: Model, labels or map are missing, stale, or do not fit together.
    """
    workspace.require_current("finetune", made_from="rasterize")  # else it may have learnt from what is held out now
    if settings.predictions == "map":
        workspace.require_current("predict", made_from="finetune")
    region, classes = open_labelled(workspace)
    held = (region.split == TEST) & (region.labels > 0)
    if not held.any():
        return None
    grid = Cube.open(workspace.folder("download") / CUBE).grid
    known: list[LandCoverClass] = []
    if settings.predictions == "map":
        mapped = values_of_map(workspace.folder("predict") / LANDCOVER, grid, held)
    else:
        mapped, known = _of_model(workspace, region, held, settings)
    groups, flags = groups_of(workspace.folder("rasterize"), held, grid, settings.resample)
    legend = {entry.code: entry for entry in (*known, *classes)}
    strange = sorted({*np.unique(mapped).tolist()} - {0, *legend})
    if strange:
        msg = f"expected the classes of the labels in the map, found the codes {strange}: use --predictions model"
        raise WorkspaceError(msg)
    ordered = [legend[code] for code in sorted(legend)]
    how = {"replicates": settings.replicates, "seed": settings.seed}
    return assess_blocks(region.labels[held], mapped, groups, ordered, flags=flags, **how)


def _of_model(
    workspace: Workspace, region: LabelledSeries, held: NDArray[np.bool_], settings: AssessSettings
) -> tuple[NDArray[np.uint8], list[LandCoverClass]]:
    """What the fine-tuned model says of the test pixels, and its legend."""
    model, saved = load_land_cover(workspace.folder("finetune") / LAND_COVER)
    mapped = map_pixels(model, region.series, held, choose_device(settings.device))
    return mapped[held], [LandCoverClass(**entry) for entry in saved.classes]

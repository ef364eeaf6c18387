"""Imagery of a region: STAC search → one clean data cube."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.events import Note, Report, Warned, silent
from eearth.geo.aoi import read_region
from eearth.geo.cube import CUBE, Cube
from eearth.geo.imagery import Plan, item_collection, plan_imagery, scene_records, write_cube
from eearth.geo.quicklook import clear_counts, draw_quicklook
from eearth.manifest import write_json
from eearth.workspace import file_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.manifest import Manifest
    from eearth.settings import DownloadSettings
    from eearth.workspace import Workspace


def download(workspace: Workspace, settings: DownloadSettings, report: Report = silent) -> Manifest:
    """Fetch the imagery of a region into `imagery/`.

    Writes `cube.zarr`, `items.json` (the scenes, a GeoJSON feature collection) and `quicklook.png`.

    Args:
        workspace: Where to write.
        settings: What to fetch.
        report: Receives progress, notes and warnings.

    Raises:
        EearthError: See `read_region` and `plan_imagery`.
    """
    region = read_region(settings.region, report)
    with workspace.stage(settings, {"region": file_input(settings.region)}) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('download')} is up to date"))
            return run.finished
        plan = plan_imagery(region, settings, folder=run.folder, report=report)
        contributed = write_cube(plan, run.folder / CUBE, scratch=run.scratch, report=report)
        write_json(run.folder / "items.json", item_collection(plan))
        cube = Cube.open(run.folder / CUBE)
        clear = clear_counts(cube)
        draw_quicklook(run.folder / "quicklook.png", cube, clear)
        _warn_of_holes(clear, report)
        records = {
            "collection": plan.found.collection,
            "removed": plan.found.removed,
            "duplicates": plan.duplicates,
            "incomplete": plan.incomplete,
            "resampling": {"reflectance": settings.resampling, "mask": "nearest"},
            "grid": plan.grid.as_dict(),
            "scenes": scene_records(plan, contributed),
        }
        return run.finish(figures=_figures(plan, clear), records=records)


def _warn_of_holes(clear: NDArray[np.int32], report: Report) -> None:
    never = int((clear == 0).sum())
    if never:
        text = f"{never} of {clear.size} pixels have no clear observation at all; a map will show no data there"
        report(Warned(text=text))


def _figures(plan: Plan, clear: NDArray[np.int32]) -> dict[str, Any]:
    return {
        "acquisitions": len(plan.acquisitions),
        "scenes": len(plan.items),
        "first": plan.acquisitions[0].time.date().isoformat(),
        "last": plan.acquisitions[-1].time.date().isoformat(),
        "bands": len(plan.settings.bands),
        "grid": f"{plan.grid.height} x {plan.grid.width}",
        "clear observations (median)": int(np.median(clear)),
        "clear observations (least)": int(clear.min()),
    }

"""Imagery of a region: STAC search → one clean data cube."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eearth.config import provider_digest, provider_tables
from eearth.errors import SourceError
from eearth.events import Note, Report, Table, Warned, silent
from eearth.geo.aoi import read_region
from eearth.geo.cube import CUBE, Cube
from eearth.geo.imagery.download import write_cube
from eearth.geo.imagery.estimate import estimate
from eearth.geo.imagery.plan import Plan, plan_imagery
from eearth.geo.imagery.records import acquisition_records, item_collection, scene_records
from eearth.geo.imagery.update import difference, known, merged
from eearth.geo.quicklook import draw_quicklook
from eearth.manifest import write_json
from eearth.workspace import Input, file_input

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eearth.geo.aoi import Region
    from eearth.geo.imagery.assemble import Assembled
    from eearth.geo.imagery.fetch import Fetched
    from eearth.manifest import Manifest
    from eearth.settings import DownloadSettings
    from eearth.workspace import Run, Workspace

# A scene that shows less of its footprint than this was cut short, or its footprint promises too much.
PROMISE_KEPT = 0.8


def download(workspace: Workspace, settings: DownloadSettings, report: Report = silent) -> Manifest | None:
    """Fetch the imagery of a region into `imagery/`.

    Writes `cube.zarr`, `items.json` (the scenes, a GeoJSON feature collection) and `quicklook.png`.

    Args:
        workspace: Where to write.
        settings: What to fetch.
        report: Receives progress, notes, warnings and a closing table.

    Returns:
        The manifest; None if only an estimate was asked for.

    Raises:
        EearthError: See `read_region`, `plan_imagery` and `write_cube`; or the region is not covered.
    """
    settings = _updated(workspace, settings) if settings.update else settings
    region = read_region(settings.region, report)
    if settings.estimate:
        providers = provider_tables(workspace.root)
        plan = plan_imagery(region, settings, folder=workspace.root, providers=providers, report=report)
        report(estimate(plan, workspace.root, settings.rate))
        return None
    with workspace.stage(settings, _inputs(workspace, settings), again=settings.update) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('download')} is up to date"))
            return run.finished
        return _run(workspace, settings, region, run, report)


def _run(workspace: Workspace, settings: DownloadSettings, region: Region, run: Run, report: Report) -> Manifest:
    plan = plan_imagery(region, settings, folder=run.folder, providers=provider_tables(workspace.root), report=report)
    earlier = _earlier(workspace, plan, run, report)
    plan = replace(plan, known=known(earlier[0])) if earlier else plan
    cube = earlier[1] if earlier else None
    fetched, done = write_cube(plan, run.folder / CUBE, scratch=run.scratch, earlier=cube, report=report)
    _check_coverage(done, settings, report)
    write_json(run.folder / "items.json", item_collection(fetched))
    draw_quicklook(run.folder / "quicklook.png", done.cube, done.summary, done.shown)
    scenes = scene_records(plan, fetched, done)
    scenes = merged(*earlier, fetched, scenes) if earlier else scenes
    _warn_of_short_scenes(scenes, report)
    report(_closing_table(plan, fetched, scenes))
    records = {
        "collection": plan.found.collection,
        "provider": plan.provider.as_dict(),
        "removed": plan.found.removed,
        "duplicates": plan.duplicates,
        "incomplete": plan.incomplete,
        "dropped": fetched.dropped,
        "resampling": {"reflectance": settings.resampling, "mask": "nearest"},
        "grid": plan.grid.as_dict(),
        "acquisitions": acquisition_records(plan, fetched),
        "scenes": scenes,
    }
    return run.finish(figures=_figures(plan, fetched, done), records=records)


def _inputs(workspace: Workspace, settings: DownloadSettings) -> dict[str, Input]:
    described = provider_digest(workspace.root, settings.provider)
    return {"region": file_input(settings.region)} | ({"provider": Input(described)} if described else {})


def _updated(workspace: Workspace, settings: DownloadSettings) -> DownloadSettings:
    """The finished download's settings, but for what this call asks otherwise, up to today."""
    finished = workspace.manifest("download")
    if finished is None:
        return settings
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in finished.settings.items()}
    same: dict[str, Any] = {name: value for name, value in lists.items() if name not in settings.origins}
    if "datetime" not in settings.origins:
        begin = str(finished.settings["datetime"]).split("/")[0]
        same["datetime"] = f"{begin}/{datetime.now(UTC).date().isoformat()}"
    return replace(settings, **same, origins={**finished.origins, **settings.origins, "datetime": "flag"})


def _earlier(workspace: Workspace, plan: Plan, run: Run, report: Report) -> tuple[Manifest, Cube] | None:
    """The finished download, if an update was asked for and its pixels can be taken as they are."""
    finished = workspace.manifest("download")
    if finished is None or not plan.settings.update:
        return None
    cube = Cube.open(workspace.folder("download") / CUBE)
    other = difference(finished, cube, plan, run.inputs["region"].digest)
    if other is None:
        return finished, cube
    report(Warned(text=f"the finished cube is of another {other}: every date is fetched anew"))
    return None


def _check_coverage(done: Assembled, settings: DownloadSettings, report: Report) -> None:
    summary = done.summary
    covered = 100 * (1 - summary.never / summary.region) if summary.region else 100.0
    if covered < settings.min_coverage:
        msg = (
            f"expected clear observations of {settings.min_coverage:g} % of the region, found {covered:.1f} %: widen "
            "--datetime, raise --max-cloud, or run it again with a lower --min-coverage, it continues"
        )
        raise SourceError(msg)
    if summary.never:
        text = f"{summary.never} of {summary.region} pixels of the region have no clear observation at all; "
        report(Warned(text=f"{text}a map will show no data there"))


def _warn_of_short_scenes(scenes: Sequence[Mapping[str, Any]], report: Report) -> None:
    short = [record for record in scenes if record["observed_pixels"] < PROMISE_KEPT * record["promised_pixels"]]
    if short:
        text = f"{len(short)} scenes show less than {PROMISE_KEPT:.0%} of what their footprints promise"
        report(Warned(text=f"{text}, such as {short[0]['id']}: see `scenes` in manifest.json"))


def _closing_table(plan: Plan, fetched: Fetched, scenes: Sequence[Mapping[str, Any]]) -> Table:
    """Scenes found, used and left out, and why."""
    reasons: Counter[str] = Counter(plan.found.removed)
    reasons["duplicate of another scene"] = len(plan.duplicates)
    reasons["incomplete or unreadable"] = len(plan.incomplete) + len(fetched.dropped)
    for ids, reason in fetched.removed.items():
        reasons[reason.split(" (")[0]] += len(ids.split())
    rows = [("found", str(plan.found.matched)), *((f"left out: {why}", str(n)) for why, n in reasons.items() if n)]
    return Table(title="", columns=("scenes", ""), rows=(*rows, ("used", str(len(scenes)))))


def _figures(plan: Plan, fetched: Fetched, done: Assembled) -> dict[str, Any]:
    times = done.cube.times.astype("datetime64[D]")
    return {
        "acquisitions": len(done.cube.times),
        "scenes": sum(len(group.scenes) for group in fetched.acquisitions),
        "first": str(times[0]),
        "last": str(times[-1]),
        "bands": len(plan.bands),
        "grid": f"{plan.grid.height} x {plan.grid.width}",
        "clear observations (median)": done.summary.median,
        "clear observations (least)": done.summary.least,
    }

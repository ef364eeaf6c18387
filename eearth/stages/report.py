"""Map, accuracy and provenance → one HTML page that needs no network, and its figures as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eearth.errors import WorkspaceError
from eearth.events import Note, Report, Warned, silent
from eearth.manifest import write_json, write_text
from eearth.report.page import compose
from eearth.report.sources import Held

if TYPE_CHECKING:
    from eearth.manifest import Manifest
    from eearth.settings import ReportSettings
    from eearth.workspace import Workspace

PAGE, FIGURES = "report.html", "report.json"


def report(workspace: Workspace, settings: ReportSettings, report: Report = silent) -> Manifest:
    """Put all that the workspace holds on one page, into `report/`.

    Writes `report.html`, which holds everything that it shows, and `report.json`, the same figures with their sources.

    Args:
        workspace: What to report on, and where to write.
        settings: Title and size.
        report: Receives progress.

    Raises:
        WorkspaceError: There is neither a map nor a model, or a file of a stage cannot be read.
    """
    held = Held.by(workspace)
    if "predict" not in held and "finetune" not in held:
        msg = f"expected a map or a model in {workspace.root}, found neither: run `eearth finetune` first"
        raise WorkspaceError(msg)
    with workspace.stage(settings, workspace.given(*held.manifests)) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('report')} is up to date"))
            return run.finished
        html, figures = compose(held, title=settings.title, max_side=settings.max_side, report=report)
        for text in figures["warnings"]:
            report(Warned(text=text))
        write_text(run.folder / PAGE, html)
        write_json(run.folder / FIGURES, figures)
        report(Note(text=f"open {workspace.folder('report') / PAGE} in a browser"))
        return run.finish(
            figures={"figures": len(figures["figures"]), "size": f"{len(html.encode()) / 1e6:.1f} MB"}, records={}
        )

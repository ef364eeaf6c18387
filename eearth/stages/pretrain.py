"""No labels: the network learns from the imagery itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.data.regions import asked_imagery, open_labelled, open_series
from eearth.errors import WorkspaceError
from eearth.events import Note, Report, silent
from eearth.models.files import ENCODER, is_outdated, save_encoder
from eearth.pictures import draw_directions, draw_history, draw_picture
from eearth.training.distributed import joined
from eearth.training.history import write_history
from eearth.training.pretrain import Keeping, pretrain_together
from eearth.training.probe import embedding_colours
from eearth.workspace import LOGS, Workspace, inputs_of_others

if TYPE_CHECKING:
    from eearth.data.chips import LabelledSeries
    from eearth.manifest import Manifest
    from eearth.models.encoder import Encoder
    from eearth.settings import PretrainSettings
    from eearth.training.distributed import Ranks
    from eearth.training.pretrain import Watched
    from eearth.workspace import Input, Run

PANELS = {
    "loss": ["loss"],
    "alignment": ["alignment"],
    "uniformity": ["uniformity"],
    "mIoU of a linear probe": ["probe_miou"],
}


def pretrain(workspace: Workspace, settings: PretrainSettings, report: Report = silent) -> Manifest:
    """Pre-train an encoder on the workspace's imagery, and on that of others, into `pretrain/`.

    Writes `encoder.safetensors`, `model.json`, `history.csv` and `embedding.png`; `directions.png` where directions
    were learnt, `loss.png` where steps were taken, and `logs/` where TensorBoard is installed. Of several processes
    that a launcher started, one writes and reports.

    Args:
        workspace: Where the imagery is, and where to write.
        settings: How to train.
        report: Receives progress.

    Raises:
        EearthError: There is no imagery, or that of the workspaces does not fit together.
    """
    sources = [workspace, *(Workspace(path) for path in settings.imagery)]
    with joined(settings.device) as ranks:
        if not ranks.leads:
            return _follow(sources, settings, ranks)
        manifest = _lead(sources, settings, ranks, report)
        ranks.share(manifest)
        return manifest


def _lead(sources: list[Workspace], settings: PretrainSettings, ranks: Ranks, report: Report) -> Manifest:
    """Decide whether there is something to do, train with the others, and write."""
    workspace = sources[0]
    outdated = is_outdated(workspace.folder("pretrain") / ENCODER)
    with workspace.stage(settings, _inputs(sources), again=outdated) as run:
        ranks.share(run.finished is None)
        if run.finished:
            report(Note(text=f"{workspace.folder('pretrain')} is up to date"))
            return run.finished
        labelled = _labelled(workspace)
        encoder, watched = pretrain_together(
            [open_series(source) for source in sources],
            settings,
            ranks,
            Keeping(run.scratch, run.folder / LOGS),
            labelled=labelled,
            report=report,
        )
        _write(run, workspace, encoder, watched, ranks)
        return run.finish(
            seed=settings.seed,
            figures={"regions": len(sources)} | _figures(watched),
            timings={"data-wait": f"{100 * watched.wait.share:.1f} %", "imagery was in": watched.held},
            records={"device": ranks.device.type, "processes": ranks.size, "probe": _watched_by(workspace, labelled)},
        )


def _follow(sources: list[Workspace], settings: PretrainSettings, ranks: Ranks) -> Manifest:
    """Train with the leader if there is something to do."""
    if ranks.share(None):
        pretrain_together([open_series(source) for source in sources], settings, ranks, Keeping())
    manifest: Manifest = ranks.share(None)
    return manifest


def _labelled(workspace: Workspace) -> LabelledSeries | None:
    """The workspace's imagery with its labels, only to watch by; None where there are none of this imagery."""
    try:
        return open_labelled(workspace)[0]
    except WorkspaceError:
        return None


def _watched_by(workspace: Workspace, labelled: LabelledSeries | None) -> str | None:
    """The labels' digest. They are no input: other labels leave the encoder as it is."""
    return workspace.require("rasterize").digest if labelled else None


def _write(run: Run, workspace: Workspace, encoder: Encoder, watched: Watched, ranks: Ranks) -> None:
    save_encoder(run.folder, encoder, asked_imagery(workspace))
    write_history(run.folder / "history.csv", watched.history)
    if watched.directions:
        found = watched.directions
        draw_directions(run.folder / "directions.png", found.strength.numpy(), found.shared.numpy())
    if any("loss" in row for row in watched.history):
        draw_history(run.folder / "loss.png", watched.history, PANELS)
    colours = embedding_colours(encoder.to(ranks.device), open_series(workspace), ranks.device)
    draw_picture(run.folder / "embedding.png", colours)


def _inputs(sources: list[Workspace]) -> dict[str, Input]:
    """The imagery of each workspace."""
    return sources[0].given("download") | inputs_of_others(sources, "download", "imagery")


def _figures(watched: Watched) -> dict[str, Any]:
    losses = [row["loss"] for row in watched.history if "loss" in row]
    figures: dict[str, Any] = {"steps": len(losses)}
    if losses:
        tenth = max(1, len(losses) // 10)
        figures["loss, first tenth"] = round(float(np.mean(losses[:tenth])), 4)
        figures["loss, last tenth"] = round(float(np.mean(losses[-tenth:])), 4)
    probed = [row["probe_miou"] for row in watched.history if "probe_miou" in row]
    if probed and watched.first_probe is not None:
        told = [f"{watched.first_probe:.4f} with random weights"]
        told += [f"{probed[0]:.4f} with learnt directions"] if watched.directions else []
        told += [f"{probed[-1]:.4f} at the end"] if losses else []
        figures["probe mIoU"] = ", ".join(told)
    return figures

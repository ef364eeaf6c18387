"""No labels: the network learns from the imagery itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.data.regions import asked_imagery, open_series
from eearth.events import Note, Report, silent
from eearth.models.files import save_encoder
from eearth.pictures import draw_history
from eearth.training.history import write_history
from eearth.training.loop import choose_device
from eearth.training.pretrain import pretrain as train
from eearth.workspace import Input, Workspace

if TYPE_CHECKING:
    from eearth.manifest import Manifest
    from eearth.settings import PretrainSettings


def pretrain(workspace: Workspace, settings: PretrainSettings, report: Report = silent) -> Manifest:
    """Pre-train an encoder on the workspace's imagery, and on that of others, into `pretrain/`.

    Writes `encoder.safetensors`, `model.json`, `history.csv` and `loss.png`.

    Args:
        workspace: Where the imagery is, and where to write.
        settings: How to train.
        report: Receives progress.

    Raises:
        EearthError: There is no imagery, or that of the workspaces does not fit together.
    """
    sources = [workspace, *(Workspace(path) for path in settings.imagery)]
    with workspace.stage(settings, _inputs(sources)) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('pretrain')} is up to date"))
            return run.finished
        series = [open_series(source) for source in sources]
        device = choose_device(settings.device)
        encoder, history = train(series, settings, device=device, checkpoint=run.scratch, report=report)
        save_encoder(run.folder, encoder, asked_imagery(workspace))
        write_history(run.folder / "history.csv", history)
        draw_history(run.folder / "loss.png", history, {"contrastive loss": ["loss"]})
        return run.finish(seed=settings.seed, figures=_figures(history, len(sources)), records={"device": str(device)})


def _inputs(sources: list[Workspace]) -> dict[str, Input]:
    """The imagery of each workspace; others are named by their position, so that a moved folder is the same input."""
    own = sources[0].given("download")
    others = {
        f"imagery {number}": Input(source.require("download").digest, source.folder("download").resolve())
        for number, source in enumerate(sources[1:], start=2)
    }
    return own | others


def _figures(history: list[dict[str, float]], regions: int) -> dict[str, Any]:
    losses = [row["loss"] for row in history]
    tenth = max(1, len(losses) // 10)
    return {
        "regions": regions,
        "steps": len(losses),
        "loss, first tenth": round(float(np.mean(losses[:tenth])), 4),
        "loss, last tenth": round(float(np.mean(losses[-tenth:])), 4),
    }

"""Does pre-training help here? The paper's experiment on the user's own labels."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from math import isnan
from statistics import fmean
from typing import TYPE_CHECKING, Any

from eearth.comparison.conclusion import conclude, gain_text
from eearth.comparison.contenders import LABELS, PRETRAINED, PROBE, SCRATCH, Pretrained, line_up
from eearth.comparison.crew import Crew, available_cores
from eearth.comparison.experiment import Plan
from eearth.comparison.figure import draw_budgets
from eearth.comparison.ledger import Ledger
from eearth.comparison.rounds import run_all
from eearth.comparison.tables import difference_table, heading, markdown, mean_table, read_runs, write_cells, write_runs
from eearth.data.regions import open_series
from eearth.data.series import band_statistics
from eearth.errors import ModelError, UsageError, WorkspaceError
from eearth.events import Note, Report, Table, silent
from eearth.manifest import file_digest, write_text
from eearth.models.files import ENCODER, load_encoder
from eearth.settings import FinetuneSettings, PretrainSettings
from eearth.training.loop import choose_device
from eearth.training.pretrain import new_encoder
from eearth.workspace import Input, Run, Workspace, file_input

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from eearth.comparison.contenders import Outcome, Task
    from eearth.comparison.summary import Summary
    from eearth.data.series import Series
    from eearth.manifest import Manifest
    from eearth.settings import CompareSettings

# How the workspace's labels were split; the seed is that of each repetition.
SPLIT_SETTINGS = ("block_size", "buffer", "test_fraction", "validation_fraction")


def compare(workspace: Workspace, settings: CompareSettings, report: Report = silent) -> Manifest:
    """Compare pre-training with training from scratch and with classifiers of pixels, into `compare/`.

    Writes `runs.csv`, `table.csv`, `table.md`, `figure.png` and `conclusion.txt`.

    Args:
        workspace: Where imagery, labels and the encoder are, and where to write.
        settings: What to compare.
        report: Receives progress.

    Raises:
        EearthError: An earlier stage is missing, an encoder does not fit, or there are too few labels.
    """
    workspace.require_current("rasterize", made_from="download")
    encoders = _encoders(workspace, settings)
    inputs = _inputs(workspace, encoders)
    with workspace.stage(settings, inputs) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('compare')} is up to date"))
            return run.finished
        plan = _plan(workspace, settings, encoders, run)
        records = {"network": plan.network, "device": plan.device}
        ledger = Ledger(run.scratch / "runs.jsonl", _earlier(workspace, settings, inputs, records))
        with Crew(plan, settings.workers or available_cores()) as crew:
            summary = run_all(crew, ledger, settings, report)
        sentence = conclude(summary)
        write_runs(run.folder / "runs.csv", ledger.outcomes, plan.contenders, summary)
        write_cells(run.folder / "table.csv", summary)
        write_text(run.folder / "table.md", markdown(summary, sentence))
        write_text(run.folder / "conclusion.txt", sentence + "\n")
        draw_budgets(run.folder / "figure.png", summary)
        _show(summary, sentence, report)
        return run.finish(figures=_figures(summary), records=records, timings=_timings(ledger))


def _encoders(workspace: Workspace, settings: CompareSettings) -> tuple[Pretrained, ...]:
    """The workspace's own encoder, if it has one, then the others; the network from scratch is theirs in any case."""
    own = (Pretrained(_encoder_of(workspace)),) if workspace.folder("pretrain").is_dir() else ()
    others = tuple(_named(path) for path in settings.encoder)
    others = tuple(one for one in others if not own or one.path.resolve() != own[0].path.resolve())
    if not own and not others and {PRETRAINED, PROBE} & set(settings.contenders):
        msg = (
            f"expected a pre-trained encoder, found no {workspace.folder('pretrain')}: run `eearth pretrain` first, "
            "name another workspace by --encoder, or leave it out with --contenders scratch,forest"
        )
        raise WorkspaceError(msg)
    twice = [name for name, count in Counter(one.source for one in others).items() if count > 1]
    if twice:
        msg = f"expected encoders of different names, found several called {twice[0]}: rename a folder or file"
        raise UsageError(msg)
    return own + others


def _named(given: Path) -> Pretrained:
    """An encoder of another workspace is named by its folder, a file by itself, or by its workspace if it is in one."""
    if given.is_dir():
        return Pretrained(_encoder_of(Workspace(given)), given.resolve().name)
    folder = given.resolve().parent
    return Pretrained(given, folder.parent.name if folder.name == "pretrain" else given.stem)


def _encoder_of(workspace: Workspace) -> Path:
    workspace.require("pretrain")
    return workspace.folder("pretrain") / ENCODER


def _inputs(workspace: Workspace, encoders: Sequence[Pretrained]) -> dict[str, Input]:
    inputs = workspace.given("download", "rasterize")
    if any(not one.source for one in encoders):
        inputs |= workspace.given("pretrain")
    return inputs | {f"encoder {one.source}": file_input(one.path) for one in encoders if one.source}


def _plan(workspace: Workspace, settings: CompareSettings, encoders: Sequence[Pretrained], run: Run) -> Plan:
    """What the processes need; an encoder that does not fit is found before anything is written."""
    split = workspace.require("rasterize").settings
    return Plan(
        workspace=workspace.root,
        contenders=line_up(settings.contenders, encoders, settings.scratch_rates),
        split={name: split[name] for name in SPLIT_SETTINGS},
        network=_network(open_series(workspace), encoders),
        training=FinetuneSettings(steps=settings.steps),
        device=str(choose_device(settings.device)),
        kept=run.scratch,
    )


def _earlier(
    workspace: Workspace, settings: CompareSettings, inputs: Mapping[str, Input], records: dict[str, Any]
) -> dict[Task, Outcome]:
    """Runs of a finished comparison that hold for this one: of more seeds, other budgets or other contenders."""
    done, path = workspace.manifest("compare"), workspace.folder("compare") / "runs.csv"
    if done is None or not path.is_file() or file_digest(path) != done.outputs.get(path.name):
        return {}
    made_from = (done.eearth, done.inputs, done.settings.get("steps"), done.records)
    now = (version("eearth"), {name: given.digest for name, given in inputs.items()}, settings.steps, records)
    return read_runs(path) if made_from == now else {}


def _network(series: Series, encoders: Sequence[Pretrained]) -> dict[str, Any]:
    """The network from scratch: that of the encoders, which must agree, with this imagery's band statistics.

    Raises:
        ModelError: The imagery lacks a band, or the encoders are of different networks.
    """
    if not encoders:
        return new_encoder([series], PretrainSettings()).config()
    configs = {one: load_encoder(one.path).config() for one in encoders}
    first = configs[encoders[0]]
    for one, config in configs.items():
        series.band_index(config["bands"])
        if _shape(config) != _shape(first):
            msg = (
                f"expected encoders of one network with the same bands, found {_shape(first)} and, in {one.path}, "
                f"{_shape(config)}: compare them one by one"
            )
            raise ModelError(msg)
    mean, std = band_statistics([series], first["bands"])
    return first | {"mean": mean, "std": std}


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    """What must agree: bands may come in any order, and each region has its own statistics."""
    return {key: value for key, value in config.items() if key not in ("mean", "std")} | {
        "bands": sorted(config["bands"])
    }


def _show(summary: Summary, sentence: str, report: Report) -> None:
    report(_table("test mIoU by labelled pixels of each class", mean_table(summary)))
    if summary.pretrained and summary.references:
        report(_table("gain of pre-training, paired by seed, 95 % interval (wins)", difference_table(summary)))
    report(Note(text=sentence))


def _timings(ledger: Ledger) -> dict[str, Any]:
    """Seconds of a run, by contender: one thread of one core, beside the other workers."""
    seconds: dict[str, list[float]] = {}
    for task, outcome in ledger.outcomes.items():
        if not isnan(outcome.seconds):
            seconds.setdefault(task.contender, []).append(outcome.seconds)
    return {f"s a run, {name}": round(fmean(values), 2) for name, values in sorted(seconds.items())}


def _table(title: str, content: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]) -> Table:
    return Table(title=title, columns=content[0], rows=content[1])


def _figures(summary: Summary) -> dict[str, Any]:
    counts = [len(summary.cell(label, budget).scores) for label in summary.labels for budget in summary.budgets]
    figures: dict[str, Any] = {"contenders": len(summary.labels), "seeds": max(counts)}
    for label in summary.pretrained:
        for budget in summary.budgets if LABELS[SCRATCH] in summary.labels else ():
            gain = gain_text(summary.difference(label, LABELS[SCRATCH], budget))
            figures[f"gain, {label.removeprefix(LABELS[PRETRAINED]).strip() or 'own'}, {heading(budget)}"] = gain
    return figures

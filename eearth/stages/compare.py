"""Does pre-training help here? The paper's experiment on the user's own labels."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from math import isnan
from statistics import fmean
from typing import TYPE_CHECKING, Any

from eearth.comparison.conclusion import conclude, gain_text
from eearth.comparison.contenders import FOREST, LABELS, PRETRAINED, PROBE, SCRATCH, Pretrained, line_up
from eearth.comparison.crew import Crew, available_cores
from eearth.comparison.figure import draw_budgets
from eearth.comparison.ledger import Ledger
from eearth.comparison.plan import Plan, Source
from eearth.comparison.rounds import run_all
from eearth.comparison.splits import overlapping
from eearth.comparison.tables import difference_table, heading, markdown, mean_table, read_runs, write_cells, write_runs
from eearth.data.regions import open_all_labelled
from eearth.data.series import band_statistics
from eearth.errors import ModelError, UsageError, WorkspaceError
from eearth.events import Note, Report, Table, silent
from eearth.geo.cube import CUBE, Cube
from eearth.manifest import file_digest, write_text
from eearth.models.device import choose_device
from eearth.models.files import encoder_of, load_encoder
from eearth.models.registry import MODELS
from eearth.settings import FinetuneSettings, PretrainSettings
from eearth.training.pretrain import new_encoder
from eearth.workspace import Input, Run, Workspace, file_input, inputs_of_others

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from eearth.comparison.contenders import Outcome, Task
    from eearth.comparison.summary import Summary
    from eearth.data.series import Series
    from eearth.manifest import Manifest
    from eearth.settings import CompareSettings

# How a workspace's labels were split; the seed is that of each repetition.
SPLIT_SETTINGS = ("block_size", "buffer", "test_fraction", "validation_fraction")


def compare(workspace: Workspace, settings: CompareSettings, report: Report = silent) -> Manifest:
    """Compare pre-training with training from scratch and with classifiers of pixels, into `compare/`.

    Writes `runs.csv`, `table.csv`, `table.md`, `figure.png` and `conclusion.txt`.

    Args:
        workspace: Where imagery, labels and the encoder are, and where to write.
        settings: What to compare.
        report: Receives progress.

    Raises:
        EearthError: An earlier stage is missing, the workspaces or an encoder do not fit, or there are too few labels.
    """
    sources = _sources(workspace, settings)
    for source in sources:
        source.require_current("rasterize", made_from="download")
    encoders = _encoders(workspace, settings)
    inputs = _inputs(sources, encoders)
    with workspace.stage(settings, inputs) as run:
        if run.finished:
            report(Note(text=f"{workspace.folder('compare')} is up to date"))
            return run.finished
        plan = _plan(sources, settings, encoders, run)
        records = {"network": plan.network | {"revision": MODELS[plan.network["name"]].revision}, "device": plan.device}
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


def _sources(workspace: Workspace, settings: CompareSettings) -> list[Workspace]:
    """The workspace and the others; one that took part twice would be tested on what it was trained on."""
    sources = [workspace, *(Workspace(path) for path in settings.also)]
    twice = [str(path) for path, count in Counter(one.root.resolve() for one in sources).items() if count > 1]
    if twice:
        msg = f"expected each workspace once, found {twice[0]} twice: leave it out of --also"
        raise UsageError(msg)
    return sources


def _encoders(workspace: Workspace, settings: CompareSettings) -> tuple[Pretrained, ...]:
    """The workspace's own encoder, if it has one, then the others; the network from scratch is theirs in any case."""
    own = (Pretrained(encoder_of(workspace)),) if workspace.folder("pretrain").is_dir() else ()
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
        return Pretrained(encoder_of(Workspace(given)), given.resolve().name)
    folder = given.resolve().parent
    return Pretrained(given, folder.parent.name if folder.name == "pretrain" else given.stem)


def _inputs(sources: Sequence[Workspace], encoders: Sequence[Pretrained]) -> dict[str, Input]:
    """Stages of the workspace, labels of the others, encoders of others; labels speak for their imagery."""
    inputs = sources[0].given("download", "rasterize") | inputs_of_others(sources, "rasterize", "labels")
    if any(not one.source for one in encoders):
        inputs |= sources[0].given("pretrain")
    return inputs | {f"encoder {one.source}": file_input(one.path) for one in encoders if one.source}


def _plan(sources: Sequence[Workspace], settings: CompareSettings, encoders: Sequence[Pretrained], run: Run) -> Plan:
    """What the processes need; what does not fit together is found before anything is written."""
    series = [region.series for region in open_all_labelled(sources)[0]]
    _check_overlap(sources)
    if FOREST in settings.contenders:
        for one in series:
            one.band_index(series[0].bands)
    return Plan(
        sources=tuple(Source(source.root, _split_of(source)) for source in sources),
        contenders=line_up(settings.contenders, encoders, settings.rates),
        network=_network(series, encoders),
        training=FinetuneSettings(steps=settings.steps),
        device=str(choose_device(settings.device)),
        kept=run.scratch,
    )


def _check_overlap(sources: Sequence[Workspace]) -> None:
    pair = overlapping([Cube.open(source.folder("download") / CUBE).grid for source in sources])
    if pair:
        one, other = (sources[number].root for number in pair)
        msg = (
            f"expected regions that do not overlap, found the same ground in {one} and {other}, where training "
            "pixels of one would be test pixels of the other: compare them one by one"
        )
        raise UsageError(msg)


def _split_of(source: Workspace) -> dict[str, float | None]:
    split = source.require("rasterize").settings
    return {name: split[name] for name in SPLIT_SETTINGS}


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


def _network(series: Sequence[Series], encoders: Sequence[Pretrained]) -> dict[str, Any]:
    """The network from scratch: that of the encoders, which must agree, with this imagery's band statistics.

    Raises:
        ModelError: The imagery lacks a band, or the encoders are of different networks.
    """
    if not encoders:
        return new_encoder(series, PretrainSettings()).config()
    configs = {one: load_encoder(one.path).config() for one in encoders}
    first = configs[encoders[0]]
    for one, config in configs.items():
        for region in series:
            region.band_index(config["bands"])
        if _shape(config) != _shape(first):
            msg = (
                f"expected encoders of one network with the same bands, found {_shape(first)} and, in {one.path}, "
                f"{_shape(config)}: compare them one by one"
            )
            raise ModelError(msg)
    mean, std = band_statistics(series, first["bands"])
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

"""Self-supervised dense pre-training."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eearth.data.gather import hold
from eearth.data.radiometry import Radiometry, change_radiometry
from eearth.data.series import band_statistics, samples
from eearth.data.views import Controls, Pairs, draw_pairs
from eearth.errors import ModelError, UsageError
from eearth.events import Finished, Report, silent
from eearth.models.contrast import Directions
from eearth.models.registry import build
from eearth.training.directions import DRAW_NEIGHBOURS, learn_directions, planned_steps
from eearth.training.distributed import Ranks
from eearth.training.history import open_log
from eearth.training.loop import DataWait, TrainingState, learning_rate_factor, prefetched, update
from eearth.training.objective import Objective, follow, new_modules
from eearth.training.probe import Probe
from eearth.training.watching import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eearth.data.chips import LabelledSeries
    from eearth.data.gather import HeldSeries
    from eearth.data.series import Chips, Series
    from eearth.models.encoder import Encoder
    from eearth.settings import PretrainSettings

TASK = "Pre-training"

# No pixel may be left without negatives: the exclusion reaches no farther than this share of a region's shorter side.
LARGEST_EXCLUSION = 0.25

# Batches made ahead. A GPU takes its batches faster than one thread draws their noise; a CPU has no core to spare.
AHEAD = {"cpu": 1, "cuda": 4}

# Compiling takes about a minute, which so many steps win back.
COMPILE_STEPS = 1000

# What the parts of a step draw from: the seed, one of these, and the step.
DRAW_PAIRS, DRAW_RADIOMETRY = 1, 5


@dataclass
class Watched:
    """What pre-training tells beside the encoder.

    Attributes:
        history: For each step its loss, and where they were looked at alignment, uniformity and the probe's mIoU.
            A probe before the first step is step 0.
        wait: How long the network waited for batches.
        held: Where the imagery was: "cuda", "memory" or "disk".
        directions: What was learnt before the first step; None for nothing.
        first_probe: The probe's mIoU of random weights; None where there is no probe.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    wait: DataWait = field(default_factory=DataWait)
    held: str = "disk"
    directions: Directions | None = None
    first_probe: float | None = None


@dataclass(frozen=True)
class Keeping:
    """Where a training leaves its traces; None for none.

    Attributes:
        checkpoint: Folder for the state that a resumed run takes up.
        logs: Folder for TensorBoard's files.
    """

    checkpoint: Path | None = None
    logs: Path | None = None


def new_encoder(series: Sequence[Series], settings: PretrainSettings) -> Encoder:
    """A fresh encoder for the regions' bands: random weights, used to what is usual there.

    Raises:
        ModelError: The regions have different bands, or no clear pixel.
    """
    bands = series[0].bands
    for one in series:
        if set(one.bands) != set(bands):
            msg = f"expected the same bands in all regions, found {', '.join(bands)} and {', '.join(one.bands)}"
            raise ModelError(msg)
    mean, std = band_statistics(series, bands, settings.seed)
    shape = {"features": settings.features, "depth": settings.depth}
    network = {"name": settings.model, "bands": bands, "mean": mean, "std": std, **shape}
    return untrained(series, network, settings.seed)


def untrained(series: Sequence[Series], network: dict[str, Any], seed: int) -> Encoder:
    """A network with random weights, used to what is usual in some imagery.

    Args:
        series: The imagery.
        network: Its description, as `Encoder.config` gives it.
        seed: Of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build(**network)
    encoder.get_used_to(samples(series, encoder.bands, seed))
    return encoder


def at_home(encoder: Encoder, series: Sequence[Series], seed: int = 0) -> Encoder:
    """A copy of an encoder from elsewhere that takes what is usual from this imagery; see `Encoder.settle`.

    Band statistics and composites differ from region to region by season, haze and sensor, and so do the directions
    in which its places differ.

    Args:
        encoder: Of other imagery; left unchanged.
        series: Imagery with the encoder's bands.
        seed: Of the windows that are looked at.

    Raises:
        ModelError: The imagery lacks a band, or has no clear pixel.
    """
    moved = copy.deepcopy(encoder)
    for held, found in zip((moved.mean, moved.std), band_statistics(series, moved.bands, seed), strict=True):
        held.copy_(torch.tensor(found)[:, None, None])
    drawn = samples(series, moved.bands, seed)
    moved.get_used_to(drawn)
    moved.settle(drawn, np.random.default_rng([seed, DRAW_NEIGHBOURS]))
    return moved


def pretrain(
    series: Sequence[Series],
    settings: PretrainSettings,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    report: Report = silent,
) -> tuple[Encoder, list[dict[str, float]]]:
    """Train an encoder to know a place again on other dates, in this process alone.

    Args:
        series: Regions, all with the same bands.
        settings: See there.
        device: Where to train.
        checkpoint: Folder for the state that a resumed run takes up; None to keep none.
        report: Receives progress.

    Returns:
        The encoder on the CPU, and for each step its figures.

    Raises:
        ModelError: The regions have different bands, or no clear pixel.
    """
    ranks = Ranks(device=torch.device(device))
    encoder, watched = pretrain_together(series, settings, ranks, Keeping(checkpoint), report=report)
    return encoder, watched.history


def pretrain_together(
    series: Sequence[Series],
    settings: PretrainSettings,
    ranks: Ranks,
    keeping: Keeping,
    *,
    labelled: LabelledSeries | None = None,
    report: Report = silent,
) -> tuple[Encoder, Watched]:
    """Train an encoder in all processes of a group; every process gets the same one.

    Args:
        series: Regions, all with the same bands.
        settings: See there; a batch is that of all processes together.
        ranks: The processes.
        keeping: Used by the leading process alone.
        labelled: A region with labels, only to watch the features by; None for none.
        report: Receives progress.

    Raises:
        ModelError: The regions have different bands, or no clear pixel.
        UsageError: There are more processes than pairs in a batch.
    """
    if ranks.size > settings.batch_size:
        msg = f"expected a --batch-size of at least {ranks.size}, one a process, found {settings.batch_size}"
        raise UsageError(msg)
    encoder = new_encoder(series, settings)
    watched_by = labelled if settings.probe_every and ranks.leads else None
    probe = Probe.of(watched_by, encoder.bands) if watched_by else None
    first = probe.mean_iou(encoder.to(ranks.device), ranks.device) if probe else None
    directions = learn_directions(encoder.cpu(), series, settings)
    encoder.load_state_dict(ranks.share(encoder.state_dict()))  # another machine may round otherwise
    steps = planned_steps(encoder, settings)
    if steps:
        encoder.begin_steps()
    feed = _Feed(series, settings, ranks, encoder, steps)
    state = _start(feed.encoder, settings, ranks, keeping.checkpoint)
    watched = Watched(state.history, held=_held_in(feed.held), directions=directions, first_probe=first)
    with open_log(keeping.logs if ranks.leads else None, state.step) as log:
        _train(state, feed, Watcher(settings.probe_every, steps, ranks, probe, log, report), watched)
    kept = state.modules["average"] if settings.ema else feed.encoder
    return kept.cpu().eval(), watched  # type: ignore[return-value]


def _start(encoder: Encoder, settings: PretrainSettings, ranks: Ranks, checkpoint: Path | None) -> TrainingState:
    """Fresh networks, or those of an interrupted run."""
    modules = new_modules(encoder, settings).to(ranks.device).train()
    if ranks.device.type == "cuda":
        modules = modules.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learnt = [*modules["encoder"].parameters(), *modules["projector"].parameters()]
    group = {"params": learnt, "peak": settings.learning_rate}
    optimizer = torch.optim.AdamW([group], lr=settings.learning_rate, weight_decay=settings.weight_decay)
    state = TrainingState(modules, optimizer, checkpoint if ranks.leads else None, share=ranks.share)
    state.restore()
    return state


def _train(state: TrainingState, feed: _Feed, watcher: Watcher, watched: Watched) -> None:
    """Take all steps that are left."""
    settings, ranks = feed.settings, feed.ranks
    embed = _compiled(feed.encoder, watcher.steps, settings, ranks)
    objective = Objective(state.modules, settings, feed.exclusion, ranks, embed)
    watcher.begin(TASK, state, feed.encoder)
    ahead = AHEAD[ranks.device.type]
    for step, pairs in prefetched(feed.batch, state.step, watcher.steps, ahead=ahead, wait=watched.wait):
        loss, views = objective(pairs)
        update(state.optimizer, loss, learning_rate_factor(step, watcher.steps), ranks.add_up)
        follow(state.modules, settings)
        whole = loss.detach()
        ranks.add_up([whole])
        state.step = step + 1
        row = {"step": step + 1, "loss": whole.item()}
        watcher.look(row, feed.encoder, views.detach())
        state.history.append(row)
        state.keep()
        watcher.tell(TASK, row)
    watcher.report(Finished(task=TASK))


def _compiled(
    encoder: Encoder, steps: int, settings: PretrainSettings, ranks: Ranks
) -> Callable[[Chips], torch.Tensor]:
    """The encoder, compiled for a GPU where the training is long enough; the number of dates varies."""
    if ranks.device.type != "cuda" or settings.compile == "off" or steps < COMPILE_STEPS:
        return encoder
    return torch.compile(encoder, dynamic=True)


def _held_in(held: HeldSeries | None) -> str:
    return "disk" if held is None else "memory" if held.device.type == "cpu" else f"memory of {held.device}"


class _Feed:
    """Makes the batch of a step: this process's share of it, on its device."""

    def __init__(
        self, series: Sequence[Series], settings: PretrainSettings, ranks: Ranks, encoder: Encoder, steps: int
    ) -> None:
        """Hold the imagery where there is room for it, if steps are taken."""
        self.series, self.settings, self.ranks, self.encoder = series, settings, ranks, encoder
        self.held = hold(series, encoder.bands, ranks.device, ranks.local_size) if steps else None
        place = self.held.device if self.held else torch.device("cpu")
        self.mean, self.std = (part.clone().to(place) for part in (encoder.mean, encoder.std))
        radius = [min(settings.exclusion, LARGEST_EXCLUSION * min(one.shape)) for one in series]
        self.exclusion = torch.tensor(radius, device=ranks.device)
        self.radiometry = Radiometry(
            gain=settings.gain, offset=settings.offset, noise=settings.noise, drop_band=settings.drop_band
        )
        self.controls = Controls(shuffle=settings.shuffle, same_dates=settings.same_dates, identical=settings.identical)

    def batch(self, step: int) -> Pairs:
        """A function of the settings and the step alone."""
        settings, own = self.settings, self.ranks.own
        pairs = draw_pairs(
            self.series,
            np.random.default_rng([settings.seed, DRAW_PAIRS, step]),
            bands=self.encoder.bands,
            pairs=settings.batch_size,
            size=settings.window_size,
            dates=settings.dates,
            pixels=settings.pixels,
            controls=self.controls,
            share=own,
            held=self.held,
        )
        randoms = np.random.default_rng([settings.seed, DRAW_RADIOMETRY, step]).spawn(2 * settings.batch_size)
        of_own = [*randoms[: settings.batch_size][own], *randoms[settings.batch_size :][own]]
        chips = change_radiometry(pairs.chips, self.radiometry, self.mean, self.std, of_own)
        if settings.identical:
            first, _ = chips.reflectance.chunk(2)
            chips = chips._replace(reflectance=torch.cat([first, first]))
        return pairs._replace(chips=chips).to(self.ranks.device)

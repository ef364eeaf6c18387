"""Self-supervised dense contrastive pre-training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from eearth.data.series import band_statistics
from eearth.data.views import Pairs, Radiometry, change_radiometry, draw_pairs
from eearth.errors import ModelError
from eearth.events import Advanced, Finished, Report, Started, silent
from eearth.losses import info_nce
from eearth.models.registry import build
from eearth.training.loop import TrainingState, half_precision, learning_rate_factor, prefetched, update

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eearth.data.series import Series
    from eearth.models.encoder import Encoder
    from eearth.settings import PretrainSettings

TASK = "Pre-training"

# No pixel may be left without negatives: the exclusion reaches no farther than this share of a region's shorter side.
LARGEST_EXCLUSION = 0.25


def new_encoder(series: Sequence[Series], settings: PretrainSettings) -> Encoder:
    """A fresh encoder for the regions' bands, with their band statistics.

    Raises:
        ModelError: The regions have different bands, or no clear pixel.
    """
    bands = series[0].bands
    for one in series:
        if set(one.bands) != set(bands):
            msg = f"expected the same bands in all regions, found {', '.join(bands)} and {', '.join(one.bands)}"
            raise ModelError(msg)
    mean, std = band_statistics(series, bands, settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return build(settings.model, bands=bands, mean=mean, std=std, features=settings.features, depth=settings.depth)


def pretrain(
    series: Sequence[Series],
    settings: PretrainSettings,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    report: Report = silent,
) -> tuple[Encoder, list[dict[str, float]]]:
    """Train an encoder to know a place again on other dates.

    Args:
        series: Regions, all with the same bands.
        settings: See there.
        device: Where to train.
        checkpoint: Folder for the state that a resumed run takes up; None to keep none.
        report: Receives progress.

    Returns:
        The encoder on the CPU, and for each step its loss.

    Raises:
        ModelError: The regions have different bands, or no clear pixel.
    """
    device = torch.device(device)
    regions = [one.in_memory() for one in series]
    encoder = new_encoder(regions, settings)
    state = _start(encoder, settings, device, checkpoint)
    exclusion = torch.tensor([min(settings.exclusion, LARGEST_EXCLUSION * min(one.shape)) for one in regions])
    report(Started(task=TASK, total=settings.steps, unit="step", done=state.step))

    def make(step: int) -> Pairs:
        return _batch(regions, encoder, settings, step)

    for step, pairs in prefetched(make, state.step, settings.steps):
        loss = _loss(state.modules, pairs, settings, exclusion, device)
        update(state.optimizer, loss, learning_rate_factor(step, settings.steps))
        state.step = step + 1
        state.history.append({"step": step + 1, "loss": loss.item()})
        state.keep()
        report(Advanced(task=TASK, detail=f"loss {loss.item():.3f}"))
    report(Finished(task=TASK))
    return encoder.cpu().eval(), state.history


def _start(
    encoder: Encoder, settings: PretrainSettings, device: torch.device, checkpoint: Path | None
) -> TrainingState:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        width = encoder.features
        projector = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
    modules = nn.ModuleDict({"encoder": encoder, "projector": projector}).to(device).train()
    group = {"params": list(modules.parameters()), "peak": settings.learning_rate}
    optimizer = torch.optim.AdamW([group], lr=settings.learning_rate, weight_decay=settings.weight_decay)
    state = TrainingState(modules, optimizer, checkpoint)
    state.restore()
    return state


def _batch(series: Sequence[Series], encoder: Encoder, settings: PretrainSettings, step: int) -> Pairs:
    random = np.random.default_rng([settings.seed, 1, step])
    pairs = draw_pairs(
        series,
        random,
        bands=encoder.bands,
        pairs=settings.batch_size,
        size=settings.window_size,
        dates=settings.dates,
        pixels=settings.pixels,
        shuffle=settings.shuffle,
    )
    radiometry = Radiometry(
        gain=settings.gain, offset=settings.offset, noise=settings.noise, drop_band=settings.drop_band
    )
    mean, std = encoder.mean.cpu(), encoder.std.cpu()
    return pairs._replace(chips=change_radiometry(pairs.chips, radiometry, mean, std, random))


def _loss(
    modules: nn.ModuleDict, pairs: Pairs, settings: PretrainSettings, exclusion: torch.Tensor, device: torch.device
) -> torch.Tensor:
    with half_precision(device):
        features = modules["encoder"](pairs.chips.to(device))
        first, second = modules["projector"](pairs._replace(pixels=pairs.pixels.to(device)).to_ground(features))
    radius = exclusion[pairs.place[:, 0]].to(device)
    return info_nce(first, second, pairs.place.to(device), temperature=settings.temperature, exclusion=radius)

"""What is learnt from a batch of pairs: the branches that embed the two views, and the loss between them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eearth.data.series import Chips
from eearth.losses import barlow_twins, info_nce, vicreg
from eearth.losses.keys import key_nce
from eearth.settings import PretrainSettings
from eearth.training.averaging import approach
from eearth.training.distributed import Ranks
from eearth.training.loop import half_precision

if TYPE_CHECKING:
    from eearth.data.views import Pairs
    from eearth.models.encoder import Encoder


class KeyQueue(nn.Module):
    """Keys of the latest steps, the newest first, and where they lie.

    Args:
        length: Keys that are kept.
        features: Length of a key.
    """

    def __init__(self, length: int, features: int) -> None:
        """Start empty."""
        super().__init__()
        self.keys: Tensor
        self.place: Tensor
        self.register_buffer("keys", torch.zeros(length, features))
        self.register_buffer("place", torch.zeros(length, 3, dtype=torch.int64))
        self.filled = 0

    def held(self) -> tuple[Tensor, Tensor]:
        """Keys (key, feature) of unit length, and their places (key, 3)."""
        return self.keys[: self.filled], self.place[: self.filled]

    def push(self, keys: Tensor, place: Tensor) -> None:
        """Add keys (key, feature) and their places (key, 3); the oldest go."""
        length = len(self.keys)
        self.keys = torch.cat([F.normalize(keys.float(), dim=1), self.keys])[:length]
        self.place = torch.cat([place, self.place])[:length]
        self.filled = min(length, self.filled + len(keys))

    def get_extra_state(self) -> int:
        """How many keys there are; PyTorch keeps it with the buffers."""
        return self.filled

    def set_extra_state(self, state: Any) -> None:
        """Take it up again."""
        self.filled = int(state)


def new_modules(encoder: Encoder, settings: PretrainSettings) -> nn.ModuleDict:
    """All networks of a training by name; `encoder` and `projector` are learnt, the others follow them."""
    width = encoder.features
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        projector = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
    modules = nn.ModuleDict({"encoder": encoder, "projector": projector})
    followers: dict[str, nn.Module] = {}
    if settings.momentum:
        followers |= {"key_encoder": copy.deepcopy(encoder), "key_projector": copy.deepcopy(projector)}
    if settings.queue:
        followers["queue"] = KeyQueue(settings.queue, width)
    if settings.ema:
        followers["average"] = copy.deepcopy(encoder)
    for follower in followers.values():
        follower.requires_grad_(requires_grad=False)
    modules.update(followers)
    return modules


@torch.no_grad()
def follow(modules: nn.ModuleDict, settings: PretrainSettings) -> None:
    """After a step: the followers move towards the learnt networks."""
    pairs = (
        ("key_encoder", "encoder", settings.momentum),
        ("key_projector", "projector", settings.momentum),
        ("average", "encoder", settings.ema),
    )
    for follower, leader, kept in pairs:
        if follower in modules:
            approach(modules[follower], modules[leader], kept)


@dataclass(frozen=True)
class Objective:
    """The loss of a batch, over all processes that train together.

    Attributes:
        modules: See `new_modules`.
        settings: Of the training.
        exclusion: (region,) radius in pixels without negatives.
        ranks: The processes.
        encode: The encoder, possibly compiled.
    """

    modules: nn.ModuleDict
    settings: PretrainSettings
    exclusion: Tensor
    ranks: Ranks
    encode: Callable[[Chips], Tensor]

    def __call__(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Embed this process's pairs and compare them with those of all.

        Args:
            pairs: On the processes' device.

        Returns:
            This process's part of the loss, a scalar: the parts add up to the loss of the whole batch. The embeddings
            of all processes, (2, pixel, feature) float32.
        """
        with half_precision(self.ranks.device):
            own = self.modules["projector"](pairs.to_ground(self.encode(pairs.chips)))
        place, _ = self.ranks.gather(pairs.place)
        views, rows = self._gathered(own)
        compare = self._against_keys(pairs) if self.settings.momentum else self._compare
        return compare(views, place, rows), views

    def _gathered(self, own: Tensor) -> tuple[Tensor, slice]:
        """(2, pixel, feature) of this process → the same of all, and which pixels are this process's."""
        rows, span = self.ranks.gather(own.float().transpose(0, 1).contiguous())
        return rows.transpose(0, 1), span

    def _compare(self, views: Tensor, place: Tensor, rows: slice) -> Tensor:
        """One view with the other, in both directions."""
        first, second = views
        if self.settings.objective != "info_nce":
            return self._without_negatives(first, second)
        radius = self.exclusion[place[:, 0]]
        temperature = self.settings.temperature
        return info_nce(first, second, place, temperature=temperature, exclusion=radius, rows=self._all_or(rows))

    def _all_or(self, rows: slice) -> slice | None:
        return rows if self.ranks.size > 1 else None

    def _without_negatives(self, first: Tensor, second: Tensor) -> Tensor:
        """Statistics over all pixels, which every process computes whole: its part is an equal share."""
        loss = vicreg if self.settings.objective == "vicreg" else barlow_twins
        return loss(first, second) / self.ranks.size

    def _against_keys(self, pairs: Pairs) -> Callable[[Tensor, Tensor, slice], Tensor]:
        """Each view's embeddings with the other view's keys, which the slow branch gives without a gradient."""
        with torch.no_grad(), half_precision(self.ranks.device):
            features = self.modules["key_encoder"](pairs.chips)
            keys, _ = self._gathered(self.modules["key_projector"](pairs.to_ground(features)))

        def compare(views: Tensor, place: Tensor, rows: slice) -> Tensor:
            queue: KeyQueue | None = dict(self.modules).get("queue")  # type: ignore[assignment]
            past = queue.held() if queue is not None else None
            parts = [
                self._one_way(query, key, place, rows, past) for query, key in zip(views, keys.flip(0), strict=True)
            ]
            if queue is not None:
                queue.push(keys.flatten(0, 1), torch.cat([place, place]))
            return (parts[0] + parts[1]) / 2

        return compare

    def _one_way(
        self, query: Tensor, key: Tensor, place: Tensor, rows: slice, past: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        if self.settings.objective != "info_nce":
            return self._without_negatives(query, key)
        radius = self.exclusion[place[:, 0]]
        temperature = self.settings.temperature
        return key_nce(query, key, place, temperature=temperature, exclusion=radius, rows=rows, past=past)

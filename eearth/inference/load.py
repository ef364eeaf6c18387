"""How much is in the network at a time: as much as memory allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from eearth.models.encoder import Encoder

# Imagery of a batch, and all that is in the network at a time, by the kind of device.
BATCH_BYTES = {"cpu": 40 * 10**6, "cuda": 250 * 10**6}
NETWORK_BYTES = {"cpu": 10**9, "cuda": 8 * 10**9}


class WindowSettings(Protocol):
    """How a network is slid over imagery, as every stage that does so asks for it."""

    @property
    def device(self) -> str:
        """Where the network runs, see `choose_device`."""

    @property
    def window_size(self) -> int:
        """Most pixels of a window's side."""

    @property
    def batch_size(self) -> int | None:
        """Windows of a batch; None for what fits, see `BATCH_BYTES`."""


@dataclass(frozen=True)
class Load:
    """What is in the network at a time.

    Attributes:
        batch: Windows of a batch.
        workers: Batches.
        memory: Bytes that all of it takes, about.
    """

    batch: int
    workers: int
    memory: float


def load_of(encoder: Encoder, settings: WindowSettings, dates: int, device: torch.device) -> Load:
    """As many windows as fit: one at least, and no more batches than torch may use threads.

    Args:
        encoder: The network, or its encoder.
        settings: How it is slid.
        dates: Acquisitions of a window.
        device: Where it runs.
    """
    window = settings.window_size**2 * dates * (4 * len(encoder.bands) + 1)
    batch = settings.batch_size or max(1, BATCH_BYTES[device.type] // max(1, window))
    held = encoder.copies * batch * window
    workers = max(1, min(torch.get_num_threads(), int(NETWORK_BYTES[device.type] / max(1.0, held))))
    return Load(batch, workers, workers * held)

"""What each encoder costs: parameters, margin, and a training step.

    python benchmarks/encoders.py [--chips 8] [--dates 12] [--bands 10] [--side 32] [--depth 1] [--device cpu] [--bf16]

A step is forward and backward through the encoder alone, on random chips of which seven pixels in ten are clear. The
figure is the least of the repetitions, for other processes only add to it; all encoders take turns, so that a busy
minute does not fall on one of them.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import torch

from eearth.data.series import Chips
from eearth.models.registry import MODELS, build

if TYPE_CHECKING:
    from eearth.models.encoder import Encoder

WARM_UP = 2


def random_chips(count: int, dates: int, bands: int, side: int, device: str) -> Chips:
    """Chips with clear pixels here and there."""
    draw = torch.Generator().manual_seed(0)
    valid = torch.rand(count, dates, side, side, generator=draw) < 0.7  # noqa: PLR2004 (share of clear pixels)
    values = torch.rand(count, dates, bands, side, side, generator=draw) * valid[:, :, None]
    day = torch.randint(1, 367, (count, dates), generator=draw).float()
    return Chips(values, valid, day).to(device)


def step(encoder: Encoder, chips: Chips, *, half: bool) -> float:
    """Seconds of one forward and backward pass."""
    device = chips.day.device.type
    begun = time.perf_counter()
    with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
        features = encoder(chips)
    features.float().square().mean().backward()
    if device == "cuda":
        torch.cuda.synchronize()
    encoder.zero_grad()
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"chips": 8, "dates": 12, "bands": 10, "side": 32, "depth": 1, "repeats": 15}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    chips = random_chips(given.chips, given.dates, given.bands, given.side, given.device)
    bands = [str(band) for band in range(given.bands)]
    encoders = {
        name: build(name, bands=bands, mean=[0.5] * len(bands), std=[0.3] * len(bands), depth=given.depth)
        for name in MODELS
    }
    taken: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(WARM_UP + given.repeats):
        for name, encoder in encoders.items():
            taken[name].append(step(encoder.to(given.device), chips, half=given.bf16))
    print(f"{'encoder':26s} {'parameters':>10s} {'margin':>6s} {'alignment':>9s} {'ms':>7s}")
    for name, encoder in encoders.items():
        count = sum(weight.numel() for weight in encoder.parameters())
        spent = 1000 * min(taken[name][WARM_UP:])
        print(f"{name:26s} {count:10,d} {encoder.margin:6d} {encoder.alignment:9d} {spent:7.1f}", flush=True)


if __name__ == "__main__":
    main()

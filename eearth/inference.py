"""From a trained network to a land cover map of a region of any size, with memory bounded by one tile."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from eearth.errors import ModelError
from eearth.geo.grid import Window
from eearth.geo.lattice import patches
from eearth.geo.products.writer import OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from eearth.data.series import Chips, Series
    from eearth.geo.grid import Grid
    from eearth.geo.lattice import Patch



@dataclass(frozen=True)
class Prediction:
    """The map of one tile; every array is (y, x) uint8.

    Attributes:
        landcover: Class code; 0 outside the region and where no clear observation exists.
        confidence: Probability of that class in percent, 1..100; 0 without a clear observation, `OUTSIDE` outside the
            region.
        observations: Number of clear observations, 254 standing for 254 and more; `OUTSIDE` outside the region.
    """

    landcover: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    observations: NDArray[np.uint8]


@dataclass(frozen=True)
class TilePrediction:
    """One tile of a region's map.

    Attributes:
        index: Position among all tiles of the grid, those outside the region included.
        window: The tile's pixels.
        prediction: Their map.
    """

    index: int
    window: Window
    prediction: Prediction


def _read(source: Series, window: Window) -> Chips:
    """One window as a batch of one; what lies beyond the grid is no observation."""
    height, width = source.reflectance.shape[-2:]
    cut = Window(window.row, window.col, min(window.height, height - window.row), min(window.width, width - window.col))
    chips = source.chips([cut])
    beyond = (0, window.width - cut.width, 0, window.height - cut.height)
    return chips._replace(
        reflectance=F.pad(chips.reflectance, beyond), valid=F.pad(chips.valid, beyond, value=False)
    )


def _batches(source: Series, parts: Sequence[Patch], batch: int) -> Iterator[tuple[Sequence[Patch], Chips]]:
    """Batches in order; the next one is read while the caller works on this one."""

    def load(first: int) -> Chips:
        chips = [_read(source, patch.window) for patch in parts[first : first + batch]]
        return chips[0]._make(torch.cat(tensors) for tensors in zip(*chips, strict=True))

    starts = range(0, len(parts), batch)
    with ThreadPoolExecutor(1) as reader:
        pending = deque(reader.submit(load, first) for first in starts[:1])
        for first, following in zip_longest(starts, starts[1:]):
            chips = pending.popleft().result()
            if following is not None:
                pending.append(reader.submit(load, following))
            yield parts[first : first + batch], chips


def predict_tile(
    model: nn.Module,
    source: Series,
    tile: Window,
    *,
    size: int,
    margin: int,
    device: torch.device | str,
    batch: int,
    inside: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Class probabilities of one tile, blended from the lattice windows that reach into it.

    Args:
        model: Chips → class scores (chip, class, y, x); must stand on `device` and is set to evaluation.
        source: The region's imagery.
        tile: The pixels asked for.
        size: Side of a window in pixels, see `Axis`.
        margin: Half of the windows' overlap in pixels, see `Axis`.
        device: Where the network runs.
        batch: Windows evaluated at once.
        inside: (y, x) of the tile, True where the map is wanted; windows that only reach other pixels are left out.
            None: everywhere.

    Returns:
        Probabilities (class, y, x), which sum to 1 wherever the map is wanted, and the number of clear
        observations (y, x).

    Raises:
        ModelError: The network's scores are not finite.
    """
    model.eval()
    shape = source.reflectance.shape[-2:]
    parts = [
        patch
        for patch in patches(shape, tile, size=size, margin=margin)
        if inside is None or inside[patch.outer][patch.shares > 0].any()
    ]
    blended: Tensor | None = None
    with torch.inference_mode():
        for group, chips in _batches(source, parts, batch):
            scores = model(chips._make(tensor.to(device) for tensor in chips)).float()
            if blended is None:
                blended = torch.zeros((scores.shape[1], tile.height, tile.width), device=device)
            for patch, probabilities in zip(group, scores.softmax(dim=1), strict=True):
                share = torch.from_numpy(patch.shares).to(device)
                blended[:, *patch.outer] += probabilities[:, *patch.inner] * share
    observations = np.asarray(source.valid[:, *tile.slices]).sum(axis=0, dtype=np.int32)
    if blended is None:
        return np.zeros((0, tile.height, tile.width), np.float32), observations
    if not bool(torch.isfinite(blended).all()):
        msg = "expected finite class scores, found NaN or infinity: the model is damaged, run `eearth finetune` again"
        raise ModelError(msg)
    return blended.cpu().numpy(), observations


def classify(
    probabilities: NDArray[np.float32],
    observations: NDArray[np.int32],
    inside: NDArray[np.bool_],
    codes: Sequence[int],
) -> Prediction:
    """The most probable class of every pixel that lies in the region and was ever seen.

    Args:
        probabilities: (class, y, x), summing to 1 over the classes.
        observations: (y, x) number of clear observations.
        inside: (y, x), True in the region.
        codes: Class code 1..255 of each class, in the order of `probabilities`.

    Raises:
        ModelError: There are more or fewer codes than classes.
    """
    if len(probabilities) != len(codes):
        msg = f"expected a model of {len(codes)} classes, found {len(probabilities)}: run `eearth finetune` again"
        raise ModelError(msg)
    seen = inside & (observations > 0)
    landcover = np.asarray(codes, np.uint8)[probabilities.argmax(axis=0)]
    percent = np.clip(np.rint(100 * probabilities.max(axis=0)), 1, 100).astype(np.uint8)
    counts = np.minimum(observations, OUTSIDE - 1).astype(np.uint8)
    return Prediction(
        landcover=np.where(seen, landcover, 0).astype(np.uint8),
        confidence=np.where(inside, np.where(seen, percent, 0), OUTSIDE).astype(np.uint8),
        observations=np.where(inside, counts, OUTSIDE).astype(np.uint8),
    )


def predict_tiles(
    model: nn.Module,
    source: Series,
    grid: Grid,
    inside: Callable[[Window], NDArray[np.bool_]],
    codes: Sequence[int],
    *,
    tile: int,
    size: int,
    margin: int,
    device: torch.device | str,
    batch: int,
    first: int = 0,
) -> Iterator[TilePrediction]:
    """Walk over a region tile by tile, in the order of `Grid.windows(tile)`.

    Args:
        model: See `predict_tile`.
        source: The region's imagery.
        grid: The imagery's grid.
        inside: Window → (y, x), True in the region; asked for one tile at a time.
        codes: See `classify`.
        tile: Side of a tile in pixels.
        size: See `Axis`.
        margin: See `Axis`.
        device: See `predict_tile`.
        batch: See `predict_tile`.
        first: Index of the tile to begin with, for a run that was interrupted.

    Yields:
        Every tile with a pixel in the region; the others are skipped, their indices with them.
    """
    for index, window in enumerate(grid.windows(tile)):
        if index < first or not (wanted := inside(window)).any():
            continue
        probabilities, observations = predict_tile(
            model, source, window, size=size, margin=margin, device=device, batch=batch, inside=wanted
        )
        yield TilePrediction(index, window, classify(probabilities, observations, wanted, codes))

"""From a trained network to a land cover map of a region of any size, with memory bounded by one tile."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from eearth.data.series import Chips, Series, join
from eearth.errors import ModelError
from eearth.geo.grid import Window, tiles_of
from eearth.geo.lattice import margin_for, patches
from eearth.geo.products.prediction import MOST_OBSERVATIONS, OUTSIDE, Prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from eearth.geo.grid import Grid
    from eearth.geo.lattice import Patch
    from eearth.models.segmentation import LandCoverModel

# Windows for an evaluation: large enough that the margin costs little, small enough for any memory.
EVALUATION_TILE, EVALUATION_WINDOW, EVALUATION_BATCH = 512, 128, 4


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


@dataclass(frozen=True)
class _Reader:
    """Reads lattice windows; what of them lies beyond the grid is no observation."""

    source: Series
    bands: Sequence[str] | None
    dates: NDArray[np.intp] | None

    def window(self, window: Window) -> Chips:
        """One window as a batch of one."""
        height, width = self.source.shape
        rows, cols = min(window.height, height - window.row), min(window.width, width - window.col)
        cut = Window(window.row, window.col, rows, cols)
        dates = None if self.dates is None else [self.dates]
        reflectance, valid, day = self.source.chips([cut], dates=dates, bands=self.bands)
        beyond = (0, window.width - cols, 0, window.height - rows)
        return Chips(F.pad(reflectance, beyond), F.pad(valid, beyond, value=False), day)

    def batch(self, patches: Sequence[Patch]) -> tuple[Sequence[Patch], Chips]:
        """Several windows of one size, in one batch."""
        return patches, join([self.window(patch.window) for patch in patches])

    def batches(self, parts: Sequence[Patch], size: int) -> Iterator[tuple[Sequence[Patch], Chips]]:
        """All batches in order; the next one is read while the caller works on this one."""
        groups = (parts[first : first + size] for first in range(0, len(parts), size))
        with ThreadPoolExecutor(1) as thread:
            running = (thread.submit(self.batch, group) for group in groups)
            for current, _following in pairwise(chain(running, [None])):
                if current is not None:
                    yield current.result()

    def observations(self, tile: Window) -> NDArray[np.int32]:
        """(y, x) number of clear observations."""
        valid = np.asarray(self.source.valid[:, *tile.slices], dtype=bool)
        used = valid if self.dates is None else valid[self.dates]
        counts: NDArray[np.int32] = used.sum(axis=0, dtype=np.int32)
        return counts


def predict_tile(
    model: nn.Module,
    source: Series,
    tile: Window,
    *,
    size: int,
    margin: int,
    device: torch.device | str,
    batch: int,
    bands: Sequence[str] | None = None,
    dates: NDArray[np.intp] | None = None,
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
        bands: Bands by name, in the network's order; None for all.
        dates: Indices of the acquisitions to use; None for all.
        inside: (y, x) of the tile, True where the map is wanted; windows that only reach other pixels are left out.
            None: everywhere.

    Returns:
        Probabilities (class, y, x), which sum to 1 wherever the map is wanted, and the number of clear
        observations (y, x). There is no class at all where `inside` is nowhere True.

    Raises:
        ModelError: The network's scores are not finite.
    """
    reader = _Reader(source, bands, dates)
    parts = [
        patch
        for patch in patches(source.shape, tile, size=size, margin=margin)
        if inside is None or inside[patch.outer][patch.shares > 0].any()
    ]
    blended = torch.zeros((0, tile.height, tile.width), device=device)
    model.eval()
    with torch.inference_mode():
        for group, chips in reader.batches(parts, batch):
            probabilities = model(chips.to(device)).float().softmax(dim=1)
            if not len(blended):
                blended = blended.new_zeros((probabilities.shape[1], tile.height, tile.width))
            for patch, part in zip(group, probabilities, strict=True):
                blended[:, *patch.outer] += part[:, *patch.inner] * torch.from_numpy(patch.shares).to(device)
    if not bool(torch.isfinite(blended).all()):
        msg = "expected finite class scores, found NaN or infinity: the model is damaged, run `eearth finetune` again"
        raise ModelError(msg)
    return blended.cpu().numpy(), reader.observations(tile)


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
    counts = np.minimum(observations, MOST_OBSERVATIONS).astype(np.uint8)
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
    bands: Sequence[str] | None = None,
    dates: NDArray[np.intp] | None = None,
    origin: tuple[int, int] = (0, 0),
    first: int = 0,
) -> Iterator[TilePrediction]:
    """Walk over a region tile by tile, in the order of `Grid.windows(tile)`.

    Args:
        model: See `predict_tile`.
        source: The imagery; may reach beyond the region, and then gives the map's edges their surroundings.
        grid: The map's grid, on the imagery's pixel lattice.
        inside: Window → (y, x), True in the region; asked for one tile at a time.
        codes: See `classify`.
        tile: Side of a tile in pixels.
        size: See `Axis`.
        margin: See `Axis`.
        device: See `predict_tile`.
        batch: See `predict_tile`.
        bands: See `predict_tile`.
        dates: See `predict_tile`.
        origin: (row, column) of the map's first pixel in the imagery.
        first: Index of the tile to begin with, for a run that was interrupted.

    Yields:
        Every tile with a pixel in the region; the others are skipped, their indices with them.
    """
    for index, window in enumerate(grid.windows(tile)):
        if index < first or not (wanted := inside(window)).any():
            continue
        probabilities, observations = predict_tile(
            model,
            source,
            Window(window.row + origin[0], window.col + origin[1], window.height, window.width),
            size=size,
            margin=margin,
            device=device,
            batch=batch,
            bands=bands,
            dates=dates,
            inside=wanted,
        )
        yield TilePrediction(index, window, classify(probabilities, observations, wanted, codes))


def map_pixels(
    model: LandCoverModel, source: Series, wanted: NDArray[np.bool_], *, device: torch.device | str
) -> NDArray[np.uint8]:
    """The class of some pixels of a region, such as those with ground truth.

    Args:
        model: The land cover model; moved to `device`.
        source: The region's imagery.
        wanted: (y, x), True where the class is wanted.
        device: Where the network runs.

    Returns:
        (y, x) class codes; 0 where none is wanted, and where a pixel was never observed.
    """
    mapped = np.zeros(wanted.shape, np.uint8)
    model.to(device)
    for tile in tiles_of(wanted.shape, EVALUATION_TILE):
        inside = wanted[tile.slices]
        if inside.any():
            probabilities, observations = predict_tile(
                model,
                source,
                tile,
                size=EVALUATION_WINDOW,
                margin=margin_for(model.margin),
                device=device,
                batch=EVALUATION_BATCH,
                bands=model.bands,
                inside=inside,
            )
            mapped[tile.slices] = classify(probabilities, observations, inside, model.classes).landcover
    return mapped

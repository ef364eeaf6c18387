"""From a trained network to the map or the features of a region of any size, with memory bounded by one tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from eearth.data.sliding import Sliding, blended
from eearth.data.turning import from_all_sides
from eearth.errors import ModelError
from eearth.events import Advanced, Finished, Report, Started
from eearth.geo.grid import Window
from eearth.geo.products.prediction import Prediction
from eearth.inference.classify import classify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from eearth.data.series import Chips, Series
    from eearth.geo.grid import Grid


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
class TileFeatures:
    """One tile of a region's features.

    Attributes:
        index: See `TilePrediction`.
        window: The tile's pixels.
        features: (feature, y, x); NaN outside the region, and where no clear observation exists.
    """

    index: int
    window: Window
    features: NDArray[np.float32]


Tile = TypeVar("Tile", TilePrediction, TileFeatures)


def predict_tile(
    model: nn.Module,
    source: Series,
    tile: Window,
    inside: NDArray[np.bool_] | None = None,
    *,
    augment: bool = False,
    **sliding: Unpack[Sliding],
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Class probabilities of one tile.

    Args:
        model: Chips → class scores (chip, class, y, x); must stand on the device and is set to evaluation.
        source: See `blended`.
        tile: See `blended`.
        inside: See `blended`.
        augment: Whether they are the mean over the eight flips and quarter turns of the imagery.
        **sliding: See `Sliding`.

    Returns:
        Probabilities (class, y, x), which sum to 1 wherever the map is wanted, and the number of clear
        observations (y, x). There is no class at all where `inside` is nowhere True.

    Raises:
        ModelError: The network's scores are not finite.
    """
    model.eval()

    def network(chips: Chips) -> Tensor:
        return model(chips).float().softmax(dim=1)  # type: ignore[no-any-return]

    shown = from_all_sides(network) if augment else network
    probabilities, observations = blended(shown, source, tile, inside, **sliding)
    if not np.isfinite(probabilities).all():
        msg = "expected finite class scores, found NaN or infinity: the model is damaged, run `eearth finetune` again"
        raise ModelError(msg)
    return probabilities, observations


def encode_tile(
    encoder: nn.Module,
    source: Series,
    tile: Window,
    inside: NDArray[np.bool_] | None = None,
    **sliding: Unpack[Sliding],
) -> NDArray[np.float32]:
    """Features of one tile.

    Args:
        encoder: Chips → features (chip, feature, y, x); must stand on the device and is set to evaluation.
        source: See `blended`.
        tile: See `blended`.
        inside: See `blended`.
        **sliding: See `Sliding`.

    Returns:
        (feature, y, x); NaN where not `inside`, and where no clear observation exists.

    Raises:
        ModelError: The encoder's features are not finite.
    """
    encoder.eval()
    features, observations = blended(encoder, source, tile, inside, **sliding)
    if not np.isfinite(features).all():
        msg = "expected finite features, found NaN or infinity: the encoder is damaged, run `eearth pretrain` again"
        raise ModelError(msg)
    unwanted = observations == 0 if inside is None else ~inside | (observations == 0)
    features[:, unwanted] = np.nan
    return features


def predict_tiles(
    model: nn.Module,
    source: Series,
    grid: Grid,
    inside: Callable[[Window], NDArray[np.bool_]],
    codes: Sequence[int],
    *,
    tile: int,
    origin: tuple[int, int] = (0, 0),
    first: int = 0,
    temperature: float = 1.0,
    augment: bool = False,
    **sliding: Unpack[Sliding],
) -> Iterator[TilePrediction]:
    """Walk over a region tile by tile, in the order of `Grid.windows(tile)`.

    Args:
        model: See `predict_tile`.
        source: The imagery; may reach beyond the region, and then gives the map's edges their surroundings.
        grid: The map's grid, on the imagery's pixel lattice.
        inside: Window → (y, x), True in the region; asked for one tile at a time.
        codes: See `classify`.
        tile: Side of a tile in pixels.
        origin: (row, column) of the map's first pixel in the imagery.
        first: Index of the tile to begin with, for a run that was interrupted.
        temperature: See `classify`.
        augment: See `predict_tile`.
        **sliding: See `Sliding`.

    Yields:
        Every tile with a pixel in the region; the others are skipped, their indices with them.
    """
    for index, window, wanted in _wanted_tiles(grid, inside, tile, first):
        found = predict_tile(model, source, _shifted(window, origin), wanted, augment=augment, **sliding)
        yield TilePrediction(index, window, classify(*found, wanted, codes, temperature))


def encode_tiles(
    encoder: nn.Module,
    source: Series,
    grid: Grid,
    inside: Callable[[Window], NDArray[np.bool_]],
    *,
    tile: int,
    origin: tuple[int, int] = (0, 0),
    first: int = 0,
    **sliding: Unpack[Sliding],
) -> Iterator[TileFeatures]:
    """Walk over a region as `predict_tiles` does, for the features instead of the classes.

    Args:
        encoder: See `encode_tile`.
        source: See `predict_tiles`.
        grid: See `predict_tiles`.
        inside: See `predict_tiles`.
        tile: See `predict_tiles`.
        origin: See `predict_tiles`.
        first: See `predict_tiles`.
        **sliding: See `Sliding`.

    Yields:
        Every tile with a pixel in the region.

    Raises:
        ModelError: The encoder's features are not finite.
    """
    for index, window, wanted in _wanted_tiles(grid, inside, tile, first):
        features = encode_tile(encoder, source, _shifted(window, origin), wanted, **sliding)
        yield TileFeatures(index, window, features)


def told(tiles: Iterator[Tile], task: str, total: int, done: int, report: Report) -> Iterator[Tile]:
    """The same tiles; each is reported when the next is asked for, which is when it has been written.

    Args:
        tiles: In the order of their indices.
        task: Of the progress.
        total: Tiles of the grid.
        done: Those that an interrupted run has done.
        report: Receives progress.
    """
    report(Started(task=task, total=total, unit="tiles", done=done))
    for tile in tiles:
        yield tile
        report(Advanced(task=task, steps=tile.index + 1 - done))
        done = tile.index + 1
    report(Finished(task=task))


def _wanted_tiles(
    grid: Grid, inside: Callable[[Window], NDArray[np.bool_]], tile: int, first: int
) -> Iterator[tuple[int, Window, NDArray[np.bool_]]]:
    """(index, window, inside) of the tiles with a pixel in the region, from the first that is not done."""
    for index, window in enumerate(grid.windows(tile)):
        if index >= first and (wanted := inside(window)).any():
            yield index, window, wanted


def _shifted(window: Window, origin: tuple[int, int]) -> Window:
    """A window of the map as one of the imagery."""
    return Window(window.row + origin[0], window.col + origin[1], window.height, window.width)

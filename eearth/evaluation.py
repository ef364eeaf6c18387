"""How well a model does on held-out ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from eearth.geo.grid import tiles_of
from eearth.geo.lattice import margin_for
from eearth.inference.tiles import EVALUATION_BATCH, EVALUATION_TILE, EVALUATION_WINDOW, predict_tile
from eearth.metrics import Accuracy, accuracy, confusion_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from eearth.data.chips import LabelledSeries
    from eearth.data.series import Series
    from eearth.models.segmentation import LandCoverModel

# Pixels whose probabilities are kept, at most, evenly thinned out: more say nothing else of their calibration.
KEPT_PIXELS = 500_000

# Pixels that touch by a corner belong together.
EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Examined:
    """What a model makes of some labelled pixels.

    Attributes:
        accuracy: Of all of them; one that was never seen counts as an error.
        probabilities: (pixel, class) float32 of those that were seen, thinned out where there are very many.
        truth: (pixel,) index of their true class among the model's; −1 for a class that the model does not know.
        patches: Patches of one class that all of them make up; about as many as there are polygons.
    """

    accuracy: Accuracy
    probabilities: NDArray[np.float32]
    truth: NDArray[np.int64]
    patches: int


@dataclass(frozen=True)
class _Found:
    """Some pixels of one tile.

    Attributes:
        place: (pixel, 2) rows and columns in the image.
        probabilities: (pixel, class).
        seen: (pixel,), whether it was ever seen clearly.
    """

    place: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    seen: NDArray[np.bool_]


def examine(model: LandCoverModel, region: LabelledSeries, part: int, device: torch.device | str) -> Examined | None:
    """Compare a model with one part of a region's split; None where that part has no labelled pixel.

    A class of the reference that the model does not know counts in full as its error.

    Args:
        model: The land cover model; moved to `device`.
        region: Imagery with labels and split.
        part: Code of the part.
        device: Where the network runs.
    """
    held = (region.split == part) & (region.labels > 0)
    if not held.any():
        return None
    codes = sorted({*model.classes, *(int(code) for code in np.unique(region.labels[held]))})
    index = np.full(256, -1, np.int64)
    index[list(model.classes)] = np.arange(len(model.classes))
    every = -(-np.count_nonzero(held) // KEPT_PIXELS)
    confusion, kept = np.zeros((len(codes), len(codes) + 1), np.int64), []
    for found in _predicted(model, region.series, held, device):
        truth = region.labels[tuple(found.place.T)]
        confusion += confusion_matrix(truth, _mapped(model, found), codes)
        some = np.flatnonzero(found.seen)[::every]
        kept.append((found.probabilities[some], index[truth[some]]))
    probabilities, truth = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return Examined(accuracy(confusion, codes), probabilities, truth, _patches(region.labels, held))


def map_pixels(
    model: LandCoverModel, source: Series, wanted: NDArray[np.bool_], device: torch.device | str
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
    for found in _predicted(model, source, wanted, device):
        mapped[tuple(found.place.T)] = _mapped(model, found)
    return mapped


def _patches(labels: NDArray[np.uint8], held: NDArray[np.bool_]) -> int:
    """Patches of one class, counted tile by tile."""
    tiles = [np.where(held[tile.slices], labels[tile.slices], 0) for tile in tiles_of(held.shape, EVALUATION_TILE)]
    return sum(int(label(tile == code, EIGHT)[1]) for tile in tiles for code in np.unique(tile[tile > 0]))


def _mapped(model: LandCoverModel, found: _Found) -> NDArray[np.uint8]:
    """(pixel,) class codes; 0 for a pixel that was never seen."""
    codes = np.asarray(model.classes, np.uint8)[found.probabilities.argmax(axis=1)]
    return np.where(found.seen, codes, 0).astype(np.uint8)


def _predicted(
    model: LandCoverModel,
    source: Series,
    wanted: NDArray[np.bool_],
    device: torch.device | str,
) -> Iterator[_Found]:
    """Some pixels of a region, tile by tile."""
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
                augment=model.augment,
            )
            place = np.argwhere(inside) + np.array([tile.row, tile.col])
            yield _Found(place, probabilities[:, inside].T, observations[inside] > 0)

"""How good the features are so far, watched while the encoder learns: a linear probe, and a picture of the embedding.

Nothing here changes what is learnt. The probe fits a logistic regression on frozen features of training pixels and
measures it on validation pixels; test pixels are never looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from eearth.classifiers import probe
from eearth.data.series import Chips
from eearth.data.sliding import blended
from eearth.geo.grid import Window
from eearth.geo.lattice import margin_for
from eearth.geo.products.features.pca import STRETCH, principal_axes
from eearth.geo.splits.blocks import TRAIN, VALIDATION
from eearth.metrics import accuracy, confusion_matrix
from eearth.training.loop import half_precision

if TYPE_CHECKING:
    from eearth.data.chips import LabelledSeries
    from eearth.data.series import Series
    from eearth.models.encoder import Encoder

# Windows of this side around labelled pixels, and how many of them: together as much as a few training steps.
SIDE, TRAIN_WINDOWS, VALIDATION_WINDOWS = 16, 48, 96
MOST_DATES = 32

# Pixels of each class that the probe is fitted on: a mIoU that moves with the features, in well below a second.
PIXELS_OF_A_CLASS = 32

WINDOWS_AT_ONCE = 32

# The picture's longest side in pixels, and the windows in which it is made.
PICTURE_SIDE, PICTURE_WINDOW, PICTURE_BATCH = 512, 128, 2


@dataclass(frozen=True)
class _Labelled:
    """Windows and the pixels in them that count.

    Attributes:
        chips: Of the windows, ground orientation.
        pixels: (3, pixel) window, row and column.
        codes: (pixel,) class codes.
    """

    chips: Chips
    pixels: NDArray[np.int64]
    codes: NDArray[np.uint8]


@dataclass(frozen=True)
class Probe:
    """Fixed training and validation pixels of one region."""

    train: _Labelled
    validation: _Labelled

    @classmethod
    def of(cls, region: LabelledSeries, bands: tuple[str, ...]) -> Probe | None:
        """Choose the pixels, always the same ones of a region; None where there are too few labels."""
        train = _draw(region, TRAIN, bands, TRAIN_WINDOWS)
        validation = _draw(region, VALIDATION, bands, VALIDATION_WINDOWS)
        if train is None or validation is None or len(np.unique(train.codes)) < 2:  # noqa: PLR2004 - no choice
            return None
        return cls(_thinned(train), validation)

    def mean_iou(self, encoder: Encoder, device: torch.device) -> float:
        """Of a logistic regression on the encoder's features of training pixels, mIoU on the validation pixels."""
        training = encoder.training
        encoder.eval()
        known, asked = (_features(encoder, part, device) for part in (self.train, self.validation))
        encoder.train(training)
        mapped = probe(known, self.train.codes, usual=known)(asked)
        codes = sorted({*np.unique(self.train.codes).tolist(), *np.unique(self.validation.codes).tolist()})
        return accuracy(confusion_matrix(self.validation.codes, mapped, codes), codes).mean_iou


def _draw(region: LabelledSeries, part: int, bands: tuple[str, ...], count: int) -> _Labelled | None:
    """Windows around pixels of one part, class by class, and all pixels of that part inside."""
    windows: list[Window] = []
    pixels, codes = [], []
    left = (region.split == part) & (region.labels > 0)
    for row, col in _centres(np.where(left, region.labels, 0), count):
        window = _around(row, col, region.series.shape)
        inside = np.argwhere(left[window.slices])
        if not len(inside):  # an earlier window had them all
            continue
        codes.append(region.labels[window.slices][tuple(inside.T)])
        pixels.append(np.insert(inside, 0, len(windows), axis=1))
        left[window.slices] = False
        windows.append(window)
    if not windows:
        return None
    chips = region.series.chips(windows, [region.series.spread_dates(MOST_DATES)] * len(windows), bands)
    place, code = np.concatenate(pixels).T, np.concatenate(codes)
    clear = chips.valid.any(dim=1).numpy()[tuple(place)]
    return _Labelled(chips, place[:, clear], code[clear]) if clear.any() else None


def _centres(labels: NDArray[np.uint8], count: int) -> list[tuple[int, int]]:
    """Labelled pixels at random, one of each class in turn; `count` of them, or all."""
    random = np.random.default_rng(0)
    of_class = [random.permutation(np.argwhere(labels == code)) for code in np.unique(labels[labels > 0])]
    turns = [(turn, k) for k, found in enumerate(of_class) for turn in range(min(len(found), count))]
    return [(int(of_class[k][turn][0]), int(of_class[k][turn][1])) for turn, k in sorted(turns)[:count]]


def _around(row: int, col: int, shape: tuple[int, int]) -> Window:
    height, width = (min(SIDE, side) for side in shape)
    return Window(
        min(max(0, row - height // 2), shape[0] - height),
        min(max(0, col - width // 2), shape[1] - width),
        height,
        width,
    )


def _thinned(labelled: _Labelled) -> _Labelled:
    """At most so many pixels of each class, drawn at random."""
    order = np.random.default_rng(0).permutation(len(labelled.codes))
    kept = np.concatenate(
        [order[labelled.codes[order] == code][:PIXELS_OF_A_CLASS] for code in np.unique(labelled.codes)]
    )
    return _Labelled(labelled.chips, labelled.pixels[:, kept], labelled.codes[kept])


@torch.no_grad()
def _features(encoder: Encoder, labelled: _Labelled, device: torch.device) -> NDArray[np.float32]:
    """(pixel, feature)."""
    parts = []
    for first in range(0, len(labelled.chips.day), WINDOWS_AT_ONCE):
        chips = Chips(*(part[first : first + WINDOWS_AT_ONCE] for part in labelled.chips)).to(device)
        with half_precision(device):
            parts.append(encoder(chips).movedim(1, -1).float().cpu())
    window, row, col = torch.from_numpy(labelled.pixels)
    found: NDArray[np.float32] = torch.cat(parts)[window, row, col].numpy()
    return found


def embedding_colours(encoder: Encoder, series: Series, device: torch.device) -> NDArray[np.uint8]:
    """The first three principal components of the features as red, green and blue.

    Args:
        encoder: On the device; set to evaluation.
        series: The region; of a large one the middle is shown.
        device: Where to compute.

    Returns:
        (y, x, 3), each component from its 2nd to its 98th percentile; white where the ground was never seen.
    """
    height, width = (min(side, PICTURE_SIDE) for side in series.shape)
    window = Window((series.shape[0] - height) // 2, (series.shape[1] - width) // 2, height, width)
    margin = margin_for(encoder.margin)
    encoder.eval()
    with half_precision(device):
        features, counts = blended(
            encoder,
            series,
            window,
            size=max(PICTURE_WINDOW, 4 * margin),
            margin=margin,
            device=device,
            batch=PICTURE_BATCH,
            bands=encoder.bands,
            dates=series.spread_dates(MOST_DATES),
        )
    return principal_colours(features.transpose(1, 2, 0), counts > 0)


def principal_colours(features: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Colours of features.

    Args:
        features: (y, x, feature).
        seen: (y, x), what the components and the colours' range are taken from; all else is white.

    Returns:
        (y, x, 3); black in the channels that fewer than three features leave over.
    """
    picture = np.full((*seen.shape, 3), 255, np.uint8)
    values = features[seen].astype(np.float64)
    if not len(values):
        return picture
    values -= values.mean(axis=0)
    components = values @ (axes := principal_axes(values.T @ values))
    low, high = np.percentile(components, STRETCH, axis=0)
    colours = np.zeros((len(values), 3), np.uint8)
    scaled = np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1)
    colours[:, : axes.shape[1]] = (255 * scaled).round().astype(np.uint8)
    picture[seen] = colours
    return picture

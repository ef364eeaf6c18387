"""Where fine-tuning starts: the last layer as the best linear classifier of the labelled pixels' features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from eearth.classifiers import probe
from eearth.geo.grid import Window
from eearth.geo.lattice import STEP
from eearth.losses import weighted_cross_entropy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eearth.data.chips import LabelledSeries
    from eearth.data.series import Series
    from eearth.losses.segmentation import SegmentationLoss
    from eearth.models.encoder import Encoder
    from eearth.models.segmentation import LandCoverModel

# Labelled pixels of each class and region that are looked at, at most.
HEAD_PIXELS = 1000

# Most pixels of a window around several labelled ones, for memory's sake: 128 × 128, as in an evaluation.
WINDOW_PIXELS = 1 << 14

# Score of a class of which no pixel was ever seen. The scores of the others sum to 0, so that the highest is at least
# 0 and such a class is never mapped.
NEVER_SEEN = -10.0


def start_head(
    model: LandCoverModel,
    regions: Sequence[LabelledSeries],
    chosen: Sequence[NDArray[np.bool_]],
    weight: torch.Tensor,
    seed: int,
    *,
    loss: SegmentationLoss = weighted_cross_entropy,
) -> float:
    """Let the last layer start as the logistic regression on the encoder's features of labelled pixels.

    Fine-tuning from a random last layer distorts good features before it uses them (Kumar et al. 2022, "LP-FT",
    arXiv 2202.10054); with a handful of labels nothing is left of them.

    Args:
        model: Its last layer is set.
        regions: Imagery with labels.
        chosen: For each region (y, x), True = may be learnt from.
        weight: (class,) how much a pixel of each class counts.
        seed: Of the pixels that are looked at, where there are very many.
        loss: What comes back for these pixels.

    Returns:
        Their loss; the cross entropy of equal scores where none of them was ever seen.
    """
    found = [_seen(model, region, mask, seed) for region, mask in zip(regions, chosen, strict=True)]
    features, codes, usual = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not len(codes):
        return math.log(len(model.classes))
    target = torch.from_numpy(np.searchsorted(model.classes, codes)).to(weight.device)
    line = probe(features, codes, usual, _counts(regions, chosen, codes, weight[target].cpu().numpy()))
    rows = np.searchsorted(model.classes, line.codes)
    weights = np.zeros((len(model.classes), features.shape[1]))
    biases = np.full(len(model.classes), NEVER_SEEN)
    weights[rows], biases[rows] = line.weights, line.biases
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weights)[:, :, None, None])
        model.head.bias.copy_(torch.from_numpy(biases))  # type: ignore[union-attr]
        scores = model.score(torch.from_numpy(features).to(weight.device))
        return loss(scores, target, weight).item()


def _counts(
    regions: Sequence[LabelledSeries],
    chosen: Sequence[NDArray[np.bool_]],
    codes: NDArray[np.uint8],
    weight: NDArray[np.float32],
) -> NDArray[np.float32]:
    """How much each pixel counts, 1 on the average: of a class with very many, those looked at stand for all."""
    there = sum(np.bincount(one.labels[mask], minlength=256) for one, mask in zip(regions, chosen, strict=True))
    counts = weight * (there / np.maximum(np.bincount(codes, minlength=256), 1))[codes]
    scaled: NDArray[np.float32] = (counts / counts.mean()).astype(np.float32)
    return scaled


@torch.no_grad()
def _seen(
    model: LandCoverModel, region: LabelledSeries, mask: NDArray[np.bool_], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Features and class codes of labelled pixels that were seen, and the features of some pixels around them."""
    features, codes, beside = [np.zeros((0, model.encoder.features), np.float32)], [np.zeros(0, np.uint8)], []
    asked = _some_of_each_class(region.labels * mask, seed)
    for around in encoded_around(asked, region.series, model.encoder, model.head.weight.device):
        seen = around.clear[around.place]
        features.append(around.features[around.place][seen])
        codes.append(region.labels[tuple(around.pixels.T)][seen])
        beside.append(around.features[::STEP, ::STEP][around.clear[::STEP, ::STEP]])
    return np.concatenate(features), np.concatenate(codes), np.concatenate([*beside, *features])


def _some_of_each_class(labels: NDArray[np.uint8], seed: int) -> NDArray[np.int64]:
    """(pixel, 2) rows and columns of labelled pixels, of each class so many at most."""
    random = np.random.default_rng([seed, 3])
    kept = [random.permutation(np.argwhere(labels == code))[:HEAD_PIXELS] for code in np.unique(labels[labels > 0])]
    return np.concatenate(kept) if kept else np.zeros((0, 2), np.int64)


@dataclass(frozen=True)
class Around:
    """A window around some pixels, encoded.

    Attributes:
        pixels: (pixel, 2) rows and columns in the image.
        place: The same as an index into the window.
        features: (y, x, feature).
        clear: (y, x), whether a pixel was ever seen clearly.
    """

    pixels: NDArray[np.int64]
    place: tuple[NDArray[np.int64], ...]
    features: NDArray[np.float32]
    clear: NDArray[np.bool_]


def encoded_around(
    pixels: NDArray[np.int64], series: Series, encoder: Encoder, device: torch.device | str
) -> Iterator[Around]:
    """Few windows with all of some pixels, encoded with all dates.

    Args:
        pixels: (pixel, 2) rows and columns.
        series: The imagery.
        encoder: On `device`.
        device: Where it runs.
    """
    for window, own in covering(pixels, encoder.margin, series.shape):
        chips = series.chips([window], bands=encoder.bands)
        found = encoder(chips.to(device))[0].movedim(0, -1).float().cpu().numpy()
        place = tuple((own - [window.row, window.col]).T)
        yield Around(own, place, found, chips.valid[0].any(dim=0).numpy())


def covering(pixels: NDArray[np.int64], margin: int, shape: tuple[int, int]) -> list[tuple[Window, NDArray[np.int64]]]:
    """Few windows with all that the features of some pixels depend on.

    A window around all of them is halved, and its halves again, as long as that leaves less to encode.

    Args:
        pixels: (pixel, 2) rows and columns.
        margin: Farthest pixel that a feature depends on.
        shape: (rows, columns) of the image.

    Returns:
        Windows on the lattice of all windows, and the pixels that each is for.
    """
    if not len(pixels):
        return []
    whole = _around(pixels, margin, shape)
    if len(pixels) == 1 or whole.pixels <= 2 * (2 * margin + 1) ** 2:  # as any two inside the image
        return [(whole, pixels)]
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    axis = int((high - low).argmax())
    first = pixels[:, axis] <= (low + high)[axis] // 2
    halves = [part for half in (pixels[first], pixels[~first]) for part in covering(half, margin, shape)]
    if whole.pixels <= min(WINDOW_PIXELS, sum(window.pixels for window, _ in halves)):
        return [(whole, pixels)]
    return halves


def _around(pixels: NDArray[np.int64], margin: int, shape: tuple[int, int]) -> Window:
    """The window that the features of pixels depend on; it starts where windows of a map may start."""
    row, col = (np.maximum(0, pixels.min(axis=0) - margin) // STEP * STEP).tolist()
    bottom, right = np.minimum(shape, pixels.max(axis=0) + margin + 1).tolist()
    return Window(row, col, bottom - row, right - col)

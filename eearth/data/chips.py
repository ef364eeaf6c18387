"""Chips around labelled pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eearth.data.series import Chips, Series
from eearth.data.views import Turn, View
from eearth.errors import LabelError
from eearth.geo.grid import Window
from eearth.geo.splits.blocks import TRAIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor


@dataclass(frozen=True)
class LabelledSeries:
    """One region's imagery with its ground truth.

    Attributes:
        series: The imagery.
        labels: (y, x) uint8 class codes, 0 = no label.
        split: (y, x) uint8 part codes, see `eearth.geo.splits.blocks`.

    Raises:
        LabelError: The shapes differ.
    """

    series: Series
    labels: NDArray[np.uint8]
    split: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Refuse labels of another grid."""
        if not self.series.shape == self.labels.shape == self.split.shape:
            msg = (
                f"expected labels and split on the imagery's grid of {self.series.shape}, found {self.labels.shape} "
                f"and {self.split.shape}: run `eearth rasterize` again"
            )
            raise LabelError(msg)


class LabelledChips(NamedTuple):
    """A batch to learn from.

    Attributes:
        chips: The imagery.
        target: (chip, y, x) int64 index of the class; −1 where there is nothing to learn.
    """

    chips: Chips
    target: Tensor


def choose_labels(
    labels: NDArray[np.uint8], split: NDArray[np.uint8], per_class: int | None, seed: int
) -> NDArray[np.bool_]:
    """The training pixels of a label budget: the same for every method that is to be compared.

    Args:
        labels: (y, x) or (pixel,) class codes, 0 = no label.
        split: Split codes, the same shape.
        per_class: Pixels of each class; fewer where a class has fewer; None for all.
        seed: Other seeds choose other pixels. A larger budget of the same seed contains the smaller one.

    Returns:
        The same shape, True = may be learnt from.
    """
    train: NDArray[np.bool_] = (split == TRAIN) & (labels > 0)
    if per_class is None:
        return train
    chosen = np.zeros(labels.shape, bool)
    for code in np.unique(labels[train]):
        pixels = np.flatnonzero(train & (labels == code))
        order = np.random.default_rng([seed, int(code)]).permutation(len(pixels))
        chosen.flat[pixels[order[:per_class]]] = True
    return chosen


def choose_together(regions: Sequence[LabelledSeries], per_class: int | None, seed: int) -> list[NDArray[np.bool_]]:
    """The training pixels of a label budget that holds for all regions together.

    Args:
        regions: Imagery with labels and split.
        per_class: Pixels of each class in all regions; see `choose_labels`.
        seed: See `choose_labels`.

    Returns:
        For each region (y, x), True = may be learnt from.
    """
    labelled = [region.labels > 0 for region in regions]
    labels = np.concatenate([region.labels[place] for region, place in zip(regions, labelled, strict=True)])
    split = np.concatenate([region.split[place] for region, place in zip(regions, labelled, strict=True)])
    chosen = choose_labels(labels, split, per_class, seed)
    ends = np.cumsum([np.count_nonzero(place) for place in labelled])
    masks = [np.zeros(place.shape, bool) for place in labelled]
    for mask, place, own in zip(masks, labelled, np.split(chosen, ends[:-1]), strict=True):
        mask[place] = own
    return masks


class LabelledPixels:
    """Where the pixels to learn from lie, ready for class-balanced draws.

    Args:
        regions: Imagery with labels.
        chosen: For each region (y, x), True = may be learnt from.
        classes: Class codes; their order gives the index of the targets.

    Raises:
        LabelError: There is no pixel to learn from.
    """

    def __init__(
        self, regions: Sequence[LabelledSeries], chosen: Sequence[NDArray[np.bool_]], classes: Sequence[int]
    ) -> None:
        """Look up each class's pixels once."""
        self.regions = regions
        index = np.full(256, -1, np.int16)
        index[list(classes)] = np.arange(len(classes), dtype=np.int16)
        self.targets = [np.where(mask, index[region.labels], -1) for region, mask in zip(regions, chosen, strict=True)]
        places = [np.argwhere(target >= 0) for target in self.targets]
        self.places = np.concatenate([np.insert(found, 0, number, axis=1) for number, found in enumerate(places)])
        of_class = np.concatenate([target[target >= 0] for target in self.targets])
        if not len(of_class):
            msg = "expected labelled training pixels under clear imagery, found none: see `eearth rasterize`"
            raise LabelError(msg)
        self.by_class = [np.flatnonzero(of_class == k) for k in range(len(classes))]
        self.counts = np.array([len(found) for found in self.by_class])

    def draw(
        self,
        random: np.random.Generator,
        *,
        bands: Sequence[str],
        chips: int,
        size: int,
        dates: int,
        balanced: bool = True,
    ) -> LabelledChips:
        """Windows around drawn pixels, with random dates, flips and quarter turns.

        Args:
            random: Source of all chance.
            bands: Bands of the chips.
            chips: Number of windows.
            size: Their side in pixels; less where the smallest region is smaller.
            dates: Most acquisitions of a window.
            balanced: Draw class by class, rare ones as often as common ones; else each pixel with the same chance.
        """
        size = min(size, *(side for region in self.regions for side in region.series.shape), size)
        around = self._of_each_class if balanced else self._of_all
        drawn = [self._choose(self.places[number], random, size, dates) for number in around(chips, random)]
        return self._cut(drawn, bands, size)

    def _of_each_class(self, count: int, random: np.random.Generator) -> Iterator[np.int64]:
        """Numbers of pixels, each class as often."""
        present = np.flatnonzero(self.counts)
        for k in present[random.permutation(np.arange(count) % len(present))]:
            yield random.choice(self.by_class[k])

    def _of_all(self, count: int, random: np.random.Generator) -> Iterator[np.int64]:
        """Numbers of pixels, each with the same chance."""
        yield from random.integers(len(self.places), size=count)

    def _choose(self, place: NDArray[np.int64], random: np.random.Generator, size: int, dates: int) -> View:
        """A window somewhere around a pixel, some of its dates, and a turn."""
        series = self.regions[int(place[0])].series
        row, col = (
            min(max(0, int(centre) - int(random.integers(size))), side - size)
            for centre, side in zip(place[1:], series.shape, strict=True)
        )
        seen = some_dates(len(series.times), dates, random)
        return View(int(place[0]), Window(row, col, size, size), Turn.draw(random), seen)

    def _cut(self, views: Sequence[View], bands: Sequence[str], size: int) -> LabelledChips:
        """One batch of windows, written where it is to lie: copies of chips took a quarter of a training on a CPU."""
        shape = len(views), max(len(view.dates) for view in views)
        reflectance = np.zeros((*shape, len(bands), size, size), np.float32)
        valid, day = np.zeros((*shape, size, size), bool), np.zeros(shape, np.float32)
        target = np.empty((len(views), size, size), np.int64)
        for i, view in enumerate(views):
            series, count = self.regions[view.region].series, len(view.dates)
            raw, seen = series.read_raw(view.window, bands, view.dates)
            values, clear = reflectance[i, :count], valid[i, :count]
            values[:], clear[:] = turned(raw, view.turn), turned(seen, view.turn)
            values *= np.float32(series.scale)
            values += np.float32(series.offset)
            values *= clear[:, None]
            day[i, :count] = series.days[view.dates]
            target[i] = turned(self.targets[view.region][view.window.slices], view.turn)
        target[~valid.any(axis=1)] = -1
        chips = Chips(torch.from_numpy(reflectance), torch.from_numpy(valid), torch.from_numpy(day))
        return LabelledChips(chips, torch.from_numpy(target))


def turned(image: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """What `Turn.apply` makes of a tensor, as a view of an array (..., y, x)."""
    return np.rot90(image[..., ::-1] if turn.flip else image, turn.quarters, (-2, -1))


def some_dates(count: int, most: int, random: np.random.Generator) -> NDArray[np.intp]:
    """A random subset of `count` dates: between half and all of them, at most `most`."""
    number = int(random.integers((count + 1) // 2, count + 1))
    return np.sort(random.permutation(count)[: min(number, most)])

"""Chips around labelled pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eearth.data.series import Chips, Series, join
from eearth.data.views import Turn
from eearth.errors import LabelError
from eearth.geo.blocks import TRAIN
from eearth.geo.grid import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True)
class LabelledSeries:
    """One region's imagery with its ground truth.

    Attributes:
        series: The imagery.
        labels: (y, x) uint8 class codes, 0 = no label.
        split: (y, x) uint8 part codes, see `eearth.geo.blocks`.

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
        labels: (y, x) class codes, 0 = no label.
        split: (y, x) split codes.
        per_class: Pixels of each class; fewer where a class has fewer; None for all.
        seed: Other seeds choose other pixels. A larger budget of the same seed contains the smaller one.

    Returns:
        (y, x), True = may be learnt from.
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
    ) -> LabelledChips:
        """Windows around pixels drawn class by class, with random dates, flips and quarter turns.

        Args:
            random: Source of all chance.
            bands: Bands of the chips.
            chips: Number of windows.
            size: Their side in pixels; less where the smallest region is smaller.
            dates: Most acquisitions of a window.
        """
        size = min(size, *(side for region in self.regions for side in region.series.shape), size)
        present = np.flatnonzero(self.counts)
        classes = present[random.permutation(np.arange(chips) % len(present))]
        drawn = [self._cut(self.places[random.choice(self.by_class[k])], random, bands, size, dates) for k in classes]
        return LabelledChips(join([one.chips for one in drawn]), torch.cat([one.target for one in drawn]))

    def _cut(
        self, place: NDArray[np.int64], random: np.random.Generator, bands: Sequence[str], size: int, dates: int
    ) -> LabelledChips:
        region, at = int(place[0]), place[1:]
        series, target = self.regions[region].series, self.targets[region]
        row, col = (
            min(max(0, int(centre) - int(random.integers(size))), side - size)
            for centre, side in zip(at, series.shape, strict=True)
        )
        window = Window(row, col, size, size)
        chips = series.chips([window], [some_dates(len(series.times), dates, random)], bands)
        turn = Turn.draw(random)
        labels = torch.from_numpy(target[window.slices].astype(np.int64))[None]
        labels = labels.masked_fill(~chips.valid.any(dim=1), -1)
        return LabelledChips(
            Chips(turn.apply(chips.reflectance), turn.apply(chips.valid), chips.day), turn.apply(labels)
        )


def some_dates(count: int, most: int, random: np.random.Generator) -> NDArray[np.intp]:
    """A random subset of `count` dates: between half and all of them, at most `most`."""
    number = int(random.integers((count + 1) // 2, count + 1))
    return np.sort(random.permutation(count)[: min(number, most)])

"""Two views of each place, and the geometry that links them.

A view carries where it was cut and how it was turned. Its features are brought back to ground orientation before any
two views are compared; nothing is ever found again by looking at pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eearth.data.series import Chips, join
from eearth.geo.grid import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from eearth.data.series import Series


@dataclass(frozen=True)
class Turn:
    """One of the eight symmetries of a square: first a flip of the columns, then quarter turns.

    Attributes:
        flip: Columns are reversed.
        quarters: Quarter turns counter-clockwise, 0..3.
    """

    flip: bool
    quarters: int

    @classmethod
    def draw(cls, random: np.random.Generator) -> Turn:
        """Each of the eight with the same chance."""
        number = int(random.integers(8))
        return cls(bool(number // 4), number % 4)

    def apply(self, image: Tensor) -> Tensor:
        """Turn an image (..., y, x) from ground orientation into the view's."""
        return torch.rot90(image.flip(-1) if self.flip else image, self.quarters, (-2, -1))

    def undo(self, image: Tensor) -> Tensor:
        """Turn an image (..., y, x) of the view back into ground orientation."""
        ground = torch.rot90(image, -self.quarters, (-2, -1))
        return ground.flip(-1) if self.flip else ground


@dataclass(frozen=True)
class View:
    """How one view of a place is made.

    Attributes:
        region: Which series.
        window: Where on the ground; square.
        turn: How the chip is turned.
        dates: Indices of the acquisitions it sees, rising.
    """

    region: int
    window: Window
    turn: Turn
    dates: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Radiometry:
    """Strengths of the radiometric changes, in standard deviations of a band where not said otherwise.

    Attributes:
        gain: Standard deviation of a view's gain for each band, as a factor about 1.
        offset: Standard deviation of a view's offset for each band.
        noise: Standard deviation of the noise of each pixel, band and date.
        drop_band: Chance that a view lacks a band: it shows the band's mean.
    """

    gain: float
    offset: float
    noise: float
    drop_band: float


class Pairs(NamedTuple):
    """A batch of pairs of views.

    Attributes:
        chips: (2 * pair) chips: all first views, then all second views, in the same order of places.
        turns: (2 * pair) how each chip is turned.
        pixels: (2, pixel) for either view, index into its features in ground orientation, flattened over
            (chip, y, x); chips count from 0 within either half.
        place: (pixel, 3) region, row and column on the ground.
    """

    chips: Chips
    turns: tuple[Turn, ...]
    pixels: Tensor
    place: Tensor

    def to_ground(self, features: Tensor) -> Tensor:
        """Features (2 * pair, feature, y, x) as the chips lie → (2, pixel, feature) at the same places."""
        ground = torch.stack([turn.undo(chip) for turn, chip in zip(self.turns, features, strict=True)])
        flat = ground.reshape(2, -1, *ground.shape[1:]).permute(0, 1, 3, 4, 2).flatten(1, 3)
        return torch.stack([flat[side][self.pixels[side]] for side in (0, 1)])


def draw_pairs(
    series: Sequence[Series],
    random: np.random.Generator,
    *,
    bands: Sequence[str],
    pairs: int,
    size: int,
    dates: int,
    pixels: int,
    shuffle: bool = False,
) -> Pairs:
    """Draw places, two views of each, and the pixels to compare.

    Args:
        series: Regions to draw from, each with the same chance.
        random: Source of all chance.
        bands: Bands of the chips.
        pairs: Number of places.
        size: Side of a view in pixels; less where the smallest region is smaller.
        dates: Most acquisitions of a view.
        pixels: Most pixels compared at a place.
        shuffle: Break the link between the views: each pixel is compared with another one. Only a control.
    """
    size = min(size, *(side for one in series for side in one.shape), size)
    drawn = [_draw_views(series, random, size, dates) for _ in range(pairs)]
    views = [pair[side] for side in (0, 1) for pair in drawn]
    chips = join([_cut(series, view, bands) for view in views])
    clear = chips.valid.any(dim=1).numpy()
    picked = [_pick(pair, clear[i], clear[pairs + i], i, most=pixels, random=random) for i, pair in enumerate(drawn)]
    index = np.concatenate([pick[0] for pick in picked], axis=1)
    place = np.concatenate([pick[1] for pick in picked])
    if shuffle:
        index[1] = random.permutation(index[1])
    turned = [[view.turn.apply(part[i]) for i, view in enumerate(views)] for part in chips[:2]]
    chips = Chips(torch.stack(turned[0]), torch.stack(turned[1]), chips.day)
    return Pairs(chips, tuple(view.turn for view in views), torch.from_numpy(index), torch.from_numpy(place))


def _draw_views(series: Sequence[Series], random: np.random.Generator, size: int, dates: int) -> tuple[View, View]:
    region = int(random.integers(len(series)))
    shape = series[region].shape
    first = [int(random.integers(0, side - size + 1)) for side in shape]
    shift = [int(random.integers(-(size // 4), size // 4 + 1)) for _ in shape]
    second = [min(max(0, at + by), side - size) for at, by, side in zip(first, shift, shape, strict=True)]
    chosen = split_dates(len(series[region].times), dates, random)
    one, two = (
        View(region, Window(row, col, size, size), Turn.draw(random), index)
        for (row, col), index in zip((first, second), chosen, strict=True)
    )
    return one, two


def split_dates(count: int, most: int, random: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two disjoint random subsets of `count` dates, each between half and all of its fair share.

    A single date is in both subsets, for there is no other.
    """
    if count == 1:
        return np.zeros(1, np.intp), np.zeros(1, np.intp)
    order = random.permutation(count)
    halves = order[: count // 2], order[count // 2 :]
    one, two = (
        np.sort(half[: int(random.integers((share + 1) // 2, share + 1))])
        for half in halves
        for share in [min(len(half), most)]
    )
    return one, two


def _cut(series: Sequence[Series], view: View, bands: Sequence[str]) -> Chips:
    return series[view.region].chips([view.window], [view.dates], bands)


def _pick(
    pair: tuple[View, View],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    number: int,
    *,
    most: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Some pixels that both views of place `number` see clearly: their index in either view, their place."""
    one, two = (view.window for view in pair)
    top, left = max(one.row, two.row), max(one.col, two.col)
    height, width = (one.height - abs(one.row - two.row), one.width - abs(one.col - two.col))
    rows, cols = (axis.ravel() for axis in np.mgrid[top : top + height, left : left + width])
    seen = first[rows - one.row, cols - one.col] & second[rows - two.row, cols - two.col]
    chosen = random.permutation(np.flatnonzero(seen))[:most]
    rows, cols = rows[chosen], cols[chosen]
    index = [(number * window.height + rows - window.row) * window.width + cols - window.col for window in (one, two)]
    return np.stack(index), np.stack([np.full_like(rows, pair[0].region), rows, cols], axis=1)


def change_radiometry(
    chips: Chips, radiometry: Radiometry, mean: Tensor, std: Tensor, random: np.random.Generator
) -> Chips:
    """Change each chip's bands by a gain, an offset and noise; drop some bands.

    Args:
        chips: Any chips, on the CPU.
        radiometry: How strongly.
        mean: (band, 1, 1) mean reflectance.
        std: (band, 1, 1) standard deviation.
        random: Source of all chance.
    """
    values = chips.reflectance
    count, _, bands = values.shape[:3]

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(random.standard_normal(shape, dtype=np.float32))

    gain = 1 + radiometry.gain * normal(count, 1, bands, 1, 1)
    offset = radiometry.offset * normal(count, 1, bands, 1, 1)
    noise = radiometry.noise * normal(*values.shape)
    dropped = torch.from_numpy(random.random((count, 1, bands, 1, 1)) < radiometry.drop_band)
    changed = torch.where(dropped, mean, values * gain + (offset + noise) * std)
    return chips._replace(reflectance=changed * chips.valid[:, :, None])

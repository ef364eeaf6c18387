"""Two views of each place, and the geometry that links them.

A view carries where it was cut and how it was turned. Its features are brought back to ground orientation before any
two views are compared; nothing is ever found again by looking at pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eearth.data.series import Chips, join
from eearth.geo.grid import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from eearth.data.gather import HeldSeries
    from eearth.data.series import Series

EVERYTHING = slice(None)


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
    def of(cls, number: int) -> Turn:
        """The turn with a number, 0..7."""
        return cls(bool(number // 4), number % 4)

    @classmethod
    def draw(cls, random: np.random.Generator) -> Turn:
        """Each of the eight with the same chance."""
        return cls.of(int(random.integers(8)))

    @property
    def number(self) -> int:
        """0..7."""
        return 4 * self.flip + self.quarters

    def apply(self, image: Tensor) -> Tensor:
        """Turn an image (..., y, x) from ground orientation into the view's."""
        return torch.rot90(image.flip(-1) if self.flip else image, self.quarters, (-2, -1))

    def undo(self, image: Tensor) -> Tensor:
        """Turn an image (..., y, x) of the view back into ground orientation."""
        ground = torch.rot90(image, -self.quarters, (-2, -1))
        return ground.flip(-1) if self.flip else ground


@lru_cache(maxsize=16)
def turned_offsets(size: int) -> Tensor:
    """For each turn and each pixel of a turned window, which pixel of the window it shows: (8, size * size) int64."""
    offsets = torch.arange(size * size).reshape(size, size)
    return torch.stack([Turn.of(number).apply(offsets).flatten() for number in range(8)])


@lru_cache(maxsize=16)
def turned_positions(size: int) -> NDArray[np.int64]:
    """For each turn and each pixel of a window, where the turned window shows it: (8, size * size)."""
    positions: NDArray[np.int64] = turned_offsets(size).argsort(dim=1).numpy()
    return positions


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


class Pairs(NamedTuple):
    """A batch of pairs of views.

    Attributes:
        chips: (2 * pair) chips: all first views, then all second views, in the same order of places.
        pixels: (2, pixel) for either view, index into the features as the chips lie, flattened over (chip, y, x).
        place: (pixel, 3) region, row and column on the ground.
    """

    chips: Chips
    pixels: Tensor
    place: Tensor

    def to(self, device: torch.device | str) -> Pairs:
        """The same pairs on another device."""
        return Pairs(self.chips.to(device), *(part.to(device, non_blocking=True) for part in self[1:]))

    def to_ground(self, features: Tensor) -> Tensor:
        """Features (2 * pair, feature, y, x) as the chips lie → (2, pixel, feature) at the same places."""
        flat = features.flatten(2)
        area = flat.shape[2]
        return flat.transpose(1, 2)[self.pixels // area, self.pixels % area]


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Ways to break the method on purpose: a gain that survives one did not come from what it takes away.

    Attributes:
        shuffle: Break the link between the views: each pixel is compared with another one.
        same_dates: Both views see the same dates.
        identical: The second view is cut and turned as the first.
    """

    shuffle: bool = False
    same_dates: bool = False
    identical: bool = False


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
    controls: Controls | None = None,
    share: slice = EVERYTHING,
    held: HeldSeries | None = None,
) -> Pairs:
    """Draw places, two views of each, and the pixels to compare.

    Each pair has a random generator of its own, so that a share of the batch is the same however it is shared out.

    Args:
        series: Regions to draw from, each with the same chance.
        random: Source of all chance.
        bands: Bands of the chips.
        pairs: Number of places.
        size: Side of a view in pixels; less where the smallest region is smaller.
        dates: Most acquisitions of a view.
        pixels: Most pixels compared at a place.
        shuffle: The control of that name, within this share of the batch.
        controls: All controls; None for `shuffle` alone.
        share: Which of the pairs to make.
        held: The same series as one tensor, to gather from; None to read each window.

    Returns:
        The pairs; the chips on the device of `held`, the rest on the CPU.
    """
    controls = controls or Controls(shuffle=shuffle)
    size = min(size, *(side for one in series for side in one.shape), size)
    generators = random.spawn(pairs)[share]
    drawn = [_draw_views(series, one, size, dates, controls) for one in generators]
    views = [pair[side] for side in (0, 1) for pair in drawn]
    chips, clear = held.cut(views) if held else _read(series, views, bands)
    ground = _to_ground(clear.numpy(), views)
    picked = [
        _pick(pair, ground[[i, len(drawn) + i]], (i, len(drawn) + i), most=pixels, random=one)
        for i, (pair, one) in enumerate(zip(drawn, generators, strict=True))
    ]
    index = np.concatenate([pick[0] for pick in picked], axis=1)
    place = np.concatenate([pick[1] for pick in picked])
    if controls.shuffle:
        index[1] = random.permutation(index[1])
    return Pairs(chips, torch.from_numpy(index), torch.from_numpy(place))


def _draw_views(
    series: Sequence[Series], random: np.random.Generator, size: int, dates: int, controls: Controls
) -> tuple[View, View]:
    region = int(random.integers(len(series)))
    shape = series[region].shape
    first = [int(random.integers(0, side - size + 1)) for side in shape]
    shift = [int(random.integers(-(size // 4), size // 4 + 1)) for _ in shape]
    second = [min(max(0, at + by), side - size) for at, by, side in zip(first, shift, shape, strict=True)]
    chosen = split_dates(len(series[region].times), dates, random)
    if controls.same_dates:
        chosen = chosen[0], chosen[0]
    one, two = (
        View(region, Window(row, col, size, size), Turn.draw(random), index)
        for (row, col), index in zip((first, second), chosen, strict=True)
    )
    return (one, one) if controls.identical else (one, two)


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


def _read(series: Sequence[Series], views: Sequence[View], bands: Sequence[str]) -> tuple[Chips, Tensor]:
    """Chips of the views, window by window, and (chip, y, x) whether a view sees a pixel at all."""
    chips = join([series[view.region].chips([view.window], [view.dates], bands) for view in views])
    reflectance, valid = (torch.stack([view.turn.apply(part[i]) for i, view in enumerate(views)]) for part in chips[:2])
    return Chips(reflectance, valid, chips.day), valid.any(dim=1)


def _to_ground(clear: NDArray[np.bool_], views: Sequence[View]) -> NDArray[np.bool_]:
    """(chip, y, x) as the chips lie → the same in ground orientation."""
    size = clear.shape[-1]
    positions = turned_positions(size)[[view.turn.number for view in views]]
    ground: NDArray[np.bool_] = np.take_along_axis(clear.reshape(len(views), -1), positions, axis=1)
    return ground.reshape(clear.shape)


def _pick(
    pair: tuple[View, View],
    clear: NDArray[np.bool_],
    chips: tuple[int, int],
    *,
    most: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Some pixels that both views of a place see clearly: their index in either view, their place.

    Args:
        pair: The views.
        clear: (2, y, x) what either sees, in ground orientation.
        chips: Number of either view's chip in the batch.
        most: Most pixels.
        random: Source of all chance.
    """
    one, two = (view.window for view in pair)
    top, left, size = max(one.row, two.row), max(one.col, two.col), one.height
    height, width = size - abs(one.row - two.row), size - abs(one.col - two.col)
    rows, cols = (axis.ravel() for axis in np.mgrid[top : top + height, left : left + width])
    seen = clear[0, rows - one.row, cols - one.col] & clear[1, rows - two.row, cols - two.col]
    chosen = random.permutation(np.flatnonzero(seen))[:most]
    rows, cols = rows[chosen], cols[chosen]
    index = [
        chip * size**2
        + turned_positions(size)[view.turn.number, (rows - view.window.row) * size + cols - view.window.col]
        for chip, view in zip(chips, pair, strict=True)
    ]
    return np.stack(index), np.stack([np.full_like(rows, pair[0].region), rows, cols], axis=1)

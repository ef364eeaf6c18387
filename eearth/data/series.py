"""Imagery of one region, and the chips that a network eats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eearth.errors import ModelError
from eearth.geo.grid import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

# Pixels that the band statistics are drawn from: enough for a mean to 1 % of a standard deviation, read in windows.
STATISTICS_WINDOWS = 64
STATISTICS_WINDOW_SIZE = 32

# Bytes of imagery that are held in memory at most, where access to a cube on the disk would be slower.
IN_MEMORY = 256 * 2**20

# Windows that an encoder gets to see before it is trained, and their dates at most.
SAMPLES = 48
SAMPLE_DATES = 64

# Share of the darkest and of the brightest clear pixels left out of the statistics: clouds and shadows that the mask
# missed would otherwise widen a dark band's standard deviation several times.
STATISTICS_TAIL = 0.01


class Array(Protocol):
    """What numpy and zarr arrays share."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    def __getitem__(self, index: Any, /) -> Any:
        """Basic slices give a numpy array."""


class Chips(NamedTuple):
    """A batch for an encoder.

    Attributes:
        reflectance: (chip, time, band, y, x) float32, physical reflectance; 0 where not valid.
        valid: (chip, time, y, x) bool, True = a clear observation of the ground.
        day: (chip, time) float32, day of the year 1..366; any value where a date only fills up the batch.
    """

    reflectance: Tensor
    valid: Tensor
    day: Tensor

    def to(self, device: torch.device | str) -> Chips:
        """The same chips on another device."""
        return Chips(*(part.to(device, non_blocking=True) for part in self))


@dataclass(frozen=True)
class Series:
    """One region's image time series, ready to be drawn from.

    Attributes:
        reflectance: (time, band, y, x) integers, numpy or zarr; physical reflectance = value * scale + offset.
        valid: (time, y, x) bool, True = a clear observation of the ground in all bands.
        times: (time,) datetime64, rising.
        bands: Names of the bands, in the order of the band axis.
        scale: Factor from integer to reflectance.
        offset: Added after the factor.
    """

    reflectance: Array
    valid: Array
    times: NDArray[np.datetime64]
    bands: tuple[str, ...]
    scale: float = 1.0
    offset: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.valid.shape[1], self.valid.shape[2]

    @cached_property
    def days(self) -> NDArray[np.float32]:
        """Day of the year of each acquisition, 1..366, shape (time,)."""
        dates = self.times.astype("datetime64[D]")
        first = dates.astype("datetime64[Y]").astype("datetime64[D]")
        days: NDArray[np.float32] = ((dates - first).astype(np.int64) + 1).astype(np.float32)
        return days

    def in_memory(self, limit: int = IN_MEMORY) -> Series:
        """The same series, held in memory where it needs at most `limit` bytes, for random access is faster there."""
        cells = int(np.prod(self.reflectance.shape))
        if isinstance(self.reflectance, np.ndarray) or cells * 2 > limit:
            return self
        values, valid = np.asarray(self.reflectance[:]), np.asarray(self.valid[:])
        return Series(values, valid, self.times, self.bands, self.scale, self.offset)

    def spread_dates(self, most: int) -> NDArray[np.intp]:
        """Indices of all dates, or of so many spread over the whole time."""
        times = len(self.times)
        return np.unique(np.linspace(0, times - 1, min(times, most)).round().astype(np.intp))

    def band_index(self, bands: Sequence[str]) -> list[int]:
        """Where `bands` lie on the band axis.

        Raises:
            ModelError: The series lacks one of them.
        """
        missing = [name for name in bands if name not in self.bands]
        if missing:
            msg = (
                f"the model expects the bands {', '.join(bands)}; the imagery has {', '.join(self.bands)}: "
                f"download {', '.join(missing)} too, or pre-train on this imagery"
            )
            raise ModelError(msg)
        return [self.bands.index(name) for name in bands]

    def read(
        self, window: Window, bands: Sequence[str], dates: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Some dates of one window; see `read_raw`.

        Returns:
            Reflectance (time, band, y, x), 0 where not valid; valid (time, y, x).
        """
        raw, valid = self.read_raw(window, bands, dates)
        values = np.multiply(raw, np.float32(self.scale), dtype=np.float32, order="C")
        if self.offset:
            values += np.float32(self.offset)
        values *= valid[:, None]
        return values, valid

    def read_raw(
        self, window: Window, bands: Sequence[str], dates: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Some dates of one window, as they are stored.

        Args:
            window: Inside the series.
            bands: Bands by name, in the order wanted.
            dates: Indices of the dates; None for all.

        Returns:
            Integers (time, band, y, x), any value where not valid; valid (time, y, x).
        """
        rows, cols = window.slices
        valid = np.asarray(self.valid[:, rows, cols], dtype=bool)
        raw = np.asarray(self.reflectance[:, :, rows, cols])
        if dates is not None:
            raw, valid = raw[dates], valid[dates]
        if tuple(bands) != self.bands:
            raw = raw[:, self.band_index(bands)]
        return raw, valid

    def chips(
        self,
        windows: Sequence[Window],
        dates: Sequence[NDArray[np.intp]] | None = None,
        bands: Sequence[str] | None = None,
    ) -> Chips:
        """Cut windows of one size out of the series.

        Args:
            windows: All of the same height and width, inside the series.
            dates: For each window the indices of its dates; None for all dates. Windows with fewer dates than others
                are filled up with dates on which nothing is valid.
            bands: Bands by name, in the order wanted; None for all.
        """
        chosen = dates if dates is not None else [None] * len(windows)
        return join([self._chip(*one, bands or self.bands) for one in zip(windows, chosen, strict=True)])

    def _chip(self, window: Window, dates: NDArray[np.intp] | None, bands: Sequence[str]) -> Chips:
        """One window as a batch of one."""
        values, valid = self.read(window, bands, dates)
        days = self.days if dates is None else self.days[dates]
        own = (values, np.array(valid, order="C"), np.array(days))  # nobody else's, whatever is done with them
        return Chips(*(torch.from_numpy(part[np.newaxis]) for part in own))


def months_of(times: NDArray[np.datetime64]) -> tuple[int, ...]:
    """Months 1..12 in which any of some times lies, rising."""
    return tuple(int(month) for month in np.unique(times.astype("datetime64[M]").astype(np.int64) % 12 + 1))


def join(parts: Sequence[Chips]) -> Chips:
    """Chips of several windows or series in one batch, filled up to the longest, and to one date, with none valid."""
    longest = max(1, *(part.day.shape[1] for part in parts))
    if len(parts) == 1 and parts[0].day.shape[1] == longest:
        return parts[0]
    filled = [Chips(*(_filled(tensor, longest) for tensor in part)) for part in parts]
    return Chips(*(torch.cat(tensors) for tensors in zip(*filled, strict=True)))


def _filled(tensor: Tensor, length: int) -> Tensor:
    if tensor.shape[1] == length:
        return tensor
    shape = (tensor.shape[0], length - tensor.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=1)


def band_statistics(series: Sequence[Series], bands: Sequence[str], seed: int = 0) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each band's clear reflectance, its tails left out.

    Every series has the same weight, whatever its size.

    Raises:
        ModelError: No series has a clear pixel.
    """
    drawn = [values for one in series if len(values := _clear_pixels(one, bands, seed))]
    if not drawn:
        msg = "expected clear pixels to take band statistics from, found none: check the cloud mask's setting"
        raise ModelError(msg)
    share = min(len(values) for values in drawn)
    pixels = np.concatenate([values[:: len(values) // share] for values in drawn]).astype(np.float64)
    low, high = np.quantile(pixels, [STATISTICS_TAIL, 1 - STATISTICS_TAIL], axis=0)
    clipped = np.clip(pixels, low, high)
    return clipped.mean(axis=0).tolist(), np.maximum(clipped.std(axis=0), 1e-4).tolist()


def _clear_pixels(series: Series, bands: Sequence[str], seed: int) -> NDArray[np.float32]:
    """Clear pixels of windows drawn over the series, shape (pixel, band)."""
    found = []
    for window in _windows(series, STATISTICS_WINDOWS, seed):
        values, valid = series.read(window, bands)
        pixels = values.transpose(0, 2, 3, 1)[valid]
        found.append(pixels[:: max(1, len(pixels) // 2048)])
    return np.concatenate(found)


def samples(series: Sequence[Series], bands: Sequence[str], seed: int = 0) -> list[Chips]:
    """Some windows of the imagery, of each series as many, one batch each; long series are thinned out over time."""
    count = max(1, SAMPLES // len(series))
    drawn = ((one, window) for one in series for window in _windows(one, count, seed))
    return [one.chips([window], [one.spread_dates(SAMPLE_DATES)], bands) for one, window in drawn]


def _windows(series: Series, count: int, seed: int) -> list[Window]:
    """Windows at random places of a series."""
    random = np.random.default_rng([seed, 0])
    height, width = (min(STATISTICS_WINDOW_SIZE, side) for side in series.shape)
    last = series.shape[0] - height, series.shape[1] - width
    places = ([int(random.integers(0, end + 1)) for end in last] for _ in range(count))
    return [Window(row, col, height, width) for row, col in places]

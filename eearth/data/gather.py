"""Imagery held as one tensor on the device that learns, and whole batches gathered from it at once.

The cube stays in the integers that it is stored in. A row of the tensor holds all bands of one pixel on one date, so
that what a view needs of a pixel lies together, and one index of a row stands for all of its bands.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from eearth.data.series import Chips
from eearth.data.views import turned_offsets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from eearth.data.series import Series
    from eearth.data.views import View

# Share of what is free that a cube may take: the network, its gradients and the batches need room as well.
SHARE_OF_FREE = 0.5

# Rows of a region read at once on the way into the tensor: those of one row of a cube's chunks.
STRIP = 64


class HeldSeries:
    """Several series as one tensor.

    Attributes:
        device: Where the pixels are.
        values: (row, band) integers; row = the region's first row + pixel * dates + date. Whether a row is a clear
            observation is kept on the CPU.
    """

    def __init__(self, series: Sequence[Series], bands: Sequence[str], device: torch.device) -> None:
        """Read all of the series, strip by strip.

        Args:
            series: Regions.
            bands: Bands by name, in the order wanted.
            device: Where to hold them.

        Raises:
            ModelError: A region lacks a band.
        """
        self.device = device
        self._days = [one.days for one in series]
        self._widths = torch.tensor([one.shape[1] for one in series])
        self._dates = torch.tensor([len(one.times) for one in series])
        rows = [one.shape[0] * one.shape[1] * len(one.times) for one in series]
        self._first = torch.tensor([0, *np.cumsum(rows)[:-1].tolist()])
        scales, offsets = ([getattr(one, name) for one in series] for name in ("scale", "offset"))
        self._scale = torch.tensor(scales, dtype=torch.float32, device=device)
        self._offset = torch.tensor(offsets, dtype=torch.float32, device=device)
        kind = np.result_type(*(np.asarray(one.reflectance[:0]).dtype for one in series))
        self._kind = torch.from_numpy(np.empty(0, kind)).dtype
        # CUDA cannot select rows of uint16; their bits travel as int16, which every device can.
        stored = torch.int16 if self._kind == torch.uint16 else self._kind
        self.values = torch.empty((sum(rows), len(bands)), dtype=stored, device=device)
        self._seen = torch.empty(sum(rows), dtype=torch.bool)
        for one, first in zip(series, self._first.tolist(), strict=True):
            self._fill(one, bands, first, kind)

    def _fill(self, series: Series, bands: Sequence[str], first: int, kind: np.dtype[np.generic]) -> None:
        order = series.band_index(bands)
        for row in range(0, series.shape[0], STRIP):
            strip = slice(row, row + STRIP)
            raw = np.asarray(series.reflectance[:, :, strip])[:, order].astype(kind, copy=False)
            pixels = np.ascontiguousarray(raw.transpose(2, 3, 0, 1)).reshape(-1, len(order))
            seen = np.asarray(series.valid[:, strip], dtype=bool).transpose(1, 2, 0).reshape(-1)
            rows = slice(first, first + len(seen))
            self.values[rows] = torch.from_numpy(pixels).view(self.values.dtype).to(self.device)
            self._seen[rows] = torch.from_numpy(seen)
            first += len(seen)

    def cut(self, views: Sequence[View]) -> tuple[Chips, Tensor]:
        """Chips of the views, turned as they say: one gather for the batch.

        Returns:
            The chips, and (chip, y, x) whether a view sees a pixel at all; the latter on the CPU, where pixels are
            drawn from it without waiting for the device.
        """
        rows, real = self._rows(views)
        wanted = rows.to(self.device, non_blocking=True)
        seen = self._seen[rows] & real[..., None, None]
        valid = seen.to(self.device, non_blocking=True)
        raw = self.values.index_select(0, wanted.flatten()).view(self._kind).view(*rows.shape, -1)
        region = torch.tensor([view.region for view in views], device=self.device)
        scale, offset = (part[region][:, None, None, None, None] for part in (self._scale, self._offset))
        values = raw.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
        reflectance = values.mul_(scale).add_(offset).mul_(valid[:, :, None])
        return Chips(reflectance, valid, self._day_of(views, real).to(self.device)), seen.any(dim=1)

    def _rows(self, views: Sequence[View]) -> tuple[Tensor, Tensor]:
        """Rows that the views show, (chip, date, y, x), and which dates are real, (chip, date)."""
        size = views[0].window.height
        region = torch.tensor([view.region for view in views])
        corner = torch.tensor([(view.window.row, view.window.col) for view in views])
        offset = turned_offsets(size)[[view.turn.number for view in views]]
        width = self._widths[region][:, None]
        pixel = (corner[:, :1] + offset // size) * width + corner[:, 1:] + offset % size
        date, real = self._dates_of(views)
        first = (self._first[region][:, None] + pixel * self._dates[region][:, None])[:, None]
        return (first + date[..., None]).view(len(views), -1, size, size), real

    def _dates_of(self, views: Sequence[View]) -> tuple[Tensor, Tensor]:
        """Indices of the dates, filled up with the first, and which are real: (chip, date)."""
        count = np.array([len(view.dates) for view in views])
        real = np.arange(count.max()) < count[:, None]
        date = np.zeros(real.shape, np.int64)
        date[real] = np.concatenate([view.dates for view in views])
        return torch.from_numpy(date), torch.from_numpy(real)

    def _day_of(self, views: Sequence[View], real: Tensor) -> Tensor:
        day = torch.zeros(real.shape)
        day[real] = torch.from_numpy(np.concatenate([self._days[view.region][view.dates] for view in views]))
        return day


def hold(series: Sequence[Series], bands: Sequence[str], device: torch.device, sharers: int = 1) -> HeldSeries | None:
    """The series as one tensor: on the device where they fit, else in memory; None where they fit into neither.

    Args:
        series: Regions.
        bands: Bands by name, in the order wanted.
        device: Where the network is.
        sharers: Processes on this machine that each hold the series.
    """
    needed = sum(_bytes(one, len(bands)) for one in series)
    if device.type == "cuda" and needed <= SHARE_OF_FREE * torch.cuda.mem_get_info(device)[0]:
        return HeldSeries(series, bands, device)
    if needed <= SHARE_OF_FREE * free_memory() / sharers:
        return HeldSeries(series, bands, torch.device("cpu"))
    return None


def _bytes(series: Series, bands: int) -> int:
    """Integers of all bands, and one byte of validity."""
    cells = series.shape[0] * series.shape[1] * len(series.times)
    return cells * (bands * np.asarray(series.reflectance[:0]).itemsize + 1)


def free_memory(meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that can still be used, within the limit of the process's control group if it has one."""
    try:
        free = _entry(meminfo, "MemAvailable:") * 1024
    except (OSError, ValueError):  # not Linux: reckon with half of what is built in
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    try:
        used = int((group / "memory.current").read_text()) - _entry(group / "memory.stat", "inactive_file")
        return max(0, min(free, int((group / "memory.max").read_text()) - used))
    except (OSError, ValueError):  # no group, or one without a limit ("max")
        return free


def _entry(path: Path, name: str) -> int:
    """The number behind a name in a file of names and numbers."""
    found = [line.split()[1] for line in path.read_text().splitlines() if line.split()[:1] == [name]]
    return int(" ".join(found))

"""Curves of a training and the reliability of its probabilities, as shapes for inline SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eearth.report.sources import Document

# The frame in which the curves lie, in the units of the drawing: left, top, right, bottom.
LEFT, TOP, RIGHT, BOTTOM = 52.0, 12.0, 350.0, 176.0

# More points than this are thinned out: the curve has no more picture elements.
MOST_POINTS = 400

TICKS = 4

# Share of its size by which a figure must change for its changes to be drawn.
NOTHING = 1e-6


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """One figure of a training over its steps.

    Attributes:
        name: Of the figure.
        points: Of the line, as SVG writes them.
        across: Ticks of the steps.
        up: Ticks of the figure.
        last: Where the line ends.
        text: What the chart shows, for those who cannot see it.
    """

    name: str
    points: str
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    last: tuple[float, float]
    text: str


@dataclass(frozen=True)
class Bar:
    """One bin of the reliability diagram: a dot at (x, y), with a radius by its share of the pixels."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Reliability:
    """How often pixels of each confidence are right."""

    dots: tuple[Bar, ...]
    points: str
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    text: str


def training_charts(rows: Sequence[Mapping[str, str]]) -> list[Chart]:
    """A chart for each column of a history that has at least two values; none where no steps were taken."""
    names = [name for name in (rows[0] if rows else {}) if name and name != "step"]
    charts = (_chart(name, *_column(rows, name)) for name in names)
    return [chart for chart in charts if chart is not None]


def _column(rows: Sequence[Mapping[str, str]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(steps, values) of the rows that have a value."""
    pairs = np.array([(_number(row.get("step")), _number(row.get(name))) for row in rows], dtype=float)
    there = np.isfinite(pairs).all(axis=1)
    return pairs[there, 0], pairs[there, 1]


def _number(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan


def _chart(name: str, steps: NDArray[np.float64], values: NDArray[np.float64]) -> Chart | None:
    if steps.size < 2 or steps[0] == steps[-1]:  # noqa: PLR2004 - a line has two ends
        return None
    ends = float(steps[0]), float(steps[-1])
    up, across = _nice(values.min(), values.max()), [at for at in _nice(*ends) if ends[0] <= at <= ends[1]]
    thin = np.unique(np.linspace(0, steps.size - 1, min(steps.size, MOST_POINTS)).round().astype(int))
    x = _placed(steps[thin], ends, LEFT, RIGHT)
    y = _placed(values[thin], (up[0], up[-1]), BOTTOM, TOP)
    shown = name.replace("_", " ")
    return Chart(
        name=shown,
        points=_points(x, y),
        across=_ticks(across, ends, LEFT, RIGHT),
        up=_ticks(up, (up[0], up[-1]), BOTTOM, TOP),
        last=(round(float(x[-1]), 1), round(float(y[-1]), 1)),
        text=f"{shown}: {values[0]:.4g} at step {steps[0]:g}, {values[-1]:.4g} at step {steps[-1]:g}; "
        f"lowest {values.min():.4g}, highest {values.max():.4g}",
    )


def reliability(calibration: Document | None) -> Reliability | None:
    """The bins of `calibration` in a model's metrics; None where it has none."""
    bins = calibration.entries("/calibration/bins") if calibration else []
    filled = [entry for entry in bins if entry.get("pixels") and entry.get("confidence") is not None]
    if not filled:
        return None
    shares = np.array([[entry["confidence"], entry["accuracy"]] for entry in filled], dtype=float)
    pixels = np.array([entry["pixels"] for entry in filled], dtype=float)
    x, y = _placed(shares[:, 0], (0, 1), LEFT, RIGHT), _placed(shares[:, 1], (0, 1), BOTTOM, TOP)
    radii = 3 + 6 * np.sqrt(pixels / pixels.max())
    dots = (Bar(*(round(float(part), 1) for part in dot)) for dot in zip(x, y, radii, strict=True))
    ticks = np.linspace(0, 1, 5)
    said = "; ".join(f"{of[0]:.0%} confident, {of[1]:.0%} right" for of in shares)
    return Reliability(
        dots=tuple(dots),
        points=_points(x, y),
        across=_ticks(ticks, (0, 1), LEFT, RIGHT, percent=True),
        up=_ticks(ticks, (0, 1), BOTTOM, TOP, percent=True),
        text=f"of pixels that the model is so confident of, so many are right: {said}",
    )


def _nice(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about `TICKS` steps of 1, 2 or 5 times a power of ten."""
    size = max(abs(low), abs(high))
    span = high - low
    if span <= NOTHING * max(size, NOTHING):  # a figure that never changes
        span = size if size > NOTHING else 1.0
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * TICKS >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _placed(values: NDArray[np.float64], ends: tuple[float, float], first: float, last: float) -> NDArray[np.float64]:
    """Values between `ends` as places between `first` and `last`."""
    placed: NDArray[np.float64] = first + (values - ends[0]) / (ends[1] - ends[0]) * (last - first)
    return placed


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    return " ".join(f"{across:.1f},{up:.1f}" for across, up in zip(x, y, strict=True))


def _ticks(
    values: Sequence[float] | NDArray[np.float64],
    ends: tuple[float, float],
    first: float,
    last: float,
    *,
    percent: bool = False,
) -> tuple[Tick, ...]:
    places = _placed(np.asarray(values, dtype=float), ends, first, last)
    return tuple(
        Tick(round(float(place), 1), f"{value:.0%}" if percent else f"{value:.6g}")
        for place, value in zip(places, values, strict=True)
    )

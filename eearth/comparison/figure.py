"""mIoU against the number of labels, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from eearth.comparison.summary import half_width
from eearth.comparison.tables import heading
from eearth.pictures import CURVES, STYLES, write_png

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from eearth.comparison.summary import Summary

MARKERS = "osD^vP"

# Points of neighbouring contenders stand this far apart, in steps of a budget, so that their intervals can be seen.
DODGE = 0.04

# The axis ends above 100 %, so that a point there is seen whole; an interval may go beyond.
HIGHEST = 101.5

# Least distance of two labels at the end of the curves, as a share of the axis.
APART = 0.055


def draw_budgets(path: Path, summary: Summary) -> None:
    """Draw the mean mIoU of each contender over the budgets, with its 95 % interval, and its name at the end.

    Args:
        path: The PNG file to write.
        summary: What to draw.
    """
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    ends = [_draw(axes, summary, label, number) for number, label in enumerate(summary.labels)]
    axes.set_xticks(range(len(summary.budgets)), [heading(budget) for budget in summary.budgets])
    counts = sorted(set(summary.seeds.values()))
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    axes.set_xlabel("labelled pixels of each class")
    axes.set_ylabel("test mIoU, %")
    note = f"mean over {seeds} seeds; bars: 95 % interval of the mean (paired differences: table.md)"
    axes.set_title(note, fontsize=9, loc="left", color="#555555")
    axes.grid(visible=True, axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(-0.3, len(summary.budgets) - 0.7)
    axes.set_ylim(top=min(axes.get_ylim()[1], HIGHEST))
    _name(axes, summary.labels, ends)
    write_png(figure, path)


def _draw(axes: Axes, summary: Summary, label: str, number: int) -> float:
    """One curve; returns where it ends."""
    cells = [summary.cell(label, budget) for budget in summary.budgets]
    means = [cell.mean for cell in cells]
    halves = np.nan_to_num([half_width(cell.scores) for cell in cells])
    places = np.arange(len(cells)) + DODGE * (number - (len(summary.labels) - 1) / 2)
    axes.errorbar(
        places,
        means,
        yerr=halves,
        color=CURVES[number % len(CURVES)],
        linestyle=STYLES[number % len(STYLES)],
        marker=MARKERS[number % len(MARKERS)],
        linewidth=1.8,
        markersize=4.5,
        elinewidth=0.9,
        capsize=2.5,
    )
    return means[-1]


def _name(axes: Axes, labels: Sequence[str], ends: Sequence[float]) -> None:
    """Write each name beside the end of its curve, names that would collide moved apart."""
    low, high = axes.get_ylim()
    shares = spread_apart([(end - low) / (high - low) for end in ends], APART)
    for number, (label, share) in enumerate(zip(labels, shares, strict=True)):
        axes.text(
            1.01,
            share,
            label,
            color=CURVES[number % len(CURVES)],
            transform=axes.transAxes,
            va="center",
            fontsize=9,
            fontweight="bold",
            parse_math=False,  # a dollar sign in a name is a dollar sign
        )


def spread_apart(places: Sequence[float], least: float) -> list[float]:
    """The nearest places (least squares) in the same order that are `least` or more from each other."""
    order = np.argsort(places, kind="stable")
    steps = least * np.arange(len(order))
    moved = np.empty(len(order))
    moved[order] = isotonic_regression(np.asarray(places)[order] - steps).x + steps
    return [float(place) for place in moved]

"""Pictures of accuracies and areas with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from eearth.pictures import CURVES, PLAIN, legible, wrapped, write_png

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from eearth.accuracy.intervals import Interval
    from eearth.accuracy.map_sample import MapAccuracy

MARKERS = "osD^"
# Measures of one class stand this far apart, in classes.
APART = 0.18
CLASS_HEIGHT = 0.42  # inches


def draw_accuracies(
    path: Path, names: Sequence[str], measures: Mapping[str, Sequence[Interval]], overall: Interval, note: str
) -> None:
    """Draw the measures of each class, in percent, with their 95 % intervals; overall accuracy is a line across.

    Args:
        path: The PNG file to write.
        names: The classes, from top to bottom.
        measures: Label → the measure of each class; one without a value is left out.
        overall: Overall accuracy.
        note: One line above the picture.
    """
    figure = Figure(figsize=(7.6, 1.7 + CLASS_HEIGHT * max(len(names), 2)), layout="constrained")
    axes = figure.add_subplot()
    for number, (label, found) in enumerate(measures.items()):
        shift = APART * (number - (len(measures) - 1) / 2)
        _draw_points(axes, [each.times(100) for each in found], shift, number, label)
    text = f"overall accuracy {_shown(overall.times(100))}"
    axes.axvline(100 * overall.estimate, color="#777777", linewidth=1, linestyle="--", label=text, zorder=0)
    _finish(axes, names, note)
    axes.set_xlim(-1, 101)
    axes.set_xlabel("percent; bars: 95 % interval")
    write_png(figure, path)


def draw_areas(path: Path, found: MapAccuracy) -> None:
    """Draw the area of each class as estimated, with its 95 % interval, beside the area as mapped."""
    total = float(found.sample.areas.sum())
    figure = Figure(figsize=(7.6, 1.7 + CLASS_HEIGHT * max(len(found.classes), 2)), layout="constrained")
    axes = figure.add_subplot()
    mapped = [entry.area_km2 for entry in found.classes]
    axes.barh(range(len(mapped)), mapped, height=0.55, color="#c9d4da", label="as mapped (pixels counted)")
    areas = [share.times(total) for share in found.accuracy.area_shares]
    _draw_points(axes, areas, 0.0, 1, "as estimated from the sample")
    _finish(axes, legible({entry.code: entry.name for entry in found.classes}), "Area of each class")
    axes.set_xlim(left=0)
    axes.set_xlabel("km²; bars: 95 % interval")
    write_png(figure, path)


def _draw_points(axes: Axes, found: Sequence[Interval], shift: float, number: int, label: str) -> None:
    """One measure of all classes."""
    places = np.arange(len(found)) + shift
    estimates = np.array([each.estimate for each in found])
    below = estimates - np.array([each.low for each in found])
    above = np.array([each.high for each in found]) - estimates
    axes.errorbar(
        estimates,
        places,
        xerr=np.nan_to_num(np.stack([below, above]).clip(min=0)),
        color=CURVES[number % len(CURVES)],
        marker=MARKERS[number % len(MARKERS)],
        linestyle="none",
        markersize=5,
        elinewidth=1.2,
        capsize=3,
        label=label,
    )


def _finish(axes: Axes, names: Sequence[str], note: str) -> None:
    axes.set_yticks(range(len(names)), [wrapped(name) for name in names], fontsize=8, **PLAIN)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title(note, fontsize=9, loc="left", color="#555555")
    axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.get_figure(root=True).legend(loc="outside lower center", frameon=False, fontsize=8, ncols=3)  # type: ignore[union-attr]


def _shown(found: Interval) -> str:
    if np.isnan(found.low):
        return f"{found.estimate:.1f} %"
    return f"{found.estimate:.1f} % ({found.low:.1f} to {found.high:.1f})"

"""Pictures for reports: PNG files that are the same, byte for byte, whenever the figures are the same."""

from __future__ import annotations

import textwrap
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.image import imsave

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

DPI = 120
# A dollar sign in a class name is a dollar sign, not mathematics.
PLAIN = {"parse_math": False}
# Okabe & Ito (2008): the curves stay apart for colour-blind readers; in black and white the line styles do it.
CURVES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLES = ("-", "--", "-.", ":")
# With more points than this a marker at each would hide the line.
MARKED_POINTS = 40
MOST_WRITTEN = 40  # classes above which figures in the cells would make the picture too large to open


def write_png(figure: Figure, path: Path) -> None:
    """Write a PNG without a date or a version in it."""
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # see `legible`
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def legible(names: Mapping[int, str]) -> list[str]:
    """Class names by code, and the code alone where the font lacks a letter of the name and would draw a box.

    matplotlib's own font, which is the same everywhere, has the Latin, Greek, Cyrillic, Arabic and Hebrew letters and
    many signs; Chinese, Japanese, Korean, the scripts of India and pictographs it lacks. The tables beside each picture
    and the report have every name in its letters.
    """
    known = _letters()
    return [
        name if all(ord(letter) in known for letter in name if not letter.isspace()) else f"class {code}"
        for code, name in names.items()
    ]


@cache
def _letters() -> frozenset[int]:
    """What the font has."""
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _short(count: int) -> str:
    """At most five characters: 950, 12.3k, 4.5M."""
    value, unit = float(count), 0
    while value >= 999.5:  # noqa: PLR2004 - what would be written as 1000
        value, unit = value / 1000, unit + 1
    return str(count) if unit == 0 else f"{value:.3g}" + " kMGTPE"[unit]


def _write_cells(axes: Axes, counts: NDArray[np.int64], share: NDArray[np.float64], size: float) -> None:
    """Write percentage and count into each cell that counts anything."""
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if share[row, column] > 0.55 else "black"  # noqa: PLR2004 - where the blue turns dark
            label = f"{100 * share[row, column]:.0f}%\n{_short(int(count))}"
            axes.text(column, row, label, ha="center", va="center", color=colour, fontsize=size, linespacing=1.1)


def draw_confusion(
    path: Path,
    confusion: ArrayLike,
    names: Sequence[str],
    *,
    counted: str = "pixels",
    proportions: ArrayLike | None = None,
) -> None:
    """Draw a confusion matrix: colour and percentage = share of the reference class (row), below it the count.

    Of more than 40 classes only the colours are drawn.

    Args:
        path: The PNG file to write.
        confusion: Counts, row = reference: (K, K), or (K, K + 1) with "no data in the map" last; that column is left
            out where it is empty.
        names: The K class names, in the order of the rows.
        counted: What the counts are of.
        proportions: Shares of the map's area in the cells, for a sample whose counts are no measure of them; None = the
            percentages are those of the counts.

    Raises:
        ValueError: The matrix does not fit the names.
    """
    counts, classes = np.asarray(confusion, dtype=np.int64), len(names)
    if counts.ndim != 2 or counts.shape[0] != classes or counts.shape[1] not in (classes, classes + 1):  # noqa: PLR2004
        msg = f"expected a confusion matrix of {classes} classes, found the shape {counts.shape}"
        raise ValueError(msg)
    columns = list(names)
    if counts.shape[1] > classes:
        counts, columns = (counts, [*columns, "(no data)"]) if counts[:, -1].any() else (counts[:, :-1], columns)
    totals = counts.sum(axis=1, keepdims=True)
    weights = counts if proportions is None else np.asarray(proportions, dtype=np.float64)
    whole = weights.sum(axis=1, keepdims=True)
    share = np.divide(weights, whole, out=np.zeros(counts.shape), where=whole > 0)
    written = classes <= MOST_WRITTEN
    side = max((0.62 if written else 0.2) * len(columns), 2.6)
    figure = Figure(figsize=(side + 1.8, side * classes / len(columns) + 2.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if written:
        _write_cells(axes, counts, share, size=7.5)
    rows = [f"{wrapped(name)}\n({_short(int(total))})" for name, total in zip(names, totals[:, 0], strict=True)]
    axes.set_yticks(range(classes), rows, fontsize=8, **PLAIN)
    axes.set_xticks(range(len(columns)), [wrapped(name) for name in columns], fontsize=8, **PLAIN)
    axes.tick_params(axis="x", rotation=90 if len(columns) > 3 else 0)  # noqa: PLR2004 - more than that collide
    axes.set(xlabel="mapped class", ylabel=f"reference class ({counted})")
    write_png(figure, path)


def wrapped(name: str) -> str:
    """The name on at most two lines of 18 characters."""
    return "\n".join(textwrap.wrap(name, width=18, max_lines=2, placeholder="…")) or name


def _number(value: Any) -> float:
    """A figure of a row; NaN for what is missing (None or an empty cell of a CSV file)."""
    return float("nan") if value is None or value == "" else float(value)


def _draw_curve(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], number: int, label: str) -> None:
    """Draw the points that have a value, joined across those that have none."""
    there = np.isfinite(x) & np.isfinite(y)
    (line,) = axes.plot(x[there], y[there], label=label, linewidth=1.6, markersize=3.5)
    line.set(color=CURVES[number % len(CURVES)], linestyle=STYLES[number % len(STYLES)])
    line.set_marker("o" if there.sum() <= MARKED_POINTS else "")


def draw_history(
    path: Path, rows: Sequence[Mapping[str, Any]], panels: Mapping[str, Sequence[str]], *, x: str = "step"
) -> None:
    """Draw how figures changed during training, one panel below the other over a common axis.

    Args:
        path: The PNG file to write.
        rows: One mapping for each step or epoch; a missing key, None, "" and NaN are gaps. Numbers may be text.
        panels: Label of a panel's axis → the keys drawn in it. Panels none of whose keys has a value are left out.
        x: The key of the common axis.
    """
    steps = np.array([_number(row.get(x)) for row in rows], dtype=float)
    curves = {key: np.array([_number(row.get(key)) for row in rows]) for keys in panels.values() for key in keys}
    drawn = {key for key, y in curves.items() if np.isfinite(y).any()}
    shown = {label: [key for key in keys if key in drawn] for label, keys in panels.items() if drawn & set(keys)}
    figure = Figure(figsize=(7.2, 1.2 + 2.4 * max(1, len(shown))), layout="constrained")
    stack = figure.subplots(max(1, len(shown)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, keys) in zip(stack, shown.items(), strict=False):
        for number, key in enumerate(keys):
            _draw_curve(axes, steps, curves[key], number, key.replace("_", " "))
        axes.set_ylabel(label)
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(keys) > 1:
            axes.legend(frameon=False, fontsize=8)
    stack[-1].set_xlabel(x.replace("_", " "))
    write_png(figure, path)


def draw_reliability(path: Path, curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draw how often pixels are right by how sure the model was of them, and how many pixels that are.

    Args:
        path: The PNG file to write.
        curves: Label → bins with `confidence`, `accuracy` and `pixels`; those of a bin without pixels are None.
    """
    figure = Figure(figsize=(5.2, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    for number, (label, bins) in enumerate(curves.items()):
        confidence, accuracy = (np.array([_number(each[key]) for each in bins]) for key in ("confidence", "accuracy"))
        _draw_curve(upper, confidence, accuracy, number, label)
        there = np.isfinite(confidence)
        pixels = np.array([each["pixels"] for each in bins], float)
        lower.vlines(confidence[there], 0.8, pixels[there], color=CURVES[number], linewidth=4 - 2 * number)
    upper.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    lower.set(ylabel="pixels", xlabel="confidence", yscale="log")
    for axes in (upper, lower):
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    upper.legend(frameon=False, fontsize=8)
    write_png(figure, path)


def draw_directions(path: Path, strength: NDArray[np.float64], shared: NDArray[np.float64]) -> None:
    """Draw how strong the learnt directions are, and how far neighbours agree in each.

    Args:
        path: The PNG file to write.
        strength: (feature,) standard deviation of each, the strongest first.
        shared: (feature,) correlation between neighbouring pixels.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    number = np.arange(1, len(strength) + 1)
    upper.bar(number, strength, color=CURVES[0])
    upper.set_ylabel("standard deviation")
    lower.bar(number, shared, color=CURVES[1])
    lower.set_ylabel("correlation of neighbours")
    lower.set_xlabel("feature")
    for axes in (upper, lower):
        axes.grid(visible=True, axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    write_png(figure, path)


def draw_picture(path: Path, colours: NDArray[np.uint8], least_side: int = 512) -> None:
    """Write pixels as they are, a small picture with each pixel enlarged.

    Args:
        path: The PNG file to write.
        colours: (y, x, 3).
        least_side: The longer side has at least half as many pixels.
    """
    times = max(1, least_side // max(colours.shape[:2]))
    enlarged = colours.repeat(times, axis=0).repeat(times, axis=1)
    imsave(path, enlarged, format="png", metadata={"Software": None})  # type: ignore[dict-item]

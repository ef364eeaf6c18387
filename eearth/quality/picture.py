"""The picture of the labels: what they say, what they serve, and which of them are worth a look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from eearth.geo.colours import class_colours
from eearth.geo.splits.blocks import BUFFER, NAMES
from eearth.pictures import PLAIN, legible, wrapped, write_png

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from eearth.geo.labels.legend import LandCoverClass
    from eearth.quality.summary import Labelling, Quality

LONGEST_SIDE = 900  # pixels shown
NAMED = 20  # suspects with their number
NO_LABEL = "#f2f2f2"
DROPPED = "#b0b0b0"
LONGEST_LEGEND = 16  # classes to a column


def draw_labels(path: Path, made: Labelling, quality: Quality) -> None:
    """Draw the classes beside the parts, with a ring around each suspect.

    Args:
        path: The PNG file to write.
        made: The labels.
        quality: What there is to say of them.
    """
    step = -(-max(made.labels.shape) // LONGEST_SIDE)
    thin = slice(None, None, step)
    height, width = made.labels.shape
    side = 4.2 * np.clip(np.array([height, width]) / max(height, width), 0.35, 1)
    figure = Figure(figsize=(2 * side[1] + 3.4, max(side[0], 2.2) + 0.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = {entry.code: entry.colour for entry in made.classes}
    of_parts = part_colours(made.classes)
    _paint(left, made.labels[thin, thin], colours, (height, width), "classes")
    _paint(right, made.split.part[thin, thin], of_parts, (height, width), "parts")
    for axes in (left, right):
        _ring(axes, made, quality)
    names = legible({entry.code: entry.name for entry in made.classes})
    classes = [Patch(color=entry.colour, label=wrapped(name)) for entry, name in zip(made.classes, names, strict=True)]
    parts = [Patch(color=of_parts[code], label=name) for code, name in {**NAMES, BUFFER: "dropped (buffer)"}.items()]
    rings = [Line2D([], [], marker="o", mfc="none", mec="black", ls="", label="worth a look")]
    legend = figure.legend(
        handles=[*classes, Patch(color="none", label=""), *parts, *(rings if quality.suspects else [])],
        loc="outside right upper",
        fontsize=7.5,
        frameon=False,
        ncols=-(-len(classes) // LONGEST_LEGEND),
    )
    for text in legend.get_texts():
        text.set(**PLAIN)
    write_png(figure, path)


def part_colours(classes: Sequence[LandCoverClass]) -> dict[int, str]:
    """A colour for each part that is none of the classes'; grey for what serves nothing."""
    given = {entry.name: entry.colour for entry in classes}
    parts = {code: f"part {name}" for code, name in NAMES.items()}
    chosen = class_colours([*given, *parts.values()], given)[len(given) :]
    return dict(zip(parts, chosen, strict=True)) | {BUFFER: DROPPED}


def _paint(
    axes: Axes, values: NDArray[np.uint8], colours: Mapping[int, str], shape: tuple[int, int], title: str
) -> None:
    """Show codes in their colours."""
    table = np.tile(np.array(to_rgb(NO_LABEL)), (256, 1))
    for code, colour in colours.items():
        table[code] = to_rgb(colour)
    axes.imshow(table[values], extent=(0, shape[1], shape[0], 0), interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _ring(axes: Axes, made: Labelling, quality: Quality) -> None:
    """Mark the suspects where they lie, the clearest with their number."""
    for place, suspect in enumerate(quality.suspects):
        number = suspect["feature"]
        column, row = made.footprints.column[number] + 0.5, made.footprints.row[number] + 0.5
        axes.plot(column, row, marker="o", markersize=8, mfc="none", mec="black", mew=1.1)
        if place < NAMED:
            axes.annotate(str(number), (column, row), xytext=(5, 3), textcoords="offset points", fontsize=6.5)

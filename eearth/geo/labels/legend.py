"""The legend: classes with their codes, names and colours, and the file that keeps them."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from eearth.errors import WorkspaceError
from eearth.geo.colours import class_colours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eearth.errors import EearthError

MAX_CODE = 255  # the largest code of a uint8 raster


@dataclass(frozen=True)
class LandCoverClass:
    """One entry of the legend.

    Attributes:
        code: Value in the rasters, 1..255.
        name: The name as in the label file, white space tidied.
        colour: "#rrggbb", lower case.
        pixels: Labelled pixels on the grid.
        polygons: Label geometries (polygons or points) that meet the grid's rectangle.
    """

    code: int
    name: str
    colour: str
    pixels: int
    polygons: int


def classes_on(
    codes: NDArray[np.uint8],
    names: Mapping[int, str],
    colours: Mapping[str, str] | None,
    features: Sequence[int] | NDArray[np.int64],
) -> tuple[LandCoverClass, ...]:
    """The legend of labels on a grid.

    Args:
        codes: Class codes, (y, x), 0 = no label.
        names: Code → name, in the order of the legend; also of classes without a pixel.
        colours: Name → "#rrggbb", for those that have one already.
        features: (256,) label geometries of each code.
    """
    pixels = np.sum([np.bincount(row, minlength=MAX_CODE + 1) for row in codes], axis=0)
    shown = class_colours(list(names.values()), colours or {})
    return tuple(
        LandCoverClass(code, name, colour, int(pixels[code]), int(features[code]))
        for (code, name), colour in zip(names.items(), shown, strict=True)
    )


def write_classes(path: Path, classes: Sequence[LandCoverClass]) -> None:
    """Write the legend as JSON: a list of {code, name, colour, pixels, polygons}."""
    text = json.dumps([asdict(entry) for entry in classes], indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_classes(path: Path) -> tuple[LandCoverClass, ...]:
    """Read what `write_classes` wrote.

    Raises:
        WorkspaceError: The file is missing or is no legend.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        classes = tuple(LandCoverClass(**entry) for entry in entries)
    except (OSError, ValueError, TypeError) as error:
        msg = f"expected a list of classes in {path}, found {error}: run `eearth rasterize` again"
        raise WorkspaceError(msg) from error
    fault = _fault(classes)
    if fault:
        msg = f"expected a list of classes in {path}, found {fault}: run `eearth rasterize` again"
        raise WorkspaceError(msg)
    return classes


def _fault(classes: Sequence[LandCoverClass]) -> str | None:
    """What is wrong with a legend read from a file; None where nothing is."""
    for entry in classes:
        numbers = (entry.code, entry.pixels, entry.polygons)
        if not all(type(number) is int and number >= 0 for number in numbers) or not 1 <= entry.code <= MAX_CODE:
            return f"the code {entry.code!r} with {entry.pixels!r} pixels and {entry.polygons!r} polygons"
        if not isinstance(entry.name, str) or not entry.name:
            return f"the name {entry.name!r}"
        if not isinstance(entry.colour, str) or not re.fullmatch(r"#[0-9a-f]{6}", entry.colour):
            return f"the colour {entry.colour!r}"
    for what, values in (("code", [e.code for e in classes]), ("name", [e.name for e in classes])):
        if len(set(values)) != len(values):
            return f"a {what} twice"
    return None if classes else "no class"


def code_named(text: str, legend: Mapping[int, str], error: type[EearthError]) -> int | None:
    """The code of a class that a user wrote: by its name, else by its code; None if it is neither.

    White space does not matter, nor do upper and lower case where names differ otherwise; a code may be written as a
    spreadsheet writes a column of decimals, 1.0.

    Args:
        text: What was written.
        legend: Code → name of every class.
        error: What to raise.

    Raises:
        EearthError: It is the name of one class and the code of another: either could be meant.
    """
    tidy, names = " ".join(text.split()), {code: " ".join(name.split()) for code, name in legend.items()}
    named = [code for code, name in names.items() if name == tidy]
    named = named or [code for code, name in names.items() if name.casefold() == tidy.casefold()]
    digits = re.sub(r"(?<=\d)\.0*$", "", tidy)
    coded = next((code for code in legend if str(code) == digits), None)
    if len(named) != 1:
        return coded
    if coded not in (None, named[0]):
        msg = (
            f"expected a class by its name or its code, found {tidy!r}, the name of class {named[0]} and the code of "
            f"{names[coded]}: give the classes names that are no codes"
        )
        raise error(msg)
    return named[0]

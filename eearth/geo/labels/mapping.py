"""A legend of the user's, or of a known product: which values of a label file mean which class."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eearth.errors import LabelError
from eearth.events import Note, Report
from eearth.geo.labels.legend import MAX_CODE
from eearth.geo.labels.naming import in_order, listed, tidy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Legends of products that people use as ground truth, or whose classes they map: `legends/<name>.toml`.
BUILT_IN = ("worldcover", "corine", "corine-2", "corine-1", "dynamic-world")
HOW = "the page `Ground truth files` of the documentation shows how to write one"
ENTRY_KEYS = ("name", "code", "colour", "color", "values", "raster_values")
TOP_KEYS = ("class", "skip", "title", "source")


@dataclass
class Target:
    """One class of a legend, as far as it is known: its name, its code and its colour."""

    name: str
    code: int | None = None
    colour: str | None = None
    values: list[str] = field(default_factory=list)
    raster_values: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Legend:
    """Which values mean which class.

    Attributes:
        source: The file, or the name of a built-in legend.
        codes: Class name → code 1..255, for all of the legend's classes.
        colours: Class name → "#rrggbb", for those with one.
        values: A label file's value → class name; None = to be left out.
        raster_values: The same for the product's own rasters, where those count otherwise; empty elsewhere.
    """

    source: str
    codes: Mapping[str, int]
    colours: Mapping[str, str]
    values: Mapping[str, str | None]
    raster_values: Mapping[str, str | None]

    def meanings(self, values: Sequence[str], *, raster: bool = False) -> dict[str, str | None]:
        """Value → class name, None = to be left out; a value that the legend does not know is missing.

        Upper and lower case count only where two values of the legend differ by nothing else. A legend with values of
        its own for rasters can be read in two ways, and no value that comes or goes changes the meaning of the others:

        * On a raster the way counts that knows the more values. Where that leaves both, and they differ, none does.
        * Elsewhere `values` count. Those of rasters do only if they know more and contradict none of them.

        Raises:
            LabelError: A raster's values mean one thing in one way, and another in the other.
        """
        own = _looked_up(values, self.values)
        other = _looked_up(values, self.raster_values)
        contrary = [value for value in own if value in other and own[value] != other[value]]
        if not raster:
            return other if own.keys() < other.keys() and not contrary else own
        if own.keys() < other.keys() or own.keys() > other.keys():
            return max(own, other, key=len)
        if contrary:
            raise LabelError(self._two_ways(contrary, own, other))
        return other or own

    def _two_ways(self, contrary: Sequence[str], own: Mapping[str, str | None], other: Mapping[str, str | None]) -> str:
        """What to say of a raster whose values have two meanings."""
        first = contrary[0]
        return (
            f"expected values with one meaning in the legend {self.source}, found {listed(contrary)}, which have "
            f"another in rasters than in vector files (`{first}` is `{other[first]}` or `{own[first]}`), and nothing "
            "else that tells which is meant: give a --legend of your own, a CSV file that says it of each value"
        )


def _looked_up(values: Iterable[str], table: Mapping[str, str | None]) -> dict[str, str | None]:
    folded: dict[str, str] = {}
    for known in table:
        folded[known.casefold()] = "" if known.casefold() in folded else known
    exact = {value: value if value in table else folded.get(value.casefold(), "") for value in values}
    return {value: table[known] for value, known in exact.items() if known in table}


@dataclass(frozen=True)
class Subject:
    """What a legend is applied to: the file, the unit of its counts, and how strictly."""

    source: str
    unit: str
    skip_unmapped: bool
    raster: bool = False


def agreed(legend: Legend, counts: Mapping[str, int], subject: Subject, report: Report) -> dict[str, str | None]:
    """What a legend calls each value of a file; None for those that are left out.

    Args:
        legend: The legend.
        counts: Value → how often it occurs.
        subject: Where it occurs.
        report: Hears what is left out.

    Raises:
        LabelError: The legend does not know all values, or leaves all of them out.
    """
    meanings = legend.meanings(list(counts), raster=subject.raster)
    unmapped = [value for value in counts if value not in meanings]
    if unmapped and not subject.skip_unmapped:
        msg = (
            f"expected each class of {subject.source} in the legend {legend.source}, found {len(unmapped)} that it "
            f"does not have: {listed(unmapped)}: add them (one without a name is left out), or run again with "
            "--skip-unmapped"
        )
        raise LabelError(msg)
    out = [value for value in counts if meanings.get(value) is None]
    if out and len(out) == len(counts):
        msg = f"expected classes of the legend {legend.source} in {subject.source}, found only {listed(out)}"
        raise LabelError(msg + ", which it leaves out")
    if out:
        number = sum(counts[value] for value in out)
        text = f"{number} {subject.unit} of {subject.source} are left out as the legend {legend.source} says: "
        report(Note(text=text + listed(out)))
    return {value: meanings.get(value) for value in counts}


def read_legend(text: str) -> Legend:
    """A built-in legend by its name, or a CSV or TOML file.

    Raises:
        LabelError: There is no such legend, or the file cannot be used.
    """
    if text in BUILT_IN:
        content = files("eearth.geo.labels").joinpath("legends", f"{text}.toml").read_text(encoding="utf-8")
        return _legend(*_from_toml(content, text), text)
    path = Path(text)
    if not path.is_file():
        msg = f"expected a legend: a CSV or TOML file, or one of {', '.join(BUILT_IN)}, found no file at {text}"
        raise LabelError(msg)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"expected a legend in UTF-8, found other bytes in {path}: save it as UTF-8"
        raise LabelError(msg) from error
    return _legend(*(_from_toml if path.suffix.lower() == ".toml" else _from_csv)(content, text), text)


def _fault(source: str, expected: str, found: str) -> LabelError:
    return LabelError(f"expected {expected} in the legend {source}, found {found}: {HOW}")


def _from_toml(content: str, source: str) -> tuple[list[Target], list[str]]:
    """The classes and the values to leave out."""
    try:
        tables = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise _fault(source, "TOML", str(error)) from error
    entries = tables.get("class")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _fault(source, "tables [[class]]", "none")
    unknown = [key for key in tables if key not in TOP_KEYS]
    unknown += [key for entry in entries for key in entry if key not in ENTRY_KEYS]
    if unknown:
        raise _fault(source, f"[[class]] with {', '.join(ENTRY_KEYS)}, and skip", listed(dict.fromkeys(unknown)))
    return [_entry(entry, source) for entry in entries], _texts(tables.get("skip", []), "skip", source)


def _entry(entry: dict[str, Any], source: str) -> Target:
    name = tidy(str(entry.get("name", "")))
    code, colour = entry.get("code"), entry.get("colour", entry.get("color"))
    default = [] if code is None else [str(code)]
    return Target(
        _named(name, source),
        None if code is None else _code(code, source),
        None if colour is None else _colour(colour, source),
        _texts(entry.get("values", default), "values", source),
        _texts(entry.get("raster_values", []), "raster_values", source),
    )


def _texts(values: Any, key: str, source: str) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str | int) for value in values):
        raise _fault(source, f"a list of texts or whole numbers as {key}", repr(values))
    return [tidy(str(value)) for value in values]


def _from_csv(content: str, source: str) -> tuple[list[Target], list[str]]:
    """The classes and the values to leave out: those with an empty name."""
    lines = content.splitlines()
    header = next((line for line in lines if line.strip()), "")
    separator = max(",;\t", key=header.count)
    rows = list(csv.reader(lines, delimiter=separator))
    columns = [cell.strip().casefold().replace("color", "colour") for cell in next(filter(any, rows), [])]
    if not {"value", "name"} <= set(columns) <= {"value", "name", "code", "colour"}:
        raise _fault(source, "the columns value, name and, if wanted, code and colour", listed(columns) or "nothing")
    targets: dict[str, Target] = {}
    skip = []
    for cells in rows[1:]:
        row = dict(zip(columns, (tidy(cell) for cell in cells), strict=False))
        if row.get("value") and row.get("name"):
            _join(targets, row, source)
        elif row.get("value"):
            skip.append(row["value"])
        elif any(row.values()):
            raise _fault(source, "a value in each line", f"none before `{' '.join(row.values()).strip()}`")
    return list(targets.values()), skip


def _join(targets: dict[str, Target], row: Mapping[str, str], source: str) -> None:
    """Add a line of a CSV to its class."""
    target = targets.setdefault(row["name"], Target(_named(row["name"], source)))
    target.values.append(row["value"])
    for key, read in (("code", _code), ("colour", _colour)):
        said = read(row[key], source) if row.get(key) else None
        if said is not None and getattr(target, key) not in (None, said):
            raise _fault(source, f"one {key} for `{target.name}`", f"{getattr(target, key)} and {said}")
        if said is not None:
            setattr(target, key, said)


def _named(name: str, source: str) -> str:
    if not name:
        raise _fault(source, "a name for each class", "one without")
    return name


def _code(code: Any, source: str) -> int:
    text = str(code)
    if isinstance(code, bool) or not re.fullmatch(r"\d{1,3}", text, re.ASCII) or not 1 <= int(text) <= MAX_CODE:
        raise _fault(source, f"codes from 1 to {MAX_CODE}", f"`{text}`")
    return int(text)


def _colour(colour: Any, source: str) -> str:
    if not isinstance(colour, str) or not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        raise _fault(source, "colours such as #1f77b4", f"`{colour}`")
    return colour.lower()


def _legend(targets: list[Target], skip: list[str], source: str) -> Legend:
    """Check what a file said, and number the classes that it does not number."""
    for what, given in (("name", [t.name for t in targets]), ("code", [str(t.code) for t in targets if t.code])):
        twice = next((value for value in given if given.count(value) > 1), None)
        if twice:
            raise _fault(source, f"each {what} for one class", f"`{twice}` for several")
    if not 0 < len(targets) <= MAX_CODE:
        raise _fault(source, f"1 to {MAX_CODE} classes", str(len(targets)))
    codes = {target.name: target.code for target in targets if target.code}
    free = (code for code in range(1, MAX_CODE + 1) if code not in set(codes.values()))
    codes |= {name: next(free) for name in in_order(target.name for target in targets) if name not in codes}
    raster_values = {target.name: target.raster_values for target in targets}
    return Legend(
        source,
        dict(sorted(codes.items(), key=lambda pair: pair[1])),
        {target.name: target.colour for target in targets if target.colour},
        _table({target.name: target.values for target in targets}, skip, source),
        _table(raster_values, skip, source) if any(raster_values.values()) else {},
    )


def _table(values: Mapping[str, list[str]], skip: list[str], source: str) -> dict[str, str | None]:
    """Value → class; a class's own name means the class, unless something else is said of it."""
    table: dict[str, str | None] = {}
    for name, given in [*((name, given) for name, given in values.items()), (None, skip)]:
        for value in given:
            if table.get(value, name) != name or (value in table and table[value] != name):
                raise _fault(source, "one class for each value", f"`{value}` for several")
            table[value] = name
    return {**{name: name for name in values}, **table}

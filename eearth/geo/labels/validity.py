"""From when to when a label is true, against the time that the imagery shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from eearth.errors import LabelError
from eearth.events import Note, Report, Warned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# A label counts if it and the imagery share at least this part of the shorter of their two periods.
SHARED = 0.5
# Imagery of more than one and a half years shows more than one season of growth.
LONG_IMAGERY_DAYS = 548
# Numbers that are years, and numbers that are dates written as one (20190531).
YEARS, COMPACT = (1800, 2200), (18000101, 22001231)
# ISO 8601: a year, a month, a day, and a time of day, which does not count. Slashes are read, too, the year first.
DATE = re.compile(r"(\d{4})(?:[-/](\d{1,2})(?:[-/](\d{1,2})(?:[T ].*)?)?)?")
# Columns that most likely hold such dates, where nobody named any.
LIKELY = ("start", "end")


@dataclass(frozen=True)
class Validity:
    """Which columns say from when to when a label is true, and what time the imagery shows.

    Attributes:
        first: Day of the imagery's first acquisition.
        last: Day of its last one.
        start_column: Column with the first day of a label; None = true since ever.
        end_column: Column with its last day; None = true for ever.
    """

    first: np.datetime64
    last: np.datetime64
    start_column: str | None = None
    end_column: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read."""
        return tuple(dict.fromkeys(name for name in (self.start_column, self.end_column) if name))

    def likely(self, columns: Sequence[str]) -> list[str]:
        """Those of a file's columns that most likely hold such dates."""
        return [column for name in LIKELY for column in columns if column.casefold() == name][: len(LIKELY)]

    @property
    def period(self) -> tuple[float, float]:
        """(first day, the day after the last one) of the imagery, in days since 1970."""
        return _day(self.first), _day(self.last) + 1

    def shown(self) -> str:
        """The imagery's period in words."""
        return f"{self.first.astype('datetime64[D]')} to {self.last.astype('datetime64[D]')}"


def in_force(frame: pd.DataFrame, validity: Validity, path: Path, report: Report) -> NDArray[np.bool_]:
    """Which labels hold for the time that the imagery shows.

    A label counts if the time it shares with the imagery is at least half of the shorter of the two periods: it then
    covers most of the imagery (a forest, mapped for ten years) or lies mostly inside it (a crop's months, the day of a
    visit). The neighbouring crop year, which shares a few weeks at most, does not count.

    Args:
        frame: The features, with the columns of `validity`.
        validity: What to compare.
        path: The file, for messages.
        report: Hears how many labels are left out.

    Returns:
        (feature,) bool.

    Raises:
        LabelError: A column has something that is no date, a label ends before it starts, or none holds.
    """
    start, end = _periods(frame, validity, path)
    shared, holds = _shared(start, end, validity)
    if not holds.any():
        msg = (
            f"expected labels that hold for the imagery's dates ({validity.shown()}), found none among the "
            f"{len(frame)} of {path}, which span {_span(start, end)}: download that time, or give another file"
        )
        raise LabelError(msg)
    if not holds.all():
        report(
            Note(
                text=f"{int((~holds).sum())} of {len(frame)} features of {path} do not hold for the imagery's dates "
                f"({validity.shown()}) and are left out"
            )
        )
    first, last = validity.period
    short = int((holds & (shared < SHARED * (last - first))).sum())
    if short and last - first > LONG_IMAGERY_DAYS:
        report(
            Warned(
                text=f"{short} features of {path} hold for less than half of the imagery's dates ({validity.shown()}): "
                "they may be of another class in the other years; download the one season that they describe"
            )
        )
    return holds


def warn_of_unused_dates(frame: pd.DataFrame, validity: Validity, path: Path, report: Report) -> None:
    """Say so where columns called `start` and `end` contradict the imagery's dates, but nobody asked to heed them."""
    named = validity.likely([str(column) for column in frame.columns])
    if [name.casefold() for name in named] != list(LIKELY):
        return
    likely = Validity(validity.first, validity.last, *named)
    try:
        holds = _shared(*_periods(frame, likely, path), likely)[1]
    except LabelError:
        return
    if not holds.all():
        report(
            Warned(
                text=f"{int((~holds).sum())} of {len(frame)} features of {path} do not hold for the imagery's dates "
                f"({validity.shown()}), as its columns `{named[0]}` and `{named[1]}` say, but are used: run again with "
                f"--start-column {named[0]} --end-column {named[1]} to leave them out"
            )
        )


def _shared(
    start: NDArray[np.float64], end: NDArray[np.float64], validity: Validity
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(days that each label shares with the imagery, whether they are enough)."""
    first, last = validity.period
    shared = np.minimum(end, last) - np.maximum(start, first)
    return shared, shared >= SHARED * np.minimum(end - start, last - first)


def _periods(frame: pd.DataFrame, validity: Validity, path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(first day, day after the last one) of each label, in days since 1970; infinite where it is open."""
    start, end = np.full(len(frame), -np.inf), np.full(len(frame), np.inf)
    if validity.start_column:
        start = days(frame[validity.start_column], path, last=False)
    if validity.end_column:
        end = days(frame[validity.end_column], path, last=True)
    wrong = end <= start
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        msg = (
            f"expected labels of {path} to end after they start, found {int(wrong.sum())} that do not, such as "
            f"{_text(start[row])} to {_text(end[row] - 1)}: are --start-column and --end-column swapped?"
        )
        raise LabelError(msg)
    return start, end


def days(column: pd.Series[Any], path: Path, *, last: bool) -> NDArray[np.float64]:
    """A column of dates in days since 1970.

    Args:
        column: Dates, times, ISO 8601 text (a year or a month is enough), or numbers (2019 or 20190531).
        path: The file, for messages.
        last: The day after the last one that a value means (of 2019: 1 January 2020), instead of its first.

    Returns:
        (feature,) days; where there is no value infinite: for ever if `last`, since ever elsewhere.

    Raises:
        LabelError: A value that is no date.
    """
    there = column.notna() & (column.astype(str).str.strip() != "")
    result = np.full(len(column), np.inf if last else -np.inf)
    values = column[there]
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        moments = pd.to_datetime(values, utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[D]")
        result[there.to_numpy()] = moments.astype(float) + last
        return result
    known = {value: _limit(value, last=last) for value in values.unique()}
    unread = next((value for value, limit in known.items() if limit is None), None)
    if unread is not None:
        msg = (
            f"expected dates such as 2019-05-31, or years, in the column `{column.name}` of {path}, found `{unread}`: "
            "write them so, or name another column"
        )
        raise LabelError(msg)
    result[there.to_numpy()] = values.map(known).to_numpy(dtype=float)
    return result


def _limit(value: Any, *, last: bool) -> float | None:
    """First day, or the day after the last one, of a year, a month or a day; None where it is none of them."""
    text = str(value).strip()
    if isinstance(value, float) and value.is_integer():
        text = str(int(value))
    if re.fullmatch(r"\d{8}", text) and COMPACT[0] <= int(text) <= COMPACT[1]:
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    found = DATE.fullmatch(text)
    if not found or not YEARS[0] <= int(found[1]) <= YEARS[1]:
        return None
    date = "-".join(part.zfill(2) for part in found.groups() if part)
    try:
        moment = np.datetime64(date)  # of the unit that the text has: a year, a month or a day
    except ValueError:
        return None
    return _day(moment + 1 if last else moment)


def _day(moment: np.datetime64) -> float:
    return float(moment.astype("datetime64[D]").astype(np.int64))


def _text(day: float) -> str:
    return str(np.datetime64(int(day), "D")) if np.isfinite(day) else "ever"


def _span(start: NDArray[np.float64], end: NDArray[np.float64]) -> str:
    return f"{_text(float(start.min()))} to {_text(float(end.max()) - 1)}"

"""What is seen of a part of a region: the imagery around it, at hand or fetched, and what it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eearth.data.regions import series_of
from eearth.data.series import Series, months_of
from eearth.events import Report, silent
from eearth.geo.cube import Cube
from eearth.geo.grid import Grid, Window
from eearth.geo.imagery.stream import Stream
from eearth.geo.lattice import STEP, extent_of, phase_of

if TYPE_CHECKING:
    from eearth.data.scenery import Scenery

ACCOUNTS = "accounts.jsonl"


@dataclass(frozen=True)
class Account:
    """What imagery a part was made from.

    Attributes:
        items: Ids of its items, those of one acquisition separated by spaces.
        first: The earliest acquisition, UTC, ISO 8601 to the second; empty where there is none.
        last: The latest one.
        dropped: Item id of a scene that cannot be read → the reason.
        missing: Why there is no imagery.
        months: Months 1..12 in which there is an acquisition, rising.
        offsets: Item id of a scene that was fetched for the part → what was added to its numbers, and why.
        disputed: Ids of scenes to whose numbers another offset was added in other parts.
    """

    items: tuple[str, ...] = ()
    first: str = ""
    last: str = ""
    dropped: Mapping[str, str] | None = None
    missing: str = ""
    months: tuple[int, ...] = ()
    offsets: Mapping[str, tuple[float | None, str]] = field(default_factory=dict)
    disputed: tuple[str, ...] = ()

    @property
    def period(self) -> tuple[datetime, datetime]:
        """First and last acquisition, UTC without a zone; there must be one."""
        return datetime.fromisoformat(self.first), datetime.fromisoformat(self.last)

    @classmethod
    def of(cls, cube: Cube, dropped: Mapping[str, str] | None = None) -> Account:
        """That of a cube."""
        first, last = (str(np.datetime_as_string(time, unit="s")) for time in cube.times[[0, -1]])
        return cls(cube.items, first, last, dropped, months=months_of(cube.times))


@dataclass(frozen=True)
class Sight:
    """What is to be seen of a part.

    Attributes:
        series: Imagery of the part and of its surroundings; None where there is none.
        window: The part's pixels in the series.
        phase: See `extent_of`.
        account: What it was made from.
    """

    series: Series | None
    window: Window
    phase: tuple[int, int]
    account: Account


class Imagery(Protocol):
    """Imagery that is looked at part by part."""

    def look(self, name: str, part: Grid, reach: int) -> Sight:
        """See a part with what lies within `reach` pixels of it.

        Args:
            name: Names the part among those of the product.
            part: The part's grid, on the imagery's pixel lattice.
            reach: See above.

        Raises:
            SourceError: The provider cannot be reached.
        """

    def release(self, name: str) -> None:
        """The part is not needed any more."""

    def stop(self) -> None:
        """Nothing is needed any more: whatever another thread is waiting for ends with an error."""


class Held:
    """The imagery of a workspace."""

    def __init__(self, cube: Cube) -> None:
        """Nothing is read yet."""
        self._cube, self._series = cube, series_of(cube)

    @cached_property
    def _account(self) -> Account:
        return Account.of(self._cube)

    def look(self, name: str, part: Grid, reach: int) -> Sight:  # noqa: ARG002 - all of it is at hand
        """See `Imagery`."""
        offset = self._cube.grid.offset_of(part)
        assert offset is not None  # noqa: S101 - parts lie on the imagery's lattice
        return Sight(self._series, Window(*offset, part.height, part.width), phase_of(self._cube.grid), self._account)

    def release(self, name: str) -> None:
        """It stays."""

    def stop(self) -> None:
        """Nobody waits."""


class Streamed:
    """Imagery that is fetched for each part."""

    def __init__(self, stream: Stream) -> None:
        """Nothing is fetched yet."""
        self._stream = stream

    def look(self, name: str, part: Grid, reach: int) -> Sight:
        """See `Imagery`."""
        row, col, around = surroundings(part, reach)
        found = self._stream.fetch(name, around)
        series = series_of(found.cube) if found.cube else None
        without = Account(missing=found.missing, dropped=found.dropped)
        account = replace(Account.of(found.cube, found.dropped), offsets=found.offsets) if found.cube else without
        return Sight(series, Window(row, col, part.height, part.width), phase_of(around), account)

    def release(self, name: str) -> None:
        """Remove it."""
        self._stream.release(name)

    def stop(self) -> None:
        """See `Imagery`."""
        self._stream.stop()


def surroundings(part: Grid, reach: int) -> tuple[int, int, Grid]:
    """A part with all that its windows look at: (row, column) of the part in that, and its grid."""
    beside = -(-reach // STEP) * STEP + STEP
    shape = part.height + 2 * beside, part.width + 2 * beside
    extent = extent_of(shape, Window(beside, beside, part.height, part.width), reach, phase_of(part))
    row, col = beside - extent.row, beside - extent.col
    return row, col, part.crop(Window(-row, -col, extent.height, extent.width))


def open_imagery(scenery: Scenery, report: Report = silent) -> Imagery:
    """The imagery of a scenery, in this process.

    Args:
        scenery: Which it is.
        report: Receives warnings about scenes that cannot be read.
    """
    if scenery.held is not None:
        return Held(Cube.open(scenery.held))
    assert scenery.fetching is not None  # noqa: S101 - imagery that is not held is fetched
    return Streamed(Stream(scenery.fetching, report))


@dataclass(frozen=True)
class Accounts:
    """The accounts of a product's parts, kept as they are finished: an interrupted run's are not lost.

    Attributes:
        path: A file of one JSON object a line.
    """

    path: Path

    def add(self, name: str, account: Account) -> None:
        """Note a part; the last note of it counts."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"part": name, **asdict(account)}) + "\n")  # what a kill tore stays alone

    def total(self) -> Account:
        """What all parts together were made from, its items in order of their first date.

        `missing` says of how many there is no imagery, and why of the first.
        """
        latest = {entry["part"]: entry for entry in self._entries()}.values()
        dates = {ids: entry["first"] for entry in latest for ids in entry["items"]}
        dropped = {name: reason for entry in latest for name, reason in (entry["dropped"] or {}).items()}
        told = [(name, *found) for entry in latest for name, found in entry.get("offsets", {}).items()]
        offsets: dict[str, set[float | None]] = {}
        for name, offset, _ in told:
            offsets.setdefault(name, set()).add(offset)
        missing = [entry["missing"] for entry in latest if entry["missing"]]
        return Account(
            items=tuple(sorted(dates, key=lambda ids: (dates[ids], ids))),
            first=min((entry["first"] for entry in latest if entry["first"]), default=""),
            last=max((entry["last"] for entry in latest if entry["last"]), default=""),
            dropped=dropped,
            missing=f"{len(missing)} of {len(latest)} tiles have no imagery ({missing[0]})" if missing else "",
            months=tuple(sorted({month for entry in latest for month in entry.get("months", ())})),
            offsets={name: (offset, why) for name, offset, why in told},
            disputed=tuple(name for name, many in offsets.items() if len(many) > 1),
        )

    def _entries(self) -> Iterator[dict[str, Any]]:
        """Those that were written to their end."""
        if not self.path.is_file():
            return
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                with suppress(ValueError):
                    yield json.loads(line)

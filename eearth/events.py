"""What a stage tells its caller while it works.

A stage takes one `report` function and calls it with events; what is done with them (a progress bar, a log line,
nothing at all) is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Started:
    """A task of `total` units begins; `done` of them were finished by an earlier, interrupted run."""

    task: str
    total: int
    unit: str
    done: int = 0


@dataclass(frozen=True, kw_only=True)
class Advanced:
    """`steps` more units of `task` are done; `detail` is a short figure worth seeing, such as a loss."""

    task: str
    steps: int = 1
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """`task` is done."""

    task: str


@dataclass(frozen=True, kw_only=True)
class Note:
    """A fact worth a line: a choice that was made, a path that was written."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something the user should look at, although the work goes on."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows to look at side by side; every cell is already text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Event = Started | Advanced | Finished | Note | Warned | Table
Report = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Report nothing: the default for a plain Python call."""

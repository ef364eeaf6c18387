"""Events → what a person sees: bars on a terminal, plain lines elsewhere, and tables."""

from __future__ import annotations

import re
import shlex
import sys
import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from eearth.events import Advanced, Event, Finished, Note, Started, Table, Warned
from eearth.settings import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from rich.progress import Task

# Without a terminal, a line at most this often.
SECONDS_BETWEEN_LINES = 5.0


# `eearth STAGE ...`, as errors and notes name a command to run.
NAMED_COMMAND = re.compile(r"`eearth (\w+)([^`]*)`")

# A file or a pipe has no width: wide enough that a command in a table stays in one piece.
PLAIN_WIDTH = 200


class RateColumn(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """Two figures at most; nothing before the first unit."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} {task.fields['unit']}/s" if speed else "", style="progress.data.speed")


@dataclass
class _Pace:
    """One task of a run without a terminal."""

    started: Started
    done: int
    begun: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)

    def line(self, detail: str) -> str:
        elapsed = time.monotonic() - self.begun
        rate = (self.done - self.started.done) / max(elapsed, 1e-9)
        left = (self.started.total - self.done) / rate if rate else float("inf")
        return (
            f"{self.started.task}: {self.done}/{self.started.total} {self.started.unit}, "
            f"{rate:.3g}/s, {left:.0f} s left{'  ' + detail if detail else ''}"
        )


class Reporter:
    """Shows the events of one command; a context manager, so that the bars always end.

    Progress, notes and warnings go to the standard error; the standard output is for results.
    """

    def __init__(self, workspace: Path | None = None) -> None:
        """Bars if the standard error is a terminal, lines otherwise; commands in texts are for `workspace`."""
        self.workspace = workspace
        width = None if sys.stderr.isatty() else PLAIN_WIDTH
        self.console = Console(stderr=True, highlight=False, width=width)
        self._bars: Progress | None = None
        self._tasks: dict[str, int] = {}
        self._paces: dict[str, _Pace] = {}

    def __enter__(self) -> Self:
        """Start."""
        if self.console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<12}"),
                BarColumn(),
                MofNCompleteColumn(),
                RateColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[detail]}"),
                console=self.console,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state of the bars on the screen."""
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Advanced):
            self._advance(event)
        elif isinstance(event, Finished):
            self._finish(event.task)
        elif isinstance(event, Table):
            show_table(event, self.console)
        elif isinstance(event, Warned):
            text = escape(pasteable(event.text, self.workspace))
            self.console.print(f"[yellow]Warning:[/yellow] {text}", soft_wrap=True)
        elif isinstance(event, Note):
            self.console.print(escape(pasteable(event.text, self.workspace)), soft_wrap=True)

    def _start(self, event: Started) -> None:
        if self._bars is not None:
            self._tasks[event.task] = self._bars.add_task(
                event.task, total=event.total, completed=event.done, unit=event.unit, detail=""
            )
        else:
            self._paces[event.task] = _Pace(event, event.done)

    def _advance(self, event: Advanced) -> None:
        if self._bars is not None and event.task in self._tasks:
            bar = self._tasks[event.task]
            self._bars.advance(bar, event.steps)  # type: ignore[arg-type]
            if event.detail:
                self._bars.update(bar, detail=event.detail)  # type: ignore[arg-type]
        elif event.task in self._paces:
            pace = self._paces[event.task]
            pace.done += event.steps
            if time.monotonic() - pace.shown >= SECONDS_BETWEEN_LINES:
                pace.shown = time.monotonic()
                self.console.print(escape(pace.line(event.detail)), soft_wrap=True)

    def _finish(self, task: str) -> None:
        pace = self._paces.pop(task, None)
        if pace is not None:
            elapsed = time.monotonic() - pace.begun
            self.console.print(f"{task}: {pace.started.total} {pace.started.unit} in {elapsed:.1f} s", soft_wrap=True)


def pasteable(text: str, workspace: Path | None) -> str:
    """The text with the commands that it names as they can be run: with their argument, and for the same workspace."""

    def completed(found: re.Match[str]) -> str:
        stage, rest = found[1], found[2]
        if stage not in SETTINGS or "--help" in rest:
            return found[0]
        if not rest.strip() or rest.lstrip().startswith("-"):
            arguments = [item.name for item in fields(SETTINGS[stage]) if item.metadata.get("argument")]
            rest = "".join(f" {name.upper()}" for name in arguments) + rest
        if workspace is not None and not re.search(r" (-w|--workspace)\b", rest):
            rest += f" -w {shlex.quote(str(workspace))}"
        return f"`eearth {stage}{rest}`"

    return NAMED_COMMAND.sub(completed, text)


def show_table(table: Table, console: Console | None = None) -> None:
    """Print a table; to the standard output unless told otherwise."""
    shown = RichTable(title=escape(table.title) or None, title_justify="left")
    for number, column in enumerate(table.columns):
        shown.add_column(escape(column), justify="left" if number == 0 else "default", overflow="fold")
    for row in table.rows:
        shown.add_row(*(escape(cell) for cell in row))
    (console or Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)).print(shown)


def show_error(text: str, workspace: Path | None = None) -> None:
    """Print one line to the standard error; commands in it are for `workspace`."""
    sys.stdout.flush()
    shown = escape(pasteable(text, workspace))
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/bold red] {shown}", soft_wrap=True)

"""A training's history as a table, and as TensorBoard's files where that is installed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Log = Callable[[Mapping[str, float]], None]

# What a killed training loses of its log at most; the table beside it loses nothing.
FLUSH_SECONDS = 10


def write_history(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """One row for each step; a figure that a step does not have stays empty."""
    columns = list(dict.fromkeys(key for row in (*rows[-1:], *rows) for key in row))  # the last row has most figures
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def open_log(folder: Path | None, done: int) -> Iterator[Log]:
    """A function that logs one row of the history for TensorBoard; it does nothing where that is not installed.

    Args:
        folder: Where the files go; None for no log.
        done: Steps that an interrupted run has done: what it logged beyond them is left out of the curves.
    """
    if folder is None or find_spec("tensorboard") is None:
        yield _ignore
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder, purge_step=done + 1 if done else None, flush_secs=FLUSH_SECONDS) as writer:

        def log(row: Mapping[str, float]) -> None:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, int(row["step"]))

        yield log


def _ignore(_row: Mapping[str, float]) -> None:
    """There is nothing to log to."""

"""Finished runs on disk: each is there for good once it has ended."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from eearth.comparison.contenders import Outcome, Task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Ledger:
    """One line of JSON for each finished run.

    Args:
        path: The file; a line that a kill cut short is removed.
        earlier: Runs that are known from elsewhere.
    """

    def __init__(self, path: Path, earlier: Mapping[Task, Outcome] | None = None) -> None:
        """Read what is there."""
        self.path = path
        self.outcomes: dict[Task, Outcome] = dict(earlier or {})
        written = path.read_bytes() if path.is_file() else b""
        whole = written[: written.rfind(b"\n") + 1]
        if len(whole) < len(written):
            os.truncate(path, len(whole))
        for line in whole.splitlines():
            fields = json.loads(line)
            task = Task(**fields.pop("task"))
            self.outcomes[task] = Outcome(task=task, **fields)

    def add(self, outcome: Outcome) -> None:
        """Write a run to the disk."""
        with self.path.open("ab") as file:
            file.write(json.dumps(asdict(outcome)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.outcomes[outcome.task] = outcome

"""`eearth` as a process of its own that has its imports behind it: forked from one that did nothing else.

What a process sees of the command is what `python -m eearth` sees: its words, its two outputs, its exit status, signals
from outside. Only the seconds of importing torch, rasterio and matplotlib are spent once and not for each process.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

from eearth.cli import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_processes = multiprocessing.get_context("forkserver")
# Typer imports pydantic, where there is one, when it reads its first word.
_processes.set_forkserver_preload(["eearth.console", "eearth.geo.quicklook", "pydantic.type_adapter", *STAGES.values()])


def _main(words: list[str], prelude: str, folder: str, env: dict[str, str], cwd: str | None) -> None:
    """What the new process does: never returns."""
    os.setsid()
    os.chdir(cwd or os.curdir)
    for number, name in ((0, os.devnull), (1, f"{folder}/out"), (2, f"{folder}/err")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(env)
    warnings.simplefilter("error")
    exec(prelude, {})  # noqa: S102 - the test's own lines
    from eearth.cli import main

    sys.argv = ["eearth", *words]
    main()


class Running:
    """One command under way, in a session of its own; a context manager that waits for its end."""

    def __init__(
        self, *words: str | Path, prelude: str = "", env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start it; `prelude` is Python that runs before, and warnings are errors."""
        self.words = [*map(str, words)]
        self._folder = TemporaryDirectory(prefix="forked-")
        surroundings = dict(os.environ if env is None else env), str(cwd) if cwd else None
        given = (self.words, prelude, self._folder.name, *surroundings)
        self._process = _processes.Process(target=_main, args=given)
        self._process.start()
        self.pid: int = self._process.pid or 0

    def __enter__(self) -> Self:
        """The command, under way."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait; kill it first if the test failed."""
        if kind is not None:
            self._process.kill()
        self._process.join()
        self._process.close()
        self._folder.cleanup()

    def poll(self) -> int | None:
        """Its exit status (minus the signal's number), or None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """What it left when it ended.

        Raises:
            subprocess.TimeoutExpired: It did not end in time.
        """
        self._process.join(seconds)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.words, seconds)
        texts = [(Path(self._folder.name) / name).read_text(encoding="utf-8") for name in ("out", "err")]
        return subprocess.CompletedProcess(self.words, self.poll() or 0, *texts)


def eearth(
    *words: str | Path, prelude: str = "", env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    with Running(*words, prelude=prelude, env=env, cwd=cwd) as process:
        return process.wait()

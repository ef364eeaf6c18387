"""The folder that holds a project: one subfolder of artifacts for each finished stage.

A stage works in `<folder>.partial`, which an interrupted run leaves behind and the same command takes up again. Its
manifest is written last, then the partial folder takes the final name: the folder existing means that the stage
finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eearth.config import Settings
from eearth.errors import WorkspaceError
from eearth.manifest import (
    MANIFEST,
    TO_BE_FILLED,
    WRITING,
    Manifest,
    file_digest,
    folder_digest,
    output_digests,
    write_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Stage → the folder of its artifacts, in the order in which data flows.
FOLDERS = {
    "download": "imagery",
    "rasterize": "labels",
    "pretrain": "pretrain",
    "finetune": "finetune",
    "predict": "map",
    "sample": "sample",
    "assess": "assess",
    "report": "report",
    "embed": "embedding",
    "compare": "compare",
}

SHAPEFILE_SIDES = (".dbf", ".prj", ".shx", ".cpg")

PLAN = "plan.json"
SCRATCH = "scratch"
LOGS = "logs"


@dataclass(frozen=True)
class Input:
    """Something that a stage reads: a file of the user's, or an earlier stage.

    Attributes:
        digest: sha256 of the file, or the digest of the stage's manifest.
        path: Where the file lies; None for an earlier stage of the same workspace, or a part of its settings file.
    """

    digest: str
    path: Path | None = None


@dataclass
class Run:
    """One attempt at a stage.

    Attributes:
        folder: Where to write artifacts; becomes the stage's folder when the run is finished.
        scratch: Where to keep what a resumed run needs; gone when the run is finished.
        resumed: An interrupted run of the same settings and inputs left its work here.
        check_inputs: Raises a WorkspaceError if an earlier stage is no longer the one that this run reads.
        finished: The manifest, once the stage is done; on entry, if there is nothing to do.
    """

    folder: Path
    resumed: bool
    settings: Settings
    inputs: Mapping[str, Input]
    check_inputs: Callable[[], None]
    finished: Manifest | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def scratch(self) -> Path:
        """Created on first use."""
        path = self.folder / SCRATCH
        path.mkdir(exist_ok=True)
        return path

    def finish(
        self,
        *,
        seed: int | None = None,
        figures: Mapping[str, Any],
        records: Mapping[str, Any],
        timings: Mapping[str, Any] | None = None,
        to_be_filled: tuple[str, ...] = (),
    ) -> Manifest:
        """Digest the artifacts and write the manifest; the folder takes its final name when the run's block ends.

        Files `to_be_filled` are the user's from then on: what is written into them is no damage, so they have no
        digest; but they must be there.

        Until the manifest is written, an interruption loses nothing. Logs hold the time of day: they are no artifact.

        Raises:
            WorkspaceError: An earlier stage was made again while this one read it.
        """
        outputs = output_digests(self.folder, but=(PLAN, SCRATCH, LOGS, *to_be_filled))
        self.check_inputs()
        self.finished = Manifest(
            stage=self.settings.stage,
            eearth=version("eearth"),
            settings=self.settings.what(),
            how=self.settings.how(),
            origins=dict(self.settings.origins),
            inputs={name: given.digest for name, given in self.inputs.items()},
            paths={name: str(given.path) for name, given in self.inputs.items() if given.path},
            outputs=outputs,
            seed=seed,
            seconds=round(time.monotonic() - self.started, 2),
            timings=dict(timings or {}),
            figures=dict(figures),
            records=dict(records) | ({TO_BE_FILLED: list(to_be_filled)} if to_be_filled else {}),
        )
        self.finished.write(self.folder)
        return self.finished


class Workspace:
    """A project's folder.

    Args:
        root: The folder; created by the first stage that writes into it.
    """

    def __init__(self, root: Path | str = ".") -> None:
        """Take up a finished stage whose last rename an interruption prevented."""
        self.root = Path(root)
        for stage in FOLDERS:
            self._recover(stage)

    def folder(self, stage: str) -> Path:
        """Where the stage's artifacts are, once it is finished."""
        return self.root / FOLDERS[stage]

    def partial(self, stage: str) -> Path:
        """Where an unfinished run of the stage works."""
        return self.root / f"{FOLDERS[stage]}.partial"

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of a finished stage; None if it is not finished."""
        folder = self.folder(stage)
        return Manifest.read(folder) if folder.is_dir() else None

    def interrupted(self, stage: str) -> dict[str, Any] | None:
        """Settings and their origins of a run that was interrupted; None if there was none."""
        return _read_plan(self.partial(stage))

    def require(self, stage: str) -> Manifest:
        """The manifest of a stage that must be finished, with its artifacts in place.

        Raises:
            WorkspaceError: The stage is not finished, or an artifact is gone.
        """
        manifest = self.manifest(stage)
        if manifest is None:
            state = "was interrupted" if self.partial(stage).is_dir() else "is missing"
            msg = f"expected {self.folder(stage)}, which {state}: run `eearth {stage}` first"
            raise WorkspaceError(msg)
        gone = [name for name in manifest.files if not (self.folder(stage) / name).exists()]
        if gone:
            msg = f"expected {', '.join(gone)} in {self.folder(stage)}, found nothing: run `eearth {stage}` again"
            raise WorkspaceError(msg)
        return manifest

    def require_current(self, stage: str, *, made_from: str) -> Manifest:
        """The manifest of a finished stage that was made from the present artifacts of `made_from`.

        Raises:
            WorkspaceError: One of them is not finished, or `made_from` has changed since.
        """
        manifest, source = self.require(stage), self.require(made_from)
        if manifest.inputs.get(FOLDERS[made_from]) != source.digest:
            msg = (
                f"{self.folder(stage)} is stale: {FOLDERS[made_from]}/ has changed since it was made; "
                f"run `eearth {stage}` again"
            )
            raise WorkspaceError(msg)
        return manifest

    def changed_since(self, stage: str) -> list[str]:
        """Folders of earlier stages that were made again since a finished stage read them."""
        read = self.require(stage).inputs
        present = {folder: self.manifest(earlier) for earlier, folder in FOLDERS.items() if folder in read}
        return [folder for folder, manifest in present.items() if manifest and manifest.digest != read[folder]]

    def given(self, *stages: str) -> dict[str, Input]:
        """Finished stages as inputs of another one."""
        return {FOLDERS[stage]: Input(self.require(stage).digest) for stage in stages}

    @contextmanager
    def stage(self, settings: Settings, inputs: Mapping[str, Input], *, again: bool = False) -> Iterator[Run]:
        """Run a stage: resume, or start afresh, or find that there is nothing to do.

        Args:
            settings: The stage's resolved settings.
            inputs: Name → what the stage reads.
            again: Run even where the artifacts are up to date.

        Yields:
            The run. If `finished` is set, the artifacts are up to date.

        Raises:
            WorkspaceError: Another process is running the same stage here.
        """
        stage = settings.stage
        done = None if again else self._up_to_date(settings, inputs)
        if done is not None:
            yield Run(self.folder(stage), False, settings, inputs, _nothing_to_check, finished=done)
            return
        partial = self.partial(stage)
        partial.mkdir(parents=True, exist_ok=True)
        with _locked(partial):
            resumed = _prepare(partial, _fingerprint(settings, inputs), settings)
            run = Run(partial, resumed, settings, inputs, lambda: self._check_unchanged(inputs))
            try:
                yield run
            finally:
                if run.finished is None:  # once published, the name may already be another process's
                    _remove_if_untouched(partial)
            if run.finished is not None:
                self._publish(stage)

    def _up_to_date(self, settings: Settings, inputs: Mapping[str, Input]) -> Manifest | None:
        if not self.folder(settings.stage).is_dir():
            return None
        manifest = self.manifest(settings.stage)
        if manifest is None or any(not (self.folder(settings.stage) / name).exists() for name in manifest.files):
            return None
        same = manifest.settings == settings.what()
        return manifest if same and manifest.inputs == {n: given.digest for n, given in inputs.items()} else None

    def _check_unchanged(self, inputs: Mapping[str, Input]) -> None:
        folders = {folder: stage for stage, folder in FOLDERS.items()}
        for name, given in inputs.items():
            if given.path is None and name in folders and self.require(folders[name]).digest != given.digest:
                msg = f"{self.root / name} was made again while this ran: run the command again"
                raise WorkspaceError(msg)

    def _publish(self, stage: str) -> None:
        folder, replaced = self.folder(stage), self.root / f"{FOLDERS[stage]}.replaced"
        shutil.rmtree(self.partial(stage) / SCRATCH, ignore_errors=True)
        (self.partial(stage) / PLAN).unlink(missing_ok=True)
        shutil.rmtree(replaced, ignore_errors=True)
        if folder.exists():
            folder.rename(replaced)
        self.partial(stage).rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)

    def _recover(self, stage: str) -> None:
        folder, replaced = self.folder(stage), self.root / f"{FOLDERS[stage]}.replaced"
        partial = self.partial(stage)
        if (partial / MANIFEST).is_file():
            with suppress(WorkspaceError), _locked(partial):
                self._publish(stage)
        elif replaced.is_dir() and not folder.exists():
            replaced.rename(folder)


def inputs_of_others(sources: Sequence[Workspace], stage: str, name: str) -> dict[str, Input]:
    """A finished stage of all workspaces but the first; named by their position, a moved folder is the same input."""
    return {
        f"{name} {number}": Input(source.require(stage).digest, source.folder(stage).resolve())
        for number, source in enumerate(sources[1:], start=2)
    }


def file_input(path: Path) -> Input:
    """A user's file as an input of a stage, with the side files that change what it says.

    A Shapefile is several files, and an open GeoPackage keeps the latest changes in its write-ahead log.

    Raises:
        WorkspaceError: There is no such file.
    """
    if not path.exists():
        msg = f"expected a file at {path}, found nothing"
        raise WorkspaceError(msg)
    sides = {path.stem.lower() + end for end in SHAPEFILE_SIDES} if path.suffix.lower() == ".shp" else set()
    sides.add(f"{path.name.lower()}-wal")
    side_files = sorted(side for side in path.parent.iterdir() if side.name.lower() in sides and side.stat().st_size)
    parts = [folder_digest(path) if path.is_dir() else file_digest(path)]
    parts += [file_digest(side) for side in side_files]
    digest = parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()
    return Input(digest, path.resolve())


def _nothing_to_check() -> None:
    """A stage that is up to date reads nothing."""


def _fingerprint(settings: Settings, inputs: Mapping[str, Input]) -> dict[str, Any]:
    return {
        "eearth": version("eearth"),
        "settings": settings.what(),
        "inputs": {name: given.digest for name, given in inputs.items()},
    }


def _prepare(partial: Path, fingerprint: dict[str, Any], settings: Settings) -> bool:
    """Keep an interrupted run's work if it was after the same thing; otherwise clear the folder. True: kept."""
    found = _read_plan(partial)
    if found is not None and found["after"] == fingerprint:
        for torn in partial.glob(f"*{WRITING}"):  # by a kill: it would be taken for an artifact
            torn.unlink()
        return True
    for path in partial.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    asked = settings.what() | settings.how()
    write_json(partial / PLAN, {"after": fingerprint, "settings": asked, "origins": dict(settings.origins)})
    return False


def _read_plan(partial: Path) -> dict[str, Any] | None:
    """What an interrupted run was after; None if it left nothing that can be read."""
    try:
        found: dict[str, Any] = json.loads((partial / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if {"after", "settings", "origins"} <= set(found) else None


def _remove_if_untouched(partial: Path) -> None:
    """A run that failed before it made anything leaves nothing to continue."""
    if partial.is_dir() and {path.name for path in partial.iterdir()} <= {PLAN}:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes; the system lets go of the lock when this process ends, however."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        msg = f"another process is working in {folder}: wait for it, or stop it"
        raise WorkspaceError(msg) from error

"""What a stage was made of: its settings, its inputs and its outputs, each with a digest.

The manifests of a workspace form a chain. A stage names an earlier stage by the digest of that stage's manifest, so a
changed region or setting shows in everything that follows.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from eearth.errors import WorkspaceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MANIFEST = "manifest.json"

# What a file is called until it is whole.
WRITING = ".writing"

# Files of a folder hashed at the same time: hashing and reading let other threads run. More than there are cores,
# because a cube on a network drive is waited for.
HASHERS = 8

# Files that a thread hashes in one go: handing over a small file takes longer than hashing it.
FILES_AT_ONCE = 32

# The record of files that were made for the user to fill.
TO_BE_FILLED = "to be filled"

# What a rerun may change without anything downstream being different.
VOLATILE = ("eearth", "seconds", "timings", "origins", "paths", "how")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One finished stage.

    Attributes:
        stage: Name of the stage.
        eearth: Version that made it.
        settings: The resolved configuration of what was made.
        how: The rest of the configuration, which changes nothing that was made; the digest leaves it out.
        origins: Setting → where its value came from: flag, environment, file or default.
        inputs: Name → sha256 of a file, or the digest of an earlier stage's manifest.
        paths: Name of an input → where it lay.
        outputs: Path inside the stage's folder → sha256.
        seed: Seed of every random draw, None for a stage that draws none.
        seconds: Wall-clock time of the run that finished it.
        timings: What else was measured of that run, to show.
        figures: Key figures to show, in the order to show them.
        records: Stage-specific provenance, such as what each scene contributed.
    """

    stage: str
    eearth: str
    settings: dict[str, Any]
    origins: dict[str, str]
    inputs: dict[str, str]
    paths: dict[str, str] = field(default_factory=dict)
    how: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, str]
    seed: int | None = None
    seconds: float = 0.0
    timings: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """Everything that must be in the folder: artifacts, and what was made for the user to fill."""
        return [*self.outputs, *self.records.get(TO_BE_FILLED, ())]

    @property
    def digest(self) -> str:
        """sha256 over all but the volatile parts: two runs that made the same thing have the same digest."""
        stable = {key: value for key, value in asdict(self).items() if key not in VOLATILE}
        return hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into `folder`, whole or not at all."""
        write_json(folder / MANIFEST, asdict(self) | {"digest": self.digest})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read a stage's manifest.

        Raises:
            WorkspaceError: The file is not a manifest, or was edited by hand.
        """
        path = folder / MANIFEST
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            digest = data.pop("digest")
            manifest = cls(**data)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            msg = f"expected a finished stage's manifest at {path}, found {error!r}: remove {folder} and run it again"
            raise WorkspaceError(msg) from error
        if manifest.digest != digest:
            msg = f"{path} does not match its own digest, it was edited: remove {folder} and run the stage again"
            raise WorkspaceError(msg)
        return manifest


def redacted(text: str) -> str:
    """The text without the parts of its addresses that may be secret: query strings, and names before an @."""
    return re.sub(r"(?<=://)[^/@\s]*@|\?[^\s'\")]*", "", text)


def write_json(path: Path, data: Any) -> None:
    """Write `data` as JSON, whole or not at all: a killed process leaves the old file or the new one."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    partial = path.with_name(path.name + WRITING)
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path, advanced: Callable[[int], None] | None = None) -> str:
    """sha256 over the sorted (path, sha256) pairs of every file below `folder`.

    Args:
        folder: What to digest.
        advanced: Called with the number of files that were hashed since the last call.
    """
    paths = files_below(folder)
    parts = [paths[start : start + FILES_AT_ONCE] for start in range(0, len(paths), FILES_AT_ONCE)]
    total = hashlib.sha256()
    with ThreadPoolExecutor(HASHERS) as pool:
        for part, digests in zip(parts, pool.map(_file_digests, parts), strict=True):
            for path, digest in zip(part, digests, strict=True):
                total.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
            if advanced is not None:
                advanced(len(part))
    return total.hexdigest()


def _file_digests(paths: list[Path]) -> list[str]:
    return [file_digest(path) for path in paths]


def files_below(folder: Path) -> list[Path]:
    """Every file below `folder`, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def output_digests(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, str]:
    """Every artifact directly in `folder`, but for some, → sha256; a folder such as `cube.zarr` is one artifact."""
    return {
        path.name: folder_digest(path) if path.is_dir() else file_digest(path)
        for path in sorted(folder.iterdir())
        if path.name not in (MANIFEST, *but)
    }

"""Pieces on the disk, until the cube is put together from them: what an interrupted run does not fetch again."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.geo.cf import COMPRESSOR
from eearth.geo.imagery.archive import Archive, DamagedError, packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from eearth.geo.providers import Encoding


class LostPieceError(Exception):
    """A piece is not on the disk, or not as it was written: it must be read again."""

    def __init__(self, key: str) -> None:
        """Name the piece."""
        super().__init__(key)
        self.key = key


@dataclass(frozen=True)
class Store:
    """A folder with a file for each piece and each look at its masks, named by the job's key."""

    folder: Path

    def has(self, key: str) -> bool:
        """Whether a piece is here."""
        return self._path(key).is_file()

    def put(self, key: str, content: bytes) -> None:
        """Keep a piece, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(key)
        partial = path.with_suffix(".writing")
        partial.write_bytes(content)
        partial.replace(path)

    def remove(self, key: str) -> None:
        """Make room."""
        self._path(key).unlink(missing_ok=True)

    def contributed(self, key: str) -> dict[str, tuple[int, int]]:
        """Item id → (pixels observed, pixels of them that are clear).

        Raises:
            LostPieceError: There is no such piece, or it is damaged.
        """
        with _found(key):
            found: dict[str, tuple[int, int]] = json.loads(Archive(self._path(key)).read("contributed"))
        return found

    def frame(
        self, key: str, row: int, shape: tuple[int, int, int], encoding: Encoding
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(values (band, y, x), valid (y, x)) of a piece's frame that begins at `row` of it.

        Raises:
            LostPieceError: There is no such piece, or it is damaged.
        """
        with _found(key):
            archive = Archive(self._path(key))
            values = np.frombuffer(COMPRESSOR.decode(archive.read(f"{row}")), dtype=encoding.dtype).reshape(shape)
            valid = np.frombuffer(COMPRESSOR.decode(archive.read(f"{row}v")), dtype=bool).reshape(shape[1:])
        return values, valid

    def looks(self, key: str) -> tuple[bytes, ...] | None:
        """What was seen of the masks of a piece, one entry a part; None if it was not looked at, or that is lost."""
        try:
            with _found(key):
                archive = Archive(self._path(f"{key}.look"))
                return tuple(archive.read(name) for name in archive.index)
        except LostPieceError:
            return None

    def put_looks(self, key: str, looks: list[bytes]) -> None:
        """Keep what was seen of the masks."""
        self.put(f"{key}.look", packed({str(number): look for number, look in enumerate(looks)}))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.piece"


@contextmanager
def _found(key: str) -> Iterator[None]:
    try:
        yield
    except (OSError, DamagedError) as error:
        raise LostPieceError(key) from error

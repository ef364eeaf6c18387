"""Which tiles of a product are finished, kept so that no moment of a kill can spoil it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Journal:
    """The indices of finished tiles, in a file that only grows: one line a tile, after a line that names the product.

    A line counts once its line feed is there: what a kill in the middle of a line leaves behind says nothing.

    Args:
        path: The file; it need not be there.
        product: What the tiles belong to, one line.

    Raises:
        OSError: The file could not be read or mended.
    """

    def __init__(self, path: Path, product: str) -> None:
        """Read what is there; `begun` says whether it is this product's."""
        self._path, self._product = path, product
        self._finished: set[int] = set()
        self.begun = False
        with suppress(FileNotFoundError):
            self._read(path.read_bytes())

    def _read(self, text: bytes) -> None:
        whole = text[: text.rfind(b"\n") + 1]
        first, *lines = whole.splitlines() or [b""]
        self.begun = first == self._product.encode()
        if self.begun:
            self._finished = {int(line) for line in lines if line.isdigit()}
            with self._path.open("r+b") as file:
                file.truncate(len(whole))

    def __contains__(self, index: object) -> bool:
        """Whether a tile is finished."""
        return index in self._finished

    def begin(self) -> None:
        """No tile is finished, and the product's files are there."""
        self._path.write_text(f"{self._product}\n", encoding="utf-8")
        self._finished, self.begun = set(), True

    def add(self, index: int) -> None:
        """A tile's pixels are in their place, on the disk itself: not even a power failure loses them."""
        with self._path.open("ab") as file:
            file.write(b"%d\n" % index)
            file.flush()
            os.fsync(file.fileno())
        self._finished.add(index)

    def remove(self) -> None:
        """Forget it all, before the product's files change or go."""
        self._path.unlink(missing_ok=True)
        self._finished, self.begun = set(), False

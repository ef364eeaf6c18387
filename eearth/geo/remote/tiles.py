"""Tiles that were fetched and will be wanted again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass
class TileCache:
    """Tiles that the window beside will want: the last ones used, up to some bytes. Threads share it."""

    most: int
    _tiles: OrderedDict[tuple[str, int], bytes] = field(default_factory=OrderedDict)
    _held: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, href: str, tile: int, *, last: bool) -> bytes | None:
        """A tile, if it is still here; no longer afterwards, if this was the `last` that will be asked of it."""
        with self._lock:
            found = self._tiles.get((href, tile))
            if found is not None and last:
                self._held -= len(self._tiles.pop((href, tile)))
            elif found is not None:
                self._tiles.move_to_end((href, tile))
            return found

    def put(self, href: str, tile: int, body: bytes) -> None:
        """Keep a tile, in place of those that were not used for longest."""
        with self._lock:
            self._held += len(body) - len(self._tiles.pop((href, tile), b""))
            self._tiles[href, tile] = body
            while self._held > self.most:
                _, gone = self._tiles.popitem(last=False)
                self._held -= len(gone)

    def drop(self, href: str) -> None:
        """Forget a file's tiles, of which one turned out to be damaged."""
        with self._lock:
            for key in [key for key in self._tiles if key[0] == href]:
                self._held -= len(self._tiles.pop(key))

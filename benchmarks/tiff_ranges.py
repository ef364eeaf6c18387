"""Where the blocks of a window lie in a tiled TIFF of one band: the least that any reader must know."""

from __future__ import annotations

import struct
from dataclasses import dataclass

WIDTH, BITS, TILE_SIDE, OFFSETS, COUNTS = 256, 258, 322, 324, 325
FORMATS = {3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class Block:
    """One block: byte range in the file, and the pixel of the image where it begins."""

    start: int
    size: int
    row: int
    col: int


def directory(head: bytes) -> dict[int, tuple[int, ...]]:
    """The whole numbers in the first directory of a little-endian classic TIFF whose header lies in `head`."""
    (place,) = struct.unpack_from("<I", head, 4)
    (fields,) = struct.unpack_from("<H", head, place)
    found = {}
    for number in range(fields):
        at = place + 2 + 12 * number
        tag, kind, count = struct.unpack_from("<HHI", head, at)
        if kind not in FORMATS:
            continue
        layout = f"<{count}{FORMATS[kind]}"
        start = at + 8 if struct.calcsize(layout) <= 4 else struct.unpack_from("<I", head, at + 8)[0]  # noqa: PLR2004
        found[tag] = struct.unpack_from(layout, head, start)
    return found


def ranges(head: bytes, row: int, col: int, side: int) -> list[Block]:
    """The blocks that a square window touches, in the order in which they lie in the file."""
    tags = directory(head)
    block, across = tags[TILE_SIDE][0], -(-tags[WIDTH][0] // tags[TILE_SIDE][0])
    blocks = [
        Block(tags[OFFSETS][number], tags[COUNTS][number], y * block, x * block)
        for y in range(row // block, -(-(row + side) // block))
        for x in range(col // block, -(-(col + side) // block))
        for number in [y * across + x]
    ]
    return sorted(blocks, key=lambda one: one.start)


def joined(blocks: list[Block], gap: int = 512) -> list[list[Block]]:
    """The blocks in groups to be fetched in one request: at most `gap` bytes lie between neighbours."""
    groups: list[list[Block]] = []
    for block in blocks:
        if groups and block.start - groups[-1][-1].start - groups[-1][-1].size <= gap:
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups

"""The values that a map carries, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Confidence and observation count of a pixel outside the region; no percentage and no count reaches it. 0 is taken: it
# says that a pixel of the region was never observed.
OUTSIDE = 255

# The highest observation count that fits beside `OUTSIDE`; it stands for itself and for more.
MOST_OBSERVATIONS = OUTSIDE - 1


@dataclass(frozen=True)
class Prediction:
    """The map of one tile; every array is (y, x) uint8.

    Attributes:
        landcover: Class code; 0 outside the region and where no clear observation exists.
        confidence: Probability of that class in percent, 1..100; 0 without a clear observation, `OUTSIDE` outside the
            region.
        observations: Number of clear observations, at most `MOST_OBSERVATIONS`; `OUTSIDE` outside the region.
    """

    landcover: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    observations: NDArray[np.uint8]


class MapClass(Protocol):
    """One entry of a map's legend."""

    @property
    def code(self) -> int:
        """Pixel value, 1..255."""

    @property
    def name(self) -> str:
        """As the user wrote it."""

    @property
    def colour(self) -> str:
        """#rrggbb."""


def rgb(colour: str) -> tuple[int, int, int]:
    """(red, green, blue), 0..255, of "#rrggbb"."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def printable(name: str) -> str:
    """A class name on one line: control characters, which neither XML nor a TIFF tag can carry, become spaces."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())

"""The values that a map carries, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# What every band but land cover holds outside the region; no percentage and no count reaches it. 0 is taken: it says
# that a pixel of the region was never observed.
OUTSIDE = 255

# The highest observation count that fits beside `OUTSIDE`; it stands for itself and for more.
MOST_OBSERVATIONS = OUTSIDE - 1

# A probability of 1 in the file of probabilities: a step is 0.4 percent.
WHOLE = 250


class Reason(IntEnum):
    """Why a pixel has the land cover that it has, or none."""

    MAPPED = 0
    NEVER_OBSERVED = 1
    REJECTED = 2
    CHANGED = 3
    OUTSIDE_REGION = OUTSIDE


@dataclass(frozen=True)
class Prediction:
    """The map of one tile; every array is (y, x) uint8.

    Attributes:
        landcover: Class code; 0 outside the region, where no clear observation exists, and where the confidence is too
            low.
        confidence: Probability of the most probable class in percent, 1..100; 0 without a clear observation, `OUTSIDE`
            outside the region.
        observations: Number of clear observations, at most `MOST_OBSERVATIONS`; `OUTSIDE` outside the region.
        margin: By how many percent that probability exceeds the second highest; 0 without a clear observation,
            `OUTSIDE` outside the region.
        reason: A `Reason`.
        unfamiliarity: How far the pixel is from what the model was trained on; `OUTSIDE` outside the region, and where
            nothing is known of it.
        probabilities: (class, y, x) of each class, in parts of `WHOLE`; `OUTSIDE` outside the region and where no clear
            observation exists. None where nobody has asked for them.
    """

    landcover: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    observations: NDArray[np.uint8]
    margin: NDArray[np.uint8]
    reason: NDArray[np.uint8]
    unfamiliarity: NDArray[np.uint8]
    probabilities: NDArray[np.uint8] | None = None


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

"""What a split promises, and whether the rasters keep it: parts a distance apart, features in one part each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eearth.errors import LabelError
from eearth.geo.distance import near, pixel_sides
from eearth.geo.splits.blocks import NAMES, TEST, TRAIN, VALIDATION
from eearth.geo.splits.footprints import torn_features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eearth.geo.grid import Grid
    from eearth.geo.splits.split import Split


@dataclass(frozen=True)
class Guarantee:
    """What holds for a split.

    Attributes:
        buffer_m: Metres; pixels of different parts are farther apart than this, centre to centre.
        min_distance_m: From a test pixel to the nearest training pixel, as measured.
        features_whole: Whether features were kept whole at all.
        divided_features: Numbers of those that were divided all the same; where features were not heeded, empty.
    """

    buffer_m: float
    min_distance_m: float
    features_whole: bool
    divided_features: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"divided_features": list(self.divided_features)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Guarantee:
        """The reverse of `as_dict`."""
        return cls(**(data | {"divided_features": tuple(data["divided_features"])}))


def guarantee_of(split: Split) -> Guarantee:
    """What a new split promises."""
    return Guarantee(split.buffer_m, split.min_distance_m, split.whole, split.divided if split.whole else ())


def check_guarantee(
    part: NDArray[np.uint8], features: NDArray[np.uint32] | None, grid: Grid, promised: Guarantee, source: str
) -> None:
    """Measure a split again before something is learnt from it.

    Args:
        part: (y, x) part codes, see `eearth.geo.splits.blocks`.
        features: (y, x) number of the feature that labels each pixel, 0 = none; None where there are none.
        grid: Where they lie.
        promised: What was promised when the split was made.
        source: What to call it in a message.

    Raises:
        LabelError: The rasters do not keep the promise.
    """
    fault = _too_near(part, grid, promised.buffer_m)
    if fault is None and promised.features_whole and features is not None:
        fault = _divided(part, features, promised.divided_features)
    if fault:
        msg = f"expected the split that was made in {source}, found {fault}: run `eearth rasterize` again"
        raise LabelError(msg)


def _too_near(part: NDArray[np.uint8], grid: Grid, reach: float) -> str | None:
    """Parts that lie within the buffer of each other."""
    sides = pixel_sides(grid)
    for one, other in ((TRAIN, TEST), (VALIDATION, TEST), (TRAIN, VALIDATION)):
        count = int(near(part == one, part == other, sides, reach).sum())
        if count:
            return f"{count} {NAMES[one]} pixels at most {reach:.4g} m from {NAMES[other]} pixels"
    return None


def _divided(part: NDArray[np.uint8], features: NDArray[np.uint32], known: tuple[int, ...]) -> str | None:
    """Features with pixels in several parts that should be in one."""
    torn = np.setdiff1d(torn_features(part, features), known)
    return f"features with pixels in several parts: {torn.size}, such as number {torn[0]}" if torn.size else None

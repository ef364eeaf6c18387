"""Where a map has to do with ground, imagery or dates unlike those that its model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import rasterio

from eearth.geo.products.landcover.prediction import OUTSIDE
from eearth.geo.products.landcover.writer import BANDS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

# As far as the farthest 1 % of the training's ground, see `eearth.models.familiarity.Familiarity`.
FAMILIAR = 100

# Share of a map beyond that, from which on its user is warned.
TOO_MUCH = 0.2

# What the figures of a map call that share.
UNFAMILIAR = "unlike the training"

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def unfamiliarity(distance: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The band `unfamiliarity`: percent of the distance that training's farthest 1 % lies beyond, at most 254.

    Args:
        distance: (y, x), see `LandCoverModel.with_distance`; NaN where nothing is known.
        seen: (y, x), whether a pixel was ever seen clearly.

    Returns:
        (y, x); `OUTSIDE` where nothing is known, and where never seen.
    """
    known = seen & np.isfinite(distance)
    percent = np.rint(np.minimum(FAMILIAR * np.where(known, distance, 0), OUTSIDE - 1))
    return np.where(known, percent, OUTSIDE).astype(np.uint8)


def unfamiliar_share(confidence: Path) -> float | None:
    """Share of a map's observed pixels that are beyond `FAMILIAR`; None where nothing is known of any.

    Args:
        confidence: The map's `confidence.tif`.
    """
    counts = np.zeros(OUTSIDE + 1, np.int64)
    band = list(BANDS).index("unfamiliarity") + 1
    with rasterio.open(confidence) as file:
        if file.count < band:  # a map of before there was such a band
            return None
        for _, window in file.block_windows(band):
            counts += np.bincount(file.read(band, window=window).ravel(), minlength=len(counts))
    known = int(counts[:OUTSIDE].sum())
    return int(counts[FAMILIAR + 1 : OUTSIDE].sum()) / known if known else None


def unfamiliar_warnings(share: float | None, trained: Iterable[int], here: Iterable[int]) -> list[str]:
    """What the user of a map is to be told: a line each.

    Args:
        share: See `unfamiliar_share`.
        trained: Months 1..12 in which the training's imagery was acquired.
        here: Months in which the map's was.
    """
    said = []
    if share is not None and share > TOO_MUCH:
        said.append(
            f"{share:.0%} of the map is unlike what the model was trained on: other ground, other imagery or another "
            "season; see the band unfamiliarity of confidence.tif, and do not trust the map where it is above 100"
        )
    if lacking := sorted(set(trained) - set(here)):
        names = ", ".join(MONTHS[month - 1] for month in lacking)
        said.append(f"the model was trained on imagery of {names} too, of which there is none here")
    return said

"""A raster of class codes → its connected patches, which stand for the features that a raster does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Where more of the grid than this is labelled, the raster is a map. Its patches are not places that somebody chose:
# they touch, some span the region, and a split that kept them whole would leave one part next to nothing.
MAP_SHARE = 0.5


def patches_of(codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], dict[int, int]]:
    """Number the patches of one class whose pixels touch along an edge.

    Args:
        codes: (y, x), 0 = no label.

    Returns:
        (y, x) the number of each pixel's patch from 1, 0 = no label, all 0 where the raster is a map; and class code →
        its patches (of a map: none).
    """
    if np.count_nonzero(codes) > MAP_SHARE * codes.size:
        return np.zeros(codes.shape, dtype=np.uint32), {}
    return number_patches(codes)


def number_patches(codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], dict[int, int]]:
    """The same, also of a map."""
    features = np.zeros(codes.shape, dtype=np.uint32)
    counts, first = {}, 0
    for code, place in enumerate(ndimage.find_objects(codes), start=1):
        if place is None:
            continue
        numbered, counts[code] = ndimage.label(codes[place] == code)
        np.copyto(features[place], (numbered + first).astype(np.uint32), where=numbered > 0)
        first += counts[code]
    return features, counts

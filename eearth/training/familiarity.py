"""What ground a model has seen, so that a map can say where it has to do with other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from eearth.data.series import months_of
from eearth.geo.grid import tiles_of
from eearth.geo.splits.blocks import NONE, TRAIN
from eearth.models.familiarity import Familiarity
from eearth.training.head import encoded_around

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eearth.data.chips import LabelledSeries
    from eearth.models.encoder import Encoder

# Points that stand for the ground; twice as many find a little more (docs/design/0013), and cost twice as much.
POINTS = 128

# Pixels that are looked at, or up to twice as many, in squares of this side spread evenly over the regions.
PIXELS, SQUARES, SQUARE = 9000, 48, 32

# Fewer pixels say nothing of their farthest hundredth.
LEAST_PIXELS = 100

# Share of the held-out ground that lies farther away than `reach`.
FARTHEST = 0.01

# Each region is cut into so many parts along each side, dealt out to as many folds so that no two that touch are in one
# fold: whole parts are held out, for neighbouring pixels are alike.
FOLDS = 4


def familiarity_of(
    encoder: Encoder, regions: Sequence[LabelledSeries], device: torch.device | str
) -> Familiarity | None:
    """The ground of some regions as an encoder sees it, labelled or not; None where there is too little of it.

    Ground of the validation and test blocks, and of the buffer around them, is left out.

    Args:
        encoder: On `device`; set to evaluation.
        regions: What the model was trained on.
        device: Where it runs.
    """
    encoder.eval()
    seen = [_seen(encoder, region, len(regions), device) for region in regions]
    features, folds = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    others = [folds != fold for fold in np.unique(folds)]
    if len(features) < LEAST_PIXELS or len(others) < 2:  # noqa: PLR2004 - one fold is held out, one at least stays
        return None
    away = [_distances(features[~kept], farthest_points(features[kept], POINTS)) for kept in others]
    points = torch.from_numpy(farthest_points(features, POINTS))
    months = months_of(np.concatenate([region.series.times for region in regions]))
    found = Familiarity(len(points), encoder.features, months)
    found.points.copy_(points)
    found.reach.fill_(max(float(np.quantile(np.concatenate(away), 1 - FARTHEST)), float(np.finfo(np.float32).tiny)))
    return found.eval()


def farthest_points(features: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The point nearest to the mean, then again and again the one that is farthest from all chosen ones.

    After Gonzalez (1985, doi 10.1016/0304-3975(85)90224-5): no other choice of as many points is more than twice as
    near to every feature.

    Args:
        features: (pixel, feature).
        count: Points at most; there are fewer where features coincide.

    Returns:
        (point, feature), rows of `features`.
    """
    values = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    norms = (values**2).sum(axis=1)
    nearest, chosen = np.full(len(values), np.inf), [int(norms.argmin())]
    while len(chosen) < count:
        nearest = np.minimum(nearest, norms + norms[chosen[-1]] - 2 * values @ values[chosen[-1]])
        nearest[chosen] = 0
        following = int(nearest.argmax())
        if nearest[following] <= 0:
            break
        chosen.append(following)
    return features[chosen]


def _distances(features: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(pixel,) distance to the nearest point, as `Familiarity` takes it."""
    known = Familiarity(len(points), points.shape[1])
    known.points.copy_(torch.from_numpy(points))
    found: NDArray[np.float32] = known(torch.from_numpy(features.T)[None, :, :, None])[0, 0, :, 0].numpy()
    return found


@torch.no_grad()
def _seen(
    encoder: Encoder, region: LabelledSeries, regions: int, device: torch.device | str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features of some pixels of one of so many regions that were seen, and the fold of each."""
    asked = _spread(region.split, PIXELS // regions, SQUARES // regions)
    features, places = [np.zeros((0, encoder.features), np.float32)], [np.zeros((0, 2), np.int64)]
    for around in encoded_around(asked, region.series, encoder, device):
        seen = around.clear[around.place]
        features.append(around.features[around.place][seen])
        places.append(around.pixels[seen])
    rows, cols = (np.concatenate(places) * FOLDS // np.array(region.split.shape)).T
    return np.concatenate(features), (rows + 2 * cols) % FOLDS


def _spread(split: NDArray[np.uint8], pixels: int, squares: int) -> NDArray[np.int64]:
    """(pixel, 2) rows and columns of some pixels of the training's ground, in squares spread over the region."""
    tiles = list(tiles_of(split.shape, SQUARE))
    own: list[NDArray[np.int64]] = []
    for number in np.linspace(0, len(tiles) - 1, max(1, min(squares, len(tiles)))).round():
        tile = tiles[int(number)]
        own.append(np.argwhere(np.isin(split[tile.slices], (NONE, TRAIN))) + np.array([tile.row, tile.col]))
    found = np.concatenate(own)
    return found[:: max(1, len(found) // max(1, pixels))]

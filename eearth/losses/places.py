"""Which pixels lie too near each other to be negatives, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor


@dataclass(frozen=True)
class Places:
    """Where pixels lie, and how far around each of them no pixel is a negative.

    All are whole numbers of the narrowest type that holds them: a tile's distances then cost a tenth of its logits.

    Attributes:
        at: (3, pixel) region, row and column, none negative; two regions are farther apart than any reach.
        reach: (pixel,) largest distance, in rows or in columns, that is still too near; −1 where none is.
        mutual: Pixels of one region all have the same reach, so that near is near either way.
    """

    at: Tensor
    reach: Tensor
    mutual: bool

    @classmethod
    def of(cls, place: Tensor, exclusion: float | Tensor) -> Places:
        """From the places of pixels, of which there is at least one.

        Args:
            place: (pixel, 3) region, row and column on the ground; whole numbers.
            exclusion: One distance for all, or one for each pixel; infinite to leave out a pixel's whole region.
        """
        place = place.to(torch.int64)
        ground = place[:, 1:] - place[:, 1:].amin(dim=0)
        region = torch.unique(place[:, 0], return_inverse=True)[1]
        reach = torch.as_tensor(exclusion, device=place.device).clamp(-1, int(ground.max())).floor().to(torch.int64)
        reach = reach.expand(len(place))
        widest = torch.full_like(reach, -1).scatter_reduce(0, region, reach, "amax")[region]
        at = torch.cat([region[:, None] * (reach.max() + 1), ground], dim=1).T
        largest = int(at.max())
        kind = next(one for one in (torch.int16, torch.int32, torch.int64) if largest <= torch.iinfo(one).max)
        return cls(at.to(kind).contiguous(), reach.to(kind), bool((widest == reach).all()))

    def __getitem__(self, part: slice | Tensor) -> Places:
        """The places of some of the pixels, by slice or by index."""
        return Places(self.at[:, part], self.reach[part], self.mutual)

    def order(self) -> Tensor:
        """Indices of the pixels, region by region and row by row: neighbours then share few tiles."""
        region, row, _ = self.at.to(torch.int64)
        return torch.argsort(region * (row.amax() + 1) + row, stable=True)

    def far(self, other: Places) -> tuple[Tensor, Tensor]:
        """Which pairs may be negatives: (own, other) 1 or 0, by the own pixels' reach, and by the others'."""
        apart = ((one[:, None] - two).abs_() for one, two in zip(self.at, other.at, strict=True))
        distance = reduce(torch.maximum, apart)
        # In place, for a comparison that makes bool costs ten times as much as one that keeps the type.
        if self.mutual:
            own = distance.gt_(self.reach[:, None])
            return own, own
        return distance.clone().gt_(self.reach[:, None]), distance.gt_(other.reach)

    def touches(self, other: Places, side: int) -> list[list[bool]]:
        """For each `side` pixels, against each `side` of the others: whether their boxes allow any near pair."""
        (low, high, reach), (low_other, high_other, reach_other) = (_boxes(one, side) for one in (self, other))
        gap = torch.maximum(low[:, None] - high_other, low_other - high[:, None]).amax(dim=2)
        found: list[list[bool]] = (gap <= torch.maximum(reach[:, None], reach_other)).tolist()
        return found


def slices(count: int, side: int) -> list[slice]:
    """`count` in parts of `side`, the last one shorter where it does not divide."""
    return [slice(start, min(start + side, count)) for start in range(0, count, side)]


def _boxes(places: Places, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each `side` pixels their least and largest place (tile, 3), and their largest reach (tile,)."""
    parts = [places[part] for part in slices(len(places.reach), side)]
    low, high = (torch.stack([bound(part.at, dim=1) for part in parts]) for bound in (torch.amin, torch.amax))
    return low, high, torch.stack([part.reach.amax() for part in parts])

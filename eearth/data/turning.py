"""A network that looks at imagery from all sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eearth.data.series import Chips
from eearth.data.views import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

TURNS = tuple(Turn.of(number) for number in range(8))


def from_all_sides(network: Callable[[Chips], Tensor]) -> Callable[[Chips], Tensor]:
    """The mean of what a network gives for the eight flips and quarter turns of its chips, in ground orientation.

    Sides and starts of a map's windows are multiples of the network's alignment, so a turned window is cut into the
    same blocks as the ground: the mean, too, is the same in windows as in one piece.

    Args:
        network: Chips → (chip, channel, y, x).
    """

    def mean(chips: Chips) -> Tensor:
        views = (turn.undo(network(_turned(chips, turn))) for turn in TURNS)
        total: Tensor = sum(views, start=next(views))
        return total / len(TURNS)

    return mean


def _turned(chips: Chips, turn: Turn) -> Chips:
    return Chips(turn.apply(chips.reflectance), turn.apply(chips.valid), chips.day)

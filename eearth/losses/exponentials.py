"""Sums of exp(scale · q·k) over all pairs of pixels, whose matrix is never held: not forward, and not backward."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from eearth.losses.places import slices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eearth.losses.places import Places

# Rows and columns of a tile. On a CPU its exponentials should fit into the cache of a core (512² float32: 1 MB); a GPU
# wants kernels that outlast their launch.
CPU_SIDE, GPU_SIDE = 512, 8192

# With |scale · q·k| up to these, neither a sum of 10⁹ exponentials nor the quotient of such a sum and the least
# exponential leaves the number type; vectors of unit length then need no running maximum.
LARGEST_LOGIT = {torch.float32: 30.0, torch.float64: 300.0}


def number_type(least: torch.dtype, temperature: float) -> torch.dtype:
    """The first type, from `least` on, that holds exponentials of cosines divided by the temperature."""
    for kind in dict.fromkeys((least, torch.float64)):
        if 1 / temperature <= LARGEST_LOGIT[kind]:
            return kind
    msg = f"expected a temperature of at least 1/{LARGEST_LOGIT[torch.float64]:.0f}, found {temperature}"
    raise ValueError(msg)


def exponential_sums(
    query: Tensor,
    key: Tensor,
    *,
    scale: float,
    places: tuple[Places, Places] | None = None,
    side: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Σ_j exp(scale · q_i·k_j) for each query i, and Σ_i exp(scale · q_i·k_j) for each key j.

    One tile of pairs serves both sums. The backward pass makes each tile again. Memory: that of the vectors and their
    gradients, and a few tiles.

    Args:
        query: (query, feature), float32 or float64, of unit length.
        key: (key, feature), likewise.
        scale: Factor of the logits, at most LARGEST_LOGIT.
        places: Of the queries and of the keys: the first sum leaves out what lies within the query's reach, the second
            what lies within the key's. None to leave out nothing.
        side: Rows and columns of a tile; by default what suits the device.

    Returns:
        (query,) and (key,).
    """
    side = side or (CPU_SIDE if query.device.type == "cpu" else GPU_SIDE)
    if places is None or len(query) == 0:
        return _apply(query, key, _Plan(scale, None, side))
    orders = [one.order() for one in places]
    ordered = places[0][orders[0]], places[1][orders[1]]
    sums = _apply(query[orders[0]], key[orders[1]], _Plan(scale, ordered, side))
    by_query, by_key = (one[torch.argsort(order)] for one, order in zip(sums, orders, strict=True))
    return by_query, by_key


class _Plan(NamedTuple):
    """What the two passes have in common; see `exponential_sums`."""

    scale: float
    places: tuple[Places, Places] | None
    side: int


def _apply(query: Tensor, key: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
    sums: tuple[Tensor, Tensor] = _ExponentialSums.apply(query, key, plan)  # type: ignore[no-untyped-call]
    return sums


class _Tile(NamedTuple):
    """Some queries against some keys: their exponentials, and which of them count in either sum.

    Where all do, and where what does not is 0 already, `far` is None.
    """

    rows: slice
    columns: slice
    exponentials: Tensor
    far: tuple[Tensor, Tensor] | None


class _ExponentialSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(query, key)
        ctx.plan = plan
        by_query, by_key = query.new_zeros(len(query)), key.new_zeros(len(key))
        for rows, columns, exponentials, far in _tiles(query, key, plan):
            own, other = (exponentials, exponentials) if far is None else (exponentials * one for one in far)
            by_query[rows] += own.sum(dim=1)
            by_key[columns] += other.sum(dim=0)
        return by_query, by_key

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_query: Tensor, by_key: Tensor) -> tuple[Tensor | None, ...]:
        query, key = ctx.saved_tensors
        to_query, to_key = (torch.zeros_like(one) for one in (query, key))
        for rows, columns, exponentials, far in _tiles(query, key, ctx.plan):
            own, other = by_query[rows, None], by_key[columns]
            weight = own + other if far is None else (far[0] * own).add_(far[1] * other)
            exponentials.mul_(weight)
            if ctx.needs_input_grad[0]:
                to_query[rows].addmm_(exponentials, key[columns])
            if ctx.needs_input_grad[1]:
                to_key[columns].addmm_(exponentials.T, query[rows])
        return to_query.mul_(ctx.plan.scale), to_key.mul_(ctx.plan.scale), None


def _tiles(query: Tensor, key: Tensor, plan: _Plan) -> Iterator[_Tile]:
    # Base 2, because torch's exp2 takes a third of exp's time on a CPU.
    scaled = query * (plan.scale / math.log(2))
    all_rows, all_columns = (slices(len(one), plan.side) for one in (query, key))
    touches = plan.places and plan.places[0].touches(plan.places[1], plan.side)
    for i, rows in enumerate(all_rows):
        for j, columns in enumerate(all_columns):
            # Mixed precision would round the logits of a matrix product, whatever the type of its factors.
            with torch.autocast(query.device.type, enabled=False):
                exponentials = torch.mm(scaled[rows], key[columns].T).exp2_()
            far = None
            if plan.places and touches and touches[i][j]:
                far = plan.places[0][rows].far(plan.places[1][columns])
                if far[0] is far[1]:
                    exponentials.mul_(far[0])
                    far = None
            yield _Tile(rows, columns, exponentials, far)

"""Folds for cross-validation: blocks in groups of about the same size, each with each class where that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eearth.geo.splits.attempts import MOST_ATTEMPTS, TOLERATED
from eearth.geo.splits.blocks import Blocks, deal

if TYPE_CHECKING:
    from numpy.typing import NDArray


def deal_folds(blocks: Blocks, folds: int, seed: int) -> NDArray[np.uint8]:
    """Deal blocks into folds: of some random deals the one with the fewest classes missing, then the evenest.

    The fold that is tested on has no influence, so that the folds of several runs belong together.

    Args:
        blocks: What to deal out.
        folds: How many folds.
        seed: Decides between deals that are equally good.

    Returns:
        (block,) the fold of each, from 1.
    """
    rng, settled = np.random.default_rng(seed), np.full(len(blocks.counts), -1)
    ideal = np.maximum(folds - (blocks.counts > 0).sum(axis=0), 0).sum()
    best: tuple[tuple[float, float], NDArray[np.int64]] | None = None
    for _ in range(MOST_ATTEMPTS):
        fold = deal(blocks.counts, [1 / folds] * folds, settled, rng)
        held = np.stack([blocks.counts[fold == each].sum(axis=0) for each in range(folds)])
        uneven = float(abs(held.sum(axis=1) / held.sum() - 1 / folds).sum())
        score = float((held == 0).sum()), uneven
        if best is None or score < best[0]:
            best = score, fold
        if best[0][0] <= ideal and best[0][1] <= TOLERATED:
            break
    return (np.zeros(0, np.int64) if best is None else best[1] + 1).astype(np.uint8)

"""Random assignments of blocks to parts, the buffer between them, and the best of several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eearth.geo.distance import near
from eearth.geo.splits.blocks import (
    BUFFER,
    PARTS,
    TEST,
    TRAIN,
    VALIDATION,
    Blocks,
    assign,
    pin,
    spread,
    strips_of,
)

# Assignments tried before the best is taken: fewer for large rasters, which have many blocks and rarely need them.
MOST_ATTEMPTS, FEWEST_ATTEMPTS, PIXELS_OF_ALL_ATTEMPTS = 48, 4, 30_000_000
PIXELS_PER_BLOCK = 20  # the side of a block that is neither few nor many
TOLERATED = 0.1  # summed error of the parts' shares below which no better assignment is looked for


@dataclass(frozen=True)
class Aim:
    """What the parts of a split are to be.

    Attributes:
        sides: (height, width) of a pixel in metres.
        reach: Metres; pixels of two parts are to be farther apart, centre to centre.
        shares: Share of the labelled pixels for each part.
        seed: Of the random assignments.
    """

    sides: tuple[float, float]
    reach: float
    shares: dict[int, float]
    seed: int


@dataclass(frozen=True)
class Attempt:
    """One assignment of blocks to parts, and what became of it.

    Attributes:
        of_block: Part of each block.
        part: Part of each pixel, buffer applied.
        table: Pixels by class, rising, and part: (class, 5).
        score: The smaller the better: parts (train, test) without a pixel; classes without train, test, validation;
            summed error of the test and validation shares.
    """

    of_block: NDArray[np.uint8]
    part: NDArray[np.uint8]
    table: NDArray[np.int64]
    score: tuple[float, ...]


def best_attempt(
    labels: NDArray[np.uint8], blocks: Blocks, aim: Aim, fixed: NDArray[np.uint8] | None = None
) -> Attempt | None:
    """The best of some random assignments; None where none has both a training and a test pixel.

    Args:
        labels: (y, x) class codes, 0 = no label.
        blocks: What is dealt out.
        aim: What to aim at.
        fixed: (block,) TEST for those that are to be tested on, and no others; None = that is for chance to decide.
    """
    if blocks.numbers.size < 2:  # noqa: PLR2004 - train and test
        return None
    rng, pinned = np.random.default_rng(aim.seed), np.zeros(blocks.numbers.size, dtype=bool)
    dealt = aim.shares if fixed is None else aim.shares | {TEST: 0.0}
    best: Attempt | None = None
    ideal = _ideal(blocks, validation=aim.shares[VALIDATION] > 0)
    cost = labels.size + PIXELS_PER_BLOCK**2 * blocks.numbers.size
    for _ in range(min(max(PIXELS_OF_ALL_ATTEMPTS // cost, FEWEST_ATTEMPTS), MOST_ATTEMPTS)):
        of_block = assign(blocks, dealt, pinned, rng, fixed)
        part = separated(spread(of_block, blocks, labels), aim)
        attempt = _judged(of_block, part, labels, blocks, aim.shares)
        if best is None or attempt.score < best.score:
            best = attempt
        if best.score[:4] <= ideal and best.score[4] <= TOLERATED:
            break
        pin(pinned, np.flatnonzero(attempt.table[:, TRAIN] == 0), blocks)
        if pinned.all():
            pinned[:] = False
    return None if best is None or best.score[0] else best


def _ideal(blocks: Blocks, *, validation: bool) -> tuple[float, ...]:
    """The best that the first four figures of a score can be: classes in one or two blocks cannot be everywhere."""
    homes = (blocks.counts > 0).sum(axis=0)
    return 0, 0, int((homes < 2).sum()), int((homes < 3).sum()) if validation else 0  # noqa: PLR2004


def _judged(
    of_block: NDArray[np.uint8],
    part: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    blocks: Blocks,
    shares: dict[int, float],
) -> Attempt:
    """Count what an assignment lost, and how far its shares (before the buffer) are from those asked for."""
    table = tally(labels, part)
    missing = {name: int((table[:, name] == 0).sum()) if shares[name] > 0 else 0 for name in PARTS}
    empty = sum(not table[:, name].any() for name in (TRAIN, TEST))
    totals = blocks.counts.sum(axis=1)
    error = sum(abs(totals[of_block == name].sum() / totals.sum() - shares[name]) for name in (TEST, VALIDATION))
    score = (empty, missing[TRAIN], missing[TEST], missing[VALIDATION], float(error))
    return Attempt(of_block, part, table, score)


def tally(labels: NDArray[np.uint8], part: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Labelled pixels by class, rising, and part: (class, 5)."""
    of_code = tally_codes(labels, part)
    return of_code[of_code[:, TRAIN:].any(axis=1)]


def tally_codes(labels: NDArray[np.uint8], part: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels by class code, 0 among them, and part: (256, 5)."""
    width = BUFFER + 1
    table = np.zeros(256 * width, dtype=np.int64)
    for strip in strips_of(labels):
        key = labels[strip].astype(np.uint16) * np.uint16(width) + part[strip]
        table += np.bincount(key.ravel(), minlength=table.size)
    return table.reshape(256, width)


def separated(part: NDArray[np.uint8], aim: Aim) -> NDArray[np.uint8]:
    """Drop pixels too near another part: training and validation near test, then training near validation."""
    part = part.copy()
    part[near((part == TRAIN) | (part == VALIDATION), part == TEST, aim.sides, aim.reach)] = BUFFER
    part[near(part == TRAIN, part == VALIDATION, aim.sides, aim.reach)] = BUFFER
    return part

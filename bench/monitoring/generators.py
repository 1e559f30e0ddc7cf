"""Values to be monitored: independent, autoregressive, or alike within blocks. Pure.

Each function returns an array ``(n_rows, n_features)``. A block is a number of rows next to each other; what
one block has in common is independent of other blocks.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import signal, special

Values = npt.NDArray[np.float64]

BURST_SD = 4.0
"""How far the values of a burst are above the others, in their standard deviations."""

SCORE_SHAPE = (1.5, 3.5)
"""The parameters of the beta distribution of scores."""


def independent(random: np.random.Generator, rows: int, features: int) -> Values:
    """Return standard normal values."""
    return random.normal(size=(rows, features))


def autoregression(random: np.random.Generator, rows: int, features: int, coefficient: float) -> Values:
    """Return an autoregression of order 1 with standard normal values."""
    noise = random.normal(size=(rows, features))
    noise[1:] *= math.sqrt(1 - coefficient**2)
    found: Values = signal.lfilter([1.0], [1.0, -coefficient], noise, axis=0)
    return found


def bursts(
    random: np.random.Generator, rows: int, features: int, share: float, block_rows: int = 64
) -> Values:
    """Return standard normal values, `BURST_SD` higher in this share of the blocks."""
    burst = _each_row(random.random((_blocks(rows, block_rows), features)) < share, rows, block_rows)
    return random.normal(size=(rows, features)) + BURST_SD * burst


def rain(
    random: np.random.Generator, rows: int, features: int, wet_share: float, block_rows: int = 64
) -> Values:
    """Return values that are 0 in dry blocks, and exponential with the mean of their block in wet ones."""
    shape = (_blocks(rows, block_rows), features)
    amounts = np.where(random.random(shape) < wet_share, random.exponential(size=shape), 0.0)
    return random.exponential(size=(rows, features)) * _each_row(amounts, rows, block_rows)


def correlated_blocks(
    random: np.random.Generator, rows: int, features: int, correlation: float, block_rows: int
) -> Values:
    """Return standard normal values; within a block each pair is correlated by plus or minus this much."""
    signs = _each_row(random.choice([-1.0, 1.0], (_blocks(rows, block_rows), features)), rows, block_rows)
    common = random.normal(size=(rows, 1))
    own = random.normal(size=(rows, features))
    return math.sqrt(correlation) * signs * common + math.sqrt(1 - correlation) * own


def levels(
    random: np.random.Generator, rows: int, features: int, share: float, block_rows: int, *, even: bool
) -> Values:
    """Return standard normal values; the level of its block is this share of the variance of a value.

    With ``even`` the levels are the quantiles of the normal distribution in random order, so the design
    effect that is measured on the values hardly depends on chance.
    """
    blocks = _blocks(rows, block_rows)
    if even:
        quantiles = special.ndtri((np.arange(blocks) + 0.5) / blocks)
        of_block = random.permuted(np.tile(quantiles[:, None], (1, features)), axis=0)
    else:
        of_block = random.normal(size=(blocks, features))
    own = random.normal(size=(rows, features))
    return math.sqrt(share) * _each_row(of_block, rows, block_rows) + math.sqrt(1 - share) * own


def scores(random: np.random.Generator, rows: int) -> Values:
    """Return scores ``(n_rows,)`` of a model, from 0 to 1 with the mean 0.3."""
    return random.beta(*SCORE_SHAPE, rows)


def even_scores(random: np.random.Generator, rows: int) -> tuple[Values, npt.NDArray[np.int8]]:
    """Return scores and labels ``(n_rows,)`` whose mean loss is the expected one, almost without chance.

    The scores are the quantiles of those of `scores`, and among neighbours the share of the labels that are 1
    is their score; both are in random order.
    """
    ordered = special.betaincinv(*SCORE_SHAPE, (np.arange(rows) + 0.5) / rows)
    chosen = np.diff(np.floor(np.cumsum(ordered) + 0.5), prepend=0.0).astype(np.int8)
    order = random.permutation(rows)
    return ordered[order], chosen[order]


def labels(random: np.random.Generator, chances: Values) -> npt.NDArray[np.int8]:
    """Return labels ``(n_rows,)`` that are 1 with these chances."""
    return (random.random(len(chances)) < chances).astype(np.int8)


def worse(chances: Values, rise: float) -> Values:
    """Return the chances of a world in which scores that were these chances have a higher mean log loss.

    All odds change by one factor, found by bisection so that the expected loss is ``rise`` higher.
    """
    logits = special.logit(chances)
    odds = np.log(chances) - np.log1p(-chances)
    low, high = 0.0, 20.0
    for _ in range(60):
        shift = (low + high) / 2
        more = float((-(special.expit(logits + shift) - chances) * odds).mean())
        low, high = (shift, high) if more < rise else (low, shift)
    found: Values = special.expit(logits + low)
    return found


def _blocks(rows: int, block_rows: int) -> int:
    return -(-rows // block_rows)


def _each_row(of_block: npt.NDArray[np.generic], rows: int, block_rows: int) -> Values:
    return np.repeat(of_block, block_rows, axis=0)[:rows].astype(float)

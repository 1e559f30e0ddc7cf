"""Bets against "the ranks are uniform and independent", and their log winnings. Pure.

A bet multiplies its stake by a factor whose mean is at most 1 while nothing changes. Bets on the mean and the
spread need only a sum over the rows of a step: ``exp(b sum(f(u)) - n log E exp(b f(U)))``. Bets on any other
change use a learning histogram (a plug-in bet; Shin, Ramdas and Rinaldo, arXiv 2203.03532, section 4).
"""

import numpy as np
import numpy.typing as npt

from services.drift.detectors.protocol import Values

MEAN_BETS = np.array([0.4, 0.9, 1.8, 3.6, -0.4, -0.9, -1.8, -3.6])
"""Bets on the mean rank. The best bet on a shift of a normal mean by d standard deviations is 3.4 d; these
cover d from 1/8 to 1."""
SPREAD_BETS = np.array([3.0, 8.0, -3.0, -8.0])
"""Bets on the spread of the ranks. The best bet on a spread that grows by half is 5."""
MEMORIES_ROWS = np.array([256.0, 2048.0])
"""Memory of the two histograms: a short one for sudden changes, a long one for small ones."""
PRIOR_ROWS = 64.0
"""Uniform ranks that a histogram starts with, so that the first outlier wins nothing and the second
little."""
TAIL_BETS = ((2, 1 / 24), (3, 1 / 12))
"""Bets on a tail: the number of outermost groups on one side (1/256 and 1/64 of all ranks) and the share of
ranks bet on. New categories, missing values and values out of range become known after a while, so their
ranks do not stay at the very end, and a histogram learns about them too late."""
BETS = len(MEAN_BETS) + len(SPREAD_BETS) + 2 * len(TAIL_BETS) + len(MEMORIES_ROWS)

FINEST = 1024
"""All edges of groups are multiples of 1 / FINEST."""
_TAIL = np.array([1 / FINEST, 1 / 256, 1 / 64])
GROUP_EDGES = np.concatenate([_TAIL, np.arange(1, 16) / 16, 1 - _TAIL[::-1]])
"""Groups of ranks: sixteenths, with finer outer ones for values out of range, missing ones and new
categories."""
GROUPS = len(GROUP_EDGES) + 1
_GROUP_OF = np.searchsorted(GROUP_EDGES, np.arange(FINEST) / FINEST, side="right")
_BOUNDS = np.concatenate([[0.0], GROUP_EDGES, [1.0]])
_GROUP_SHARES = np.diff(_BOUNDS)
_GROUP_FIRSTS = (_BOUNDS[1:] + _BOUNDS[:-1]) / 2 - 0.5
_GROUP_SECONDS = np.diff((_BOUNDS - 0.5) ** 3) / (3 * _GROUP_SHARES)
"""Means of ``u - 1/2`` and of its square over each group."""


def _log_mean(bets: Values, of: Values, weights: Values) -> Values:
    """Return log E exp(bet f(U)) for uniform U, with f given at quadrature nodes; shape ``(n_bets,)``."""
    mean: Values = np.log((weights * np.exp(np.outer(bets, of))).sum(axis=1))
    return mean


_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(64))
"""Gauss-Legendre nodes and weights on [-1/2, 1/2]."""
_MEAN_COSTS = _log_mean(MEAN_BETS, _NODES, _WEIGHTS)
_SPREAD_COSTS = _log_mean(SPREAD_BETS, _NODES**2 - 1 / 12, _WEIGHTS)


def _tail_winnings() -> Values:
    """Return the log winnings of a rank in each group, by bet on a tail; shape ``(n_groups, n_bets)``."""
    columns = []
    for groups, share in TAIL_BETS:
        uniform = _GROUP_SHARES[:groups].sum()
        column = np.full(GROUPS, np.log((1 - share) / (1 - uniform)))
        column[:groups] = np.log(share / uniform)
        columns += [column, column[::-1]]
    return np.stack(columns, axis=1)


_TAIL_WINNINGS = _tail_winnings()


class Histogram:
    """Shares of recent ranks by group, for each stream and memory."""

    def __init__(self, weights: Values) -> None:
        """Start without ranks; a row of each stream counts with its weight ``(n_streams,)``.

        Where the values of a day are correlated, a histogram that learns at full weight within the day would
        bet on the correlation.
        """
        streams = len(weights)
        self._weights = weights.reshape(-1, 1, 1)
        self.seen = np.zeros((streams, len(MEMORIES_ROWS), GROUPS))
        self.log_ratios = np.zeros_like(self.seen)
        """Log ratio of the learned share to the uniform one: the log winnings of a rank in that group."""

    def learn(self, counts: npt.NDArray[np.int64]) -> None:
        """Learn from counts ``(n_streams, n_groups)``; only later bets use them."""
        rows = counts.sum(axis=1).reshape(-1, 1, 1) * self._weights
        decay = np.exp(-rows / MEMORIES_ROWS.reshape(1, -1, 1))
        self.seen = self.seen * decay + counts[:, None, :] * self._weights
        total = self.seen.sum(axis=2, keepdims=True) + PRIOR_ROWS
        self.log_ratios = np.log((self.seen + PRIOR_ROWS * _GROUP_SHARES) / (total * _GROUP_SHARES))

    def reset(self, stream: int) -> None:
        """Reset one stream."""
        self.seen[stream] = 0
        self.log_ratios[stream] = 0


def groups_of(ranks: Values) -> npt.NDArray[np.intp]:
    """Return the group of each rank."""
    groups: npt.NDArray[np.intp] = _GROUP_OF.take((ranks * FINEST).astype(np.intp))  # exact: a power of two
    return groups


def winnings_by_group(log_ratios: Values) -> Values:
    """Return the mean log winnings of a rank in each group, by bet, shape ``(BETS, GROUPS)``.

    Args:
        log_ratios: Those of the histograms of one stream, shape ``(n_memories, n_groups)``.
    """
    return np.concatenate(
        [
            np.outer(MEAN_BETS, _GROUP_FIRSTS) - _MEAN_COSTS[:, None],
            np.outer(SPREAD_BETS, _GROUP_SECONDS - 1 / 12) - _SPREAD_COSTS[:, None],
            _TAIL_WINNINGS.T,
            log_ratios,
        ]
    )


def shift_of_mean(bet: int, winnings: float) -> float:
    """Return the shift of the mean rank at which a bet of `MEAN_BETS` wins this on average."""
    return float((winnings + _MEAN_COSTS[bet]) / MEAN_BETS[bet])


def uniform_mean(winnings: Values) -> float:
    """Return the mean of winnings by group ``(n_groups,)`` while nothing changes."""
    return float(winnings @ _GROUP_SHARES)


def group_counts(ranks: Values, step_rows: int) -> npt.NDArray[np.int64]:
    """Count ranks ``(n_steps * step_rows, n_streams)`` by group; shape ``(n_steps, n_streams, n_groups)``."""
    rows, streams = ranks.shape
    steps = rows // step_rows
    groups = groups_of(ranks)
    step_and_stream = (np.arange(rows) // step_rows)[:, None] * streams + np.arange(streams)
    counted = np.bincount((step_and_stream * GROUPS + groups).ravel(), minlength=steps * streams * GROUPS)
    return counted.reshape(steps, streams, GROUPS)


def log_winnings(ranks: Values, counts: npt.NDArray[np.int64]) -> Values:
    """Return the log winnings of the bets on mean, spread and tails, by step.

    Args:
        ranks: Ranks of whole steps, shape ``(n_steps * step_rows, n_streams)``.
        counts: Their `group_counts`.

    Returns:
        Shape ``(n_steps, n_streams, n_bets)``.
    """
    step_rows = len(ranks) // max(len(counts), 1)
    centred = ranks.reshape(len(counts), step_rows, ranks.shape[1]) - 0.5
    firsts = centred.sum(axis=1)[:, :, None]
    seconds = (centred**2).sum(axis=1)[:, :, None] - step_rows / 12
    return np.concatenate(
        [
            firsts * MEAN_BETS - step_rows * _MEAN_COSTS,
            seconds * SPREAD_BETS - step_rows * _SPREAD_COSTS,
            counts @ _TAIL_WINNINGS,
        ],
        axis=2,
    )

"""Bets against "these ranks are uniform and independent", and how much they won. Pure.

A bet multiplies its stake by a factor whose mean is at most 1 while nothing changes. Means and spreads
are bet on by sums over a step, because ``exp(b sum(f(u)) - n log E exp(b f(U)))`` needs no more than the sum;
everything else by a histogram that learns (a plug-in, as in Shin, Ramdas and Rinaldo, section 4).
"""

import numpy as np
import numpy.typing as npt

from services.drift.detectors.protocol import Values

MEAN_BETS = np.array([0.4, 0.9, 1.8, 3.6, -0.4, -0.9, -1.8, -3.6])
"""A normal mean that moves by d standard deviations asks for 3.4 d: from an eighth to one."""
SPREAD_BETS = np.array([3.0, 8.0, -3.0, -8.0])
"""A spread that grows by half asks for 5."""
MEMORIES_ROWS = np.array([256.0, 2048.0])
"""Of the two histograms: one for what is sudden, one for what is small."""
PRIOR_ROWS = 64.0
"""As if so many uniform ranks had been seen: the first outlier wins nothing, the second little."""
TAIL_BETS = ((2, 1 / 24), (3, 1 / 12))
"""Outermost groups on one side, 1/256 and 1/64 of all ranks, and the share they are bet to have: new
categories, missing values and those out of range become known after a while, so their ranks do not stay at
the very end, and a histogram learns of them too late."""
BETS = len(MEAN_BETS) + len(SPREAD_BETS) + 2 * len(TAIL_BETS) + len(MEMORIES_ROWS)

FINEST = 1024
"""All edges of groups are multiples of 1 / this."""
_TAIL = np.array([1 / FINEST, 1 / 256, 1 / 64])
GROUP_EDGES = np.concatenate([_TAIL, np.arange(1, 16) / 16, 1 - _TAIL[::-1]])
"""Sixteenths, the outer ones finer: values out of range, missing ones and new categories stand there."""
GROUPS = len(GROUP_EDGES) + 1
_GROUP_OF = np.searchsorted(GROUP_EDGES, np.arange(FINEST) / FINEST, side="right")
_GROUP_SHARES = np.diff(np.concatenate([[0.0], GROUP_EDGES, [1.0]]))


def _log_mean(bets: Values, of: Values, weights: Values) -> Values:
    """Return log E exp(bet f(U)) for uniform U, f given at nodes with weights; shape ``(n_bets,)``."""
    mean: Values = np.log((weights * np.exp(np.outer(bets, of))).sum(axis=1))
    return mean


_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(64))
"""On [-1/2, 1/2]."""
_MEAN_COSTS = _log_mean(MEAN_BETS, _NODES, _WEIGHTS)
_SPREAD_COSTS = _log_mean(SPREAD_BETS, _NODES**2 - 1 / 12, _WEIGHTS)


def _tail_winnings() -> Values:
    """Return what a rank in each group wins by each bet on a tail: ``(n_groups, n_bets)``."""
    lines = []
    for groups, share in TAIL_BETS:
        known = _GROUP_SHARES[:groups].sum()
        line = np.full(GROUPS, np.log((1 - share) / (1 - known)))
        line[:groups] = np.log(share / known)
        lines += [line, line[::-1]]
    return np.stack(lines, axis=1)


_TAIL_WINNINGS = _tail_winnings()


class Histogram:
    """Shares of the ranks in groups as they were of late, by stream and memory."""

    def __init__(self, weights: Values) -> None:
        """Start without any. Of each stream ``(n_streams,)`` a row counts for so much of a row.

        Where values of a day are alike, a histogram that learnt within the day would bet on that.
        """
        streams = len(weights)
        self._weights = weights.reshape(-1, 1, 1)
        self.seen = np.zeros((streams, len(MEMORIES_ROWS), GROUPS))
        self.log_ratios = np.zeros_like(self.seen)
        """Of the learnt share to the uniform one: what a rank in that group wins."""

    def learn(self, counts: npt.NDArray[np.int64]) -> None:
        """Take counts of shape ``(n_streams, n_groups)``; later bets know them, those of the past do not."""
        rows = counts.sum(axis=1).reshape(-1, 1, 1) * self._weights
        kept = np.exp(-rows / MEMORIES_ROWS.reshape(1, -1, 1))
        self.seen = self.seen * kept + counts[:, None, :] * self._weights
        total = self.seen.sum(axis=2, keepdims=True) + PRIOR_ROWS
        self.log_ratios = np.log((self.seen + PRIOR_ROWS * _GROUP_SHARES) / (total * _GROUP_SHARES))

    def forget(self, stream: int) -> None:
        """Begin anew with one stream."""
        self.seen[stream] = 0
        self.log_ratios[stream] = 0


def group_counts(ranks: Values, step_rows: int) -> npt.NDArray[np.int64]:
    """Count ranks ``(n_steps * step_rows, n_streams)`` by group: ``(n_steps, n_streams, n_groups)``."""
    rows, streams = ranks.shape
    steps = rows // step_rows
    groups = _GROUP_OF.take((ranks * FINEST).astype(np.intp))  # exact: the factor is a power of two
    place = (np.arange(rows) // step_rows)[:, None] * streams + np.arange(streams)
    counted = np.bincount((place * GROUPS + groups).ravel(), minlength=steps * streams * GROUPS)
    return counted.reshape(steps, streams, GROUPS)


def log_winnings(ranks: Values, counts: npt.NDArray[np.int64]) -> Values:
    """Return what the bets on mean, spread and tails win in each step: ``(n_steps, n_streams, n_bets)``.

    The counts are the `group_counts` of the ranks.
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

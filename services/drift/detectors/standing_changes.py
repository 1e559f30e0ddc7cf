"""Changes that last: bets show that the values are back, as bets showed the change itself. Pure.

A change was found because the ranks since it began win a bet that unchanged ranks lose. Winnings are scaled
to [0, 1]. ``calm`` is their mean without a change, and ``margin`` is half of the difference that the change
made. The values are back when the mean winnings, given the past, are above ``calm - margin`` and below
``calm + margin``: an equivalence test of two one-sided tests (Schuirmann 1987), so values that changed in the
other direction are not back. Each side bets against its hypothesis (Podkopaev and Ramdas, arXiv 2110.06177).
For "the mean is at least ``limit = calm + margin``",

    L = (1 + b (limit - winnings)) ** (1 / D)

has a mean of at most 1 (D is the design effect), so stakes ``M <- (M + elapsed) L`` take at least the time A
on average to reach A, see `e_detector`. While at least half of the change lasts, it is taken for over at
most once in A.

Ranks are those among the counts *before* the change, which stay as they are: the reference, or, where there
is none (segments, seasons that the reference lacks), the own past.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from services.drift.binning.bin_search import BinIndices
from services.drift.binning.statistics import Counts
from services.drift.detectors import bets
from services.drift.detectors.e_detector import GAP_MS_MAX, LOG_STAKE_MAX
from services.drift.detectors.protocol import DetectedChange, TimesMs, Values, WinningBet
from services.drift.detectors.ranks import ROWS_COMPARED_MIN, Ranks, ranks_among

SIDES = np.array([[1.0], [-1.0]])
"""The hypotheses: winnings are above the upper limit, or below the lower one."""
SHARE_RISE_MIN = 0.01
"""Minimum rise of a share from which its margin follows."""
STAKE_MAX = 3.0
"""Maximum mean stake of a side in multiples of the patience, so that evidence of a time when the values were
elsewhere is soon lost: both sides must win at the same time."""
RETURN_BETS = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
"""Bets as shares of the largest bet whose stake cannot become negative."""


class Recovery(NamedTuple):
    """The values of a stream are as before its change."""

    stream: int


class StreamRows(NamedTuple):
    """Rows of one stream."""

    times_ms: TimesMs
    bins: BinIndices
    tie_breakers: Ranks
    seasons: BinIndices


class StandingChange(msgspec.Struct, array_like=True):
    """A change that lasts, with the evidence that the values are back. It is its own state in a snapshot."""

    stream: int
    kind: int
    """0: of ranks; else the number of the kind of values whose share rose, see `share_detector`."""
    before: bytes
    """Counts ``(n_seasons, n_bins)`` before the change of ranks."""
    weights: list[float]
    """Winnings of the bet that found it, by group of ranks, scaled to [0, 1]."""
    calm: float
    """Mean of these winnings without a change."""
    margin: float
    """Half of the difference that the change made."""
    stakes: list[list[float]]
    """Stakes by side, then by bet."""
    last_ms: int
    """Time of the last row that was compared."""

    @classmethod
    def of(cls, change: DetectedChange, before: Counts) -> "StandingChange":
        """Start without evidence that the values are back.

        Args:
            change: A change that a detector of ranks has found.
            before: The counts to compare with.
        """
        assert change.bet is not None, "the detector does not bet on ranks"
        scaled = _scaled(change.bet)
        return cls(change.stream, 0, before.tobytes(), *scaled, _no_stakes(), change.detected_at_ms)

    @classmethod
    def of_share(
        cls, change: DetectedChange, kind: int, share_before: float, share: float
    ) -> "StandingChange":
        """Start after the share of a kind of values rose.

        The share is that of a few rows, and a chance that found the change may have doubled it. So the margin
        is a quarter of the rise.
        """
        margin = max(share - share_before, SHARE_RISE_MIN) / 4
        return cls(change.stream, kind, b"", [], share_before, margin, _no_stakes(), change.detected_at_ms)

    def counts(self, bins: int) -> Counts:
        """Return the counts before the change, shape ``(n_seasons, bins)``."""
        return np.frombuffer(self.before, dtype=np.int64).reshape(-1, bins)

    def weigh(self, counts: Counts, rows: StreamRows) -> tuple[Values, TimesMs]:
        """Return the weights of rows and their times.

        Rows of seasons without counts are left out: nothing can be compared there.

        Args:
            counts: Those of `counts`, with more seasons if there are more by now.
            rows: Rows of this stream.
        """
        known = counts.sum(axis=1)[rows.seasons] >= ROWS_COMPARED_MIN
        ranks = ranks_among(counts, rows.bins[known], rows.tie_breakers[known], rows.seasons[known])
        return np.array(self.weights)[bets.groups_of(ranks)], rows.times_ms[known]

    def is_over(self, weights: Values, times_ms: TimesMs, power: float, patience_ms: float) -> bool:
        """Bet on rows that the values are back; tell whether the bets on both sides have won.

        Args:
            weights: Values in [0, 1], shape ``(n_rows,)``, whose mean the change has moved.
            times_ms: The event times of the rows.
            power: One over the design effect.
            patience_ms: Minimum mean time until a change that lasts is taken for over.
        """
        if not len(weights):
            return False
        end_ms = int(times_ms[-1])
        elapsed_ms = min(max(end_ms - self.last_ms, 0), GAP_MS_MAX)
        self.last_ms = max(self.last_ms, end_ms)
        stakes = (np.array(self.stakes) + elapsed_ms) * np.exp(self._log_won(weights) * power)
        self.stakes = limited(stakes, patience_ms)
        return have_won(self.stakes, patience_ms)

    def _log_won(self, weights: Values) -> Values:
        """Return the log winnings of the bets on weights ``(n_rows,)``, by side and bet."""
        limits = self.calm + SIDES * self.margin
        room = np.where(SIDES > 0, 1 - limits, limits)  # that a weight can lose
        below = SIDES[:, :, None] * (limits[:, :, None] - weights)
        staked = RETURN_BETS / np.maximum(room, 1e-9)
        log_won: Values = np.log1p(np.maximum(staked[:, :, None] * below, -RETURN_BETS[:, None])).sum(axis=2)
        return np.minimum(log_won, LOG_STAKE_MAX)


def _no_stakes() -> list[list[float]]:
    return [[0.0] * len(RETURN_BETS) for _ in SIDES]


def limited(stakes: Values, patience_ms: float) -> list[list[float]]:
    """Return stakes by side and bet, each side with a mean of at most `STAKE_MAX` times the patience."""
    means = np.maximum(stakes.mean(axis=1, keepdims=True), 1.0)
    found: list[list[float]] = (stakes * np.minimum(1.0, STAKE_MAX * patience_ms / means)).tolist()
    return found


def have_won(stakes: list[list[float]], patience_ms: float) -> bool:
    """Tell whether the mean stake of each side has reached the patience."""
    return all(sum(side) / len(side) >= patience_ms for side in stakes)


def _scaled(bet: WinningBet) -> tuple[list[float], float, float]:
    """Return winnings scaled to [0, 1], their mean without a change, and half of its difference."""
    winnings: Values = np.array(bet.winnings)
    low, span = float(winnings.min()), max(float(np.ptp(winnings)), 1e-9)
    calm = bets.uniform_mean(winnings)
    return ((winnings - low) / span).tolist(), (calm - low) / span, (max(bet.mean, 0.0) - calm) / 2 / span

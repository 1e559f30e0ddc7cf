"""Sequential detectors whose rate of false alarms is a parameter. Pure.

A stake that grows at a constant rate and is multiplied by fair bets is a Shiryaev-Roberts process (Shin,
Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", arXiv
2203.03532, definition 2.2):

    M <- (M + elapsed) L,   with E[L | past] <= 1 while nothing changes.

M minus the elapsed time is then a supermartingale, so by optional stopping the mean time until M >= A is at
least A (theorem 2.4). The elapsed time is in milliseconds, so A is in milliseconds, whatever the traffic. The
mean over several bets is such a process, too. With K streams, each has its threshold at K A: within a time T,
all of them together raise at most T / A false alarms on average, however they depend on each other.

The ranks are exactly uniform and independent if the values are exchangeable (`ranks.Ranking`). Values of one
day are not: one storm delays many flights. A sum over n such values has a variance that is larger by the
design effect D (Kish, "Survey Sampling", 1965), so the winnings are raised to the power 1 / D. For sums that
are nearly normal this is exactly fair again: ``E exp((b S - b^2 D n / 24) / D) = 1``. For independent values
it only loses power (Jensen's inequality). D is measured on blocks of the reference
(`services.monitoring.design_effect`); it does not cover effects that are rarer or longer than these blocks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

from services.drift.detectors import bets
from services.drift.detectors.protocol import DetectedChange, TimesMs, Values, WinningBet

STEP_ROWS = 16
"""Rows per step. Stakes are compared with the threshold once per step: alarms come 8 rows later on average,
for a sixteenth of the work."""
LEARN_STEPS = 4
"""Steps between two updates of the histograms."""
GAP_MS_MAX = 24 * 3_600_000
"""Maximum time added at once, so that a stream that was silent for a year raises no alarm by that alone."""
CANDIDATES_MAX = 64
"""Maximum candidates for the beginning of a change. At the limit, every second one is removed, so the
distance between candidates is about a fiftieth of the time covered."""
RANK_SHIFT_MIN = 0.05
"""A mean rank nearer to 0.50 than this is no change of level."""
TAIL_WEIGHT = 0.05
"""Share of the weight of all candidates that lies outside the interval of the beginning, on either side."""
LOG_STAKE_MAX = 600.0
"""Maximum log factor per step, so that a stake does not overflow; it has crossed any threshold long
before."""


class EDetectorState(msgspec.Struct, array_like=True):
    """The state of an `EDetector`; arrays as bytes."""

    stakes: bytes
    seen: bytes
    log_ratios: bytes
    learning: bytes
    log_won: bytes
    rank_sums: bytes
    candidates: list[tuple[int, int, bytes, bytes]]
    stride: int
    steps: int
    last_ms: int | None
    rows: list[bytes]
    row_times_ms: list[int]
    lowest: bytes = b""
    lowest_steps: bytes = b""


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(EDetectorState)


class ChangePointCandidate(NamedTuple):
    """A past moment at which a change may have begun, with the evidence up to then."""

    time_ms: int
    steps: int
    log_won: Values
    """Log winnings by stream and bet, since the last change of the stream."""
    rank_sums: Values
    """Sums of the ranks by stream, over all steps."""


class EDetector:
    """Bets that ranks are not uniform, on several streams; a `protocol.Detector`.

    Args:
        streams: Number of streams.
        threshold_ms: Minimum mean time between two false alarms of one stream.
        design_effects: How much more the values of a block vary together than independent ones, by stream,
            shape ``(streams,)``; default: 1, which is right for independent values.

    Examples:
        The ranks are uniform for 1,000 minutes; then large ones become more frequent.

        >>> random = np.random.default_rng(0)
        >>> ranks = np.concatenate([random.random(1000), random.random(1000) ** 0.5])
        >>> times_ms = np.arange(2000) * 60_000
        >>> detector = EDetector(streams=1, threshold_ms=30 * 24 * 3_600_000)
        >>> change = detector.update(ranks[:, None], times_ms)[0]
        >>> change.detected_at_ms // 60_000, change.since_ms // 60_000
        (1087, 1023)
        >>> round(change.effect, 2)
        0.67
    """

    judges_errors = False

    def __init__(self, streams: int, threshold_ms: float, design_effects: Values | None = None) -> None:
        """Start without evidence of a change."""
        self._streams = streams
        self._threshold_ms = threshold_ms
        powers = np.ones(streams) if design_effects is None else 1 / np.maximum(design_effects, 1)
        self._powers = powers[:, None]
        self.stakes = np.zeros((streams, bets.BETS))
        self.histogram = bets.Histogram(powers)
        self._learning = np.zeros((streams, bets.GROUPS), dtype=np.int64)
        self._log_won = np.zeros((streams, bets.BETS))
        self._lowest = np.zeros_like(self._log_won)
        self._lowest_steps = np.zeros(self._log_won.shape, dtype=np.int64)
        self._rank_sums = np.zeros(streams)
        self._candidates: list[ChangePointCandidate] = []
        self._stride = 1
        self._steps = 0
        self._last_ms: int | None = None
        self._rows: list[Values] = []
        self._row_times_ms: list[int] = []

    def update(self, values: Values, times_ms: TimesMs) -> list[DetectedChange]:
        """Process ranks of shape ``(n_rows, n_streams)``; see `protocol.Detector`."""
        ranks, times = values, times_ms
        if self._rows:
            ranks = np.concatenate([np.array(self._rows), values])
            times = np.concatenate([np.array(self._row_times_ms, dtype=np.int64), times_ms])
        whole = len(ranks) // STEP_ROWS * STEP_ROWS
        self._rows, self._row_times_ms = list(ranks[whole:]), times[whole:].tolist()
        if not whole:
            return []
        return self._process_steps(ranks[:whole], times[STEP_ROWS - 1 : whole : STEP_ROWS], int(times[0]))

    def _process_steps(self, ranks: Values, ends_ms: TimesMs, first_ms: int) -> list[DetectedChange]:
        if self._last_ms is None:
            self._last_ms = first_ms
            self._add_candidate(first_ms)
        counts = bets.group_counts(ranks, STEP_ROWS)
        fixed = bets.log_winnings(ranks, counts)
        sums = ranks.reshape(len(counts), STEP_ROWS, self._streams).sum(axis=1)
        steps_before = self._steps
        changes: list[DetectedChange] = []
        step = 0
        while step < len(counts):
            stop = min(len(counts), step + LEARN_STEPS - self._steps % LEARN_STEPS)
            part = slice(step, stop)
            changes += self._process_until_learning(
                counts[part], fixed[part], sums[part], ends_ms[part].tolist()
            )
            step = self._steps - steps_before
        return changes

    def _process_until_learning(
        self, counts: npt.NDArray[np.int64], fixed: Values, sums: Values, ends_ms: Sequence[int]
    ) -> list[DetectedChange]:
        """Process steps between two updates of the histograms; stop after a step with a change."""
        learned = np.einsum("tsg,smg->tsm", counts, self.histogram.log_ratios)
        won = np.concatenate([fixed, learned], axis=2) * self._powers
        factors = np.exp(np.minimum(won, LOG_STAKE_MAX))
        for step, end_ms in enumerate(ends_ms):
            self._rank_sums += sums[step]
            self._multiply_stakes(won[step], factors[step], end_ms)
            changes = self._changes(end_ms)
            self._learn(counts[step])
            if changes:  # the histogram of that stream is reset, so later steps have other winnings
                return changes
        return []

    def _multiply_stakes(self, log_won: Values, factors: Values, end_ms: int) -> None:
        assert self._last_ms is not None
        elapsed_ms = min(max(end_ms - self._last_ms, 0), GAP_MS_MAX)
        self._last_ms = max(self._last_ms, end_ms)
        self.stakes += elapsed_ms
        self.stakes *= factors
        self._log_won += log_won
        self._steps += 1
        np.putmask(self._lowest_steps, self._log_won <= self._lowest, self._steps)
        np.minimum(self._lowest, self._log_won, out=self._lowest)
        if self._steps % self._stride == 0:
            self._add_candidate(end_ms)

    def _add_candidate(self, now_ms: int) -> None:
        self._candidates.append(
            ChangePointCandidate(now_ms, self._steps, self._log_won.copy(), self._rank_sums.copy())
        )
        if len(self._candidates) > CANDIDATES_MAX:
            del self._candidates[1::2]
            self._stride *= 2

    def _learn(self, counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
        self._learning += counts
        if self._steps % LEARN_STEPS == 0:
            self.histogram.learn(self._learning)
            self._learning[:] = 0

    def _changes(self, now_ms: int) -> list[DetectedChange]:
        values = np.add.reduce(self.stakes, axis=1) / bets.BETS
        if values.max() < self._threshold_ms:
            return []
        return [
            self._change(int(stream), float(values[stream]), now_ms)
            for stream in np.flatnonzero(values >= self._threshold_ms)
        ]

    def _change(self, stream: int, value: float, now_ms: int) -> DetectedChange:
        """Date the change by the bet with the largest stake, then reset this stream.

        M is the sum, over all possible beginnings, of the winnings of a bet made from there on. The part of a
        beginning in this sum is its weight: its posterior probability if every moment since the last change
        is equally likely a priori.
        """
        bet = int(np.argmax(self.stakes[stream]))
        moments = np.array([each.time_ms for each in self._candidates] + [now_ms], dtype=np.float64)
        before = np.array([each.log_won[stream, bet] for each in self._candidates])
        weights = special.softmax(-before + np.log(np.maximum(np.diff(moments), 1.0)))
        cumulated = np.cumsum(weights)
        low, middle, high = (
            int(np.searchsorted(cumulated, share)) for share in (TAIL_WEIGHT, 0.5, 1 - TAIL_WEIGHT)
        )
        high = min(high, len(before) - 1)
        change = DetectedChange(
            stream,
            now_ms,
            int(moments[middle]),
            int(moments[low]),
            int(moments[high + 1]),
            value,
            self._threshold_ms,
            self._mean_rank_since(self._candidates[middle], stream),
            self._winning_bet(stream),
        )
        self._reset(stream, now_ms)
        return change

    def reset(self, stream: int) -> None:
        """Start again with a stream, from now on; its rows that wait for a whole step count as unchanged."""
        if self._last_ms is not None:
            self._reset(stream, self._last_ms)
        self._rows = [row.copy() for row in self._rows]
        for number, row in enumerate(self._rows):
            row[stream] = (number + 0.5) / len(self._rows)

    def _winning_bet(self, stream: int) -> WinningBet:
        """Return the bet with the largest stake, or, after a change of level, the one on the mean.

        Winnings count from the lowest point of the bet (Hinkley 1970), which is exact where candidates are
        far apart. The mean tells whether the values are back on both sides; a tail knows one side only.
        """
        rows = np.maximum(self._steps - self._lowest_steps[stream], 1) * STEP_ROWS
        mean = (self._log_won[stream] - self._lowest[stream]) / self._powers[stream] / rows
        bet = int(np.argmax(self.stakes[stream, : len(bets.MEAN_BETS)]))
        if abs(bets.shift_of_mean(bet, float(mean[bet]))) < RANK_SHIFT_MIN:
            bet = int(np.argmax(self.stakes[stream]))
        winnings = bets.winnings_by_group(self.histogram.log_ratios[stream])[bet]
        return WinningBet(tuple(winnings.tolist()), float(mean[bet]))

    def _mean_rank_since(self, candidate: ChangePointCandidate, stream: int) -> float | None:
        rows = (self._steps - candidate.steps) * STEP_ROWS
        return float(self._rank_sums[stream] - candidate.rank_sums[stream]) / rows if rows else None

    def _reset(self, stream: int, now_ms: int) -> None:
        self.stakes[stream] = 0
        self.histogram.reset(stream)
        self._learning[stream] = 0
        for candidate in self._candidates:
            candidate.log_won[stream] = np.inf  # no change begins before the last one
        self._log_won[stream] = self._lowest[stream] = 0
        self._lowest_steps[stream] = self._steps
        if self._candidates[-1].steps != self._steps:
            self._add_candidate(now_ms)
        self._candidates[-1].log_won[stream] = 0

    def state(self) -> bytes:
        """Return the complete state, which `restore` takes."""
        histogram = self.histogram
        return _ENCODER.encode(
            EDetectorState(
                self.stakes.tobytes(),
                histogram.seen.tobytes(),
                histogram.log_ratios.tobytes(),
                self._learning.tobytes(),
                self._log_won.tobytes(),
                self._rank_sums.tobytes(),
                [
                    (each.time_ms, each.steps, each.log_won.tobytes(), each.rank_sums.tobytes())
                    for each in self._candidates
                ],
                self._stride,
                self._steps,
                self._last_ms,
                [row.tobytes() for row in self._rows],
                self._row_times_ms,
                self._lowest.tobytes(),
                self._lowest_steps.tobytes(),
            )
        )

    def restore(self, state: bytes) -> None:
        """Continue from a state.

        Raises:
            ValueError: The state has another number of streams.
        """
        decoded = _DECODER.decode(state)
        of_bets = (self._streams, bets.BETS)
        self.stakes = _array(decoded.stakes, of_bets)
        self.histogram.seen = _array(decoded.seen, self.histogram.seen.shape)
        self.histogram.log_ratios = _array(decoded.log_ratios, self.histogram.seen.shape)
        self._learning = np.frombuffer(decoded.learning, dtype=np.int64).reshape(self._learning.shape).copy()
        self._log_won = _array(decoded.log_won, of_bets)
        self._rank_sums = _array(decoded.rank_sums, (self._streams,))
        self._candidates = [
            ChangePointCandidate(time_ms, steps, _array(won, of_bets), _array(sums, (self._streams,)))
            for time_ms, steps, won, sums in decoded.candidates
        ]
        self._stride, self._steps, self._last_ms = decoded.stride, decoded.steps, decoded.last_ms
        self._rows = [_array(row, (self._streams,)) for row in decoded.rows]
        self._row_times_ms = list(decoded.row_times_ms)
        self._lowest, self._lowest_steps = self._log_won.copy(), np.full(of_bets, self._steps)
        if decoded.lowest:
            self._lowest = _array(decoded.lowest, of_bets)
            self._lowest_steps = np.frombuffer(decoded.lowest_steps, np.int64).reshape(of_bets).copy()


def _array(raw: bytes, shape: tuple[int, ...]) -> Values:
    return np.frombuffer(raw, dtype=np.float64).reshape(shape).copy()

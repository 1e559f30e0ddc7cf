"""Detectors whose rate of false alarms is a setting. Pure.

A stake that is added to at a constant rate and multiplied by fair bets is a Shiryaev-Roberts process
(Shin, Ramdas and Rinaldo, "E-detectors", arXiv 2203.03532, definition 2.2):

    M <- (M + elapsed) L,   with E[L | past] <= 1 while nothing changes.

M minus the time elapsed is then a supermartingale, so by optional stopping the mean time until M >= A
is at least A (theorem 2.4). Milliseconds are put in, so A is in milliseconds, whatever the traffic. The
mean over several bets is such a process again. Of K streams each has its threshold at K A: in a time T
all of them together raise at most T / A false alarms on average, however they depend on each other.

The ranks that go in are exactly uniform and independent if values are exchangeable (`ranks.Ranking`).
Values of one day are not: one storm is many late flights. Then a sum over n values has a variance that is
larger by the design effect D (Kish, "Survey Sampling", 1965), and the winnings are taken to the power 1 / D.
For sums that are near normal this is exactly fair again, ``E exp((b S - b^2 D n / 24) / D) = 1``; for
independent values it gives away power and nothing else (Jensen). D is measured on blocks of the reference
(`services.retraining.design_effect`); what is rarer or longer than its blocks is not in it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

from services.drift.detectors import bets
from services.drift.detectors.protocol import DetectedChange, TimesMs, Values

STEP_ROWS = 16
"""Rows between two looks at the stakes: alarms come 8 rows later on average, for a sixteenth of the work."""
LEARN_STEPS = 4
"""Steps between two updates of the histograms."""
GAP_MS_MAX = 24 * 3_600_000
"""Time put in at once: a stream that was silent for a year must not win by that alone."""
MARKS_MAX = 64
"""Past moments among which the beginning of a change is looked for. When they are full, every second one
goes: their distance stays about a fiftieth of the time looked back on."""
BEGIN_SHARE = 0.05
"""Of the weight of all possible beginnings, left out on either side of the interval."""
LOG_STAKE_MAX = 600.0
"""Beyond e to the power of this a stake would overflow; it crossed any threshold long before."""


class EDetectorState(msgspec.Struct, array_like=True):
    """All that an `EDetector` knows; arrays as their bytes."""

    stakes: bytes
    seen: bytes
    log_ratios: bytes
    learning: bytes
    log_won: bytes
    rank_sums: bytes
    marks: list[tuple[int, int, bytes, bytes]]
    stride: int
    steps: int
    last_ms: int | None
    rows: list[bytes]
    row_times_ms: list[int]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(EDetectorState)


class ChangePointCandidate(NamedTuple):
    """How things stood at one moment of the past."""

    time_ms: int
    steps: int
    log_won: Values
    """By stream and bet, since the last change."""
    rank_sums: Values
    """By stream, over all steps."""


class EDetector:
    """Bets that ranks are not uniform, on several streams at once; a `detection.Detector`."""

    judges_errors = False

    def __init__(self, streams: int, threshold_ms: float, design_effects: Values | None = None) -> None:
        """Start calm. The threshold is the mean time between false alarms of each single stream, at least."""
        self._streams = streams
        self._threshold_ms = threshold_ms
        powers = np.ones(streams) if design_effects is None else 1 / np.maximum(design_effects, 1)
        self._powers = powers[:, None]
        self.stakes = np.zeros((streams, bets.BETS))
        self.histogram = bets.Histogram(powers)
        self._learning = np.zeros((streams, bets.GROUPS), dtype=np.int64)
        self._log_won = np.zeros((streams, bets.BETS))
        self._rank_sums = np.zeros(streams)
        self._marks: list[ChangePointCandidate] = []
        self._stride = 1
        self._steps = 0
        self._last_ms: int | None = None
        self._rows: list[Values] = []
        self._row_times_ms: list[int] = []

    def update(self, values: Values, times_ms: TimesMs) -> list[DetectedChange]:
        """Take ranks of shape ``(n_rows, n_streams)``; see `detection.Detector`."""
        ranks, times = values, times_ms
        if self._rows:
            ranks = np.concatenate([np.array(self._rows), values])
            times = np.concatenate([np.array(self._row_times_ms, dtype=np.int64), times_ms])
        whole = len(ranks) // STEP_ROWS * STEP_ROWS
        self._rows, self._row_times_ms = list(ranks[whole:]), times[whole:].tolist()
        if not whole:
            return []
        return self._steps_of(ranks[:whole], times[STEP_ROWS - 1 : whole : STEP_ROWS], int(times[0]))

    def _steps_of(self, ranks: Values, ends_ms: TimesMs, first_ms: int) -> list[DetectedChange]:
        if self._last_ms is None:
            self._last_ms = first_ms
            self._mark(first_ms)
        counts = bets.group_counts(ranks, STEP_ROWS)
        fixed = bets.log_winnings(ranks, counts)
        sums = ranks.reshape(len(counts), STEP_ROWS, self._streams).sum(axis=1)
        begun = self._steps
        changes: list[DetectedChange] = []
        step = 0
        while step < len(counts):
            stop = min(len(counts), step + LEARN_STEPS - self._steps % LEARN_STEPS)
            now = slice(step, stop)
            found = self._steps_alike(counts[now], fixed[now], sums[now], ends_ms[now].tolist())
            changes += found
            step = self._steps - begun
        return changes

    def _steps_alike(
        self, counts: npt.NDArray[np.int64], fixed: Values, sums: Values, ends_ms: Sequence[int]
    ) -> list[DetectedChange]:
        """Take steps between which the histograms learn nothing; stop early behind a change."""
        learnt = np.einsum("tsg,smg->tsm", counts, self.histogram.log_ratios)
        won = np.concatenate([fixed, learnt], axis=2) * self._powers
        factors = np.exp(np.minimum(won, LOG_STAKE_MAX))
        for step, end_ms in enumerate(ends_ms):
            self._rank_sums += sums[step]
            self._step(won[step], factors[step], end_ms)
            changes = self._crossed(end_ms)
            self._learn(counts[step])
            if changes:  # what was learnt of that stream is forgotten, so the rest wins something else
                return changes
        return []

    def _step(self, log_won: Values, factors: Values, end_ms: int) -> None:
        assert self._last_ms is not None
        elapsed_ms = min(max(end_ms - self._last_ms, 0), GAP_MS_MAX)
        self._last_ms = max(self._last_ms, end_ms)
        self.stakes += elapsed_ms
        self.stakes *= factors
        self._log_won += log_won
        self._steps += 1
        if self._steps % self._stride == 0:
            self._mark(end_ms)

    def _mark(self, now_ms: int) -> None:
        self._marks.append(
            ChangePointCandidate(now_ms, self._steps, self._log_won.copy(), self._rank_sums.copy())
        )
        if len(self._marks) > MARKS_MAX:
            del self._marks[1::2]
            self._stride *= 2

    def _learn(self, counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
        self._learning += counts
        if self._steps % LEARN_STEPS == 0:
            self.histogram.learn(self._learning)
            self._learning[:] = 0

    def _crossed(self, now_ms: int) -> list[DetectedChange]:
        values = np.add.reduce(self.stakes, axis=1) / bets.BETS
        if values.max() < self._threshold_ms:
            return []
        return [
            self._change(int(stream), float(values[stream]), now_ms)
            for stream in np.flatnonzero(values >= self._threshold_ms)
        ]

    def _change(self, stream: int, value: float, now_ms: int) -> DetectedChange:
        """Date the change by the bet that won most, then begin anew with this stream.

        M is the sum over all beginnings of what a bet from there on has won, so each beginning's part of
        the sum is its weight: the posterior under equal chances for every moment since the last change.
        """
        bet = int(np.argmax(self.stakes[stream]))
        moments = np.array([mark.time_ms for mark in self._marks] + [now_ms], dtype=np.float64)
        before = np.array([mark.log_won[stream, bet] for mark in self._marks])
        weights = special.softmax(-before + np.log(np.maximum(np.diff(moments), 1.0)))
        reached = np.cumsum(weights)
        low, middle, high = (
            int(np.searchsorted(reached, share)) for share in (BEGIN_SHARE, 0.5, 1 - BEGIN_SHARE)
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
            self._mean_rank_since(self._marks[middle], stream),
        )
        self._begin(stream, now_ms)
        return change

    def _mean_rank_since(self, mark: ChangePointCandidate, stream: int) -> float | None:
        rows = (self._steps - mark.steps) * STEP_ROWS
        return float(self._rank_sums[stream] - mark.rank_sums[stream]) / rows if rows else None

    def _begin(self, stream: int, now_ms: int) -> None:
        self.stakes[stream] = 0
        self.histogram.forget(stream)
        self._learning[stream] = 0
        for mark in self._marks:
            mark.log_won[stream] = np.inf  # no change begins before the last one
        self._log_won[stream] = 0
        if self._marks[-1].steps != self._steps:
            self._mark(now_ms)
        self._marks[-1].log_won[stream] = 0

    def state(self) -> bytes:
        """Return what `restore` takes."""
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
                    (mark.time_ms, mark.steps, mark.log_won.tobytes(), mark.rank_sums.tobytes())
                    for mark in self._marks
                ],
                self._stride,
                self._steps,
                self._last_ms,
                [row.tobytes() for row in self._rows],
                self._row_times_ms,
            )
        )

    def restore(self, state: bytes) -> None:
        """Go on from a state; raise `ValueError` if it is of another number of streams."""
        found = _DECODER.decode(state)
        of_bets = (self._streams, bets.BETS)
        self.stakes = _array(found.stakes, of_bets)
        self.histogram.seen = _array(found.seen, self.histogram.seen.shape)
        self.histogram.log_ratios = _array(found.log_ratios, self.histogram.seen.shape)
        self._learning = np.frombuffer(found.learning, dtype=np.int64).reshape(self._learning.shape).copy()
        self._log_won = _array(found.log_won, of_bets)
        self._rank_sums = _array(found.rank_sums, (self._streams,))
        self._marks = [
            ChangePointCandidate(time_ms, steps, _array(won, of_bets), _array(sums, (self._streams,)))
            for time_ms, steps, won, sums in found.marks
        ]
        self._stride, self._steps, self._last_ms = found.stride, found.steps, found.last_ms
        self._rows = [_array(row, (self._streams,)) for row in found.rows]
        self._row_times_ms = list(found.row_times_ms)


def _array(raw: bytes, shape: tuple[int, ...]) -> Values:
    return np.frombuffer(raw, dtype=np.float64).reshape(shape).copy()


class HarmDetector:
    """Bets that losses are above a limit in the mean; a `detection.Detector`, of values in [0, 1].

    Tests harm, not change (Podkopaev and Ramdas, "Tracking the risk of a deployed model", arXiv 2110.06177):
    ``L = 1 + bet (loss - limit)`` has a mean of at most 1 as long as the loss, given the past, is
    at most the limit. Nothing is assumed of its distribution, and a loss that falls wins nothing. The losses
    of one storm are alike; winnings are taken to the power of 1 / D, as above.
    """

    judges_errors = False
    BETS = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
    """Times 1 / limit, the most that no loss can turn into a debt."""

    def __init__(self, limit: float, threshold_ms: float, design_effect: float = 1.0) -> None:
        """Start calm; the limit is in (0, 1), the design effect that of the losses of a block."""
        self._power = 1 / max(design_effect, 1.0)
        bounded = min(max(limit, 1e-9), 1 - 1e-9)
        self._limit = bounded
        self._bets = self.BETS / bounded
        self._threshold_ms = threshold_ms
        self._stakes = np.zeros(len(self.BETS))
        self._lowest = np.zeros(len(self.BETS))
        self._log_won = np.zeros(len(self.BETS))
        self._since_ms = np.zeros(len(self.BETS), dtype=np.int64)
        self._last_ms: int | None = None

    def update(self, values: Values, times_ms: TimesMs) -> list[DetectedChange]:
        """Take losses ``(n_rows, 1)``."""
        return [
            change
            for loss, time_ms in zip(values[:, 0].tolist(), times_ms.tolist(), strict=True)
            if (change := self.add(loss, time_ms)) is not None
        ]

    def add(self, loss: float, time_ms: int) -> DetectedChange | None:
        """Take one loss."""
        if self._last_ms is None:
            self._last_ms = time_ms
            self._since_ms[:] = time_ms
        elapsed_ms = min(max(time_ms - self._last_ms, 0), GAP_MS_MAX)
        self._last_ms = max(time_ms, self._last_ms)
        factors = (1 + self._bets * (min(max(loss, 0.0), 1.0) - self._limit)) ** self._power
        self._stakes = (self._stakes + elapsed_ms) * factors
        self._log_won += np.log(factors)
        fallen = self._log_won <= self._lowest
        self._lowest[fallen] = self._log_won[fallen]
        self._since_ms[fallen] = self._last_ms
        value = float(self._stakes.mean())
        return self._change(value) if value >= self._threshold_ms else None

    def _change(self, value: float) -> DetectedChange:
        """Date it by the lowest point of each bet (Hinkley 1970); their range is the interval."""
        assert self._last_ms is not None
        since_ms = int(self._since_ms[np.argmax(self._stakes)])
        change = DetectedChange(
            0,
            self._last_ms,
            since_ms,
            int(self._since_ms.min()),
            int(self._since_ms.max()),
            value,
            self._threshold_ms,
        )
        for array in (self._stakes, self._lowest, self._log_won):
            array[:] = 0
        self._since_ms[:] = self._last_ms
        return change

    def state(self) -> bytes:
        """Return what `restore` takes."""
        arrays = [each.tolist() for each in (self._stakes, self._lowest, self._log_won, self._since_ms)]
        return _ENCODER.encode((*arrays, self._last_ms))

    def restore(self, state: bytes) -> None:
        """Go on from a state."""
        *arrays, self._last_ms = msgspec.msgpack.decode(state)
        self._stakes, self._lowest, self._log_won = (np.array(each) for each in arrays[:3])
        self._since_ms = np.array(arrays[3], dtype=np.int64)

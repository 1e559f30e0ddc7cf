"""Detects changes in the rank correlations of features; the features themselves may be unchanged. Pure.

For each pair of features, bets are made that the rank correlation of the latest rows differs from that of all
known rows: those of the reference and those since. `correlation_differences` bounds a difference d by its
variance v and by c, the largest effect of one row. Differences of later rows from all earlier ones are
uncorrelated with d, so the sampling error of a finite reference is part of v and is not counted again.

A bet on a difference wins ``exp(l d - l^2 v / (2 (1 - c l)))``, with a mean of at most 1 while nothing
changes. Stakes grow as in `e_detector`, and their mean over all pairs is one stream of the alarm budget.
"""

import dataclasses
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.detectors.correlation_differences import Differences, pair_effects
from services.drift.detectors.e_detector import GAP_MS_MAX, LOG_STAKE_MAX
from services.drift.detectors.protocol import DetectedChange, TimesMs
from services.drift.detectors.standing_changes import have_won, limited
from services.monitoring.rank_correlation import Moments, Numbers, Scores

STEP_ROWS = 256
"""Rows compared at once with all known rows; correlations of fewer rows are too noisy."""
DIFFERENCES = np.array([0.1, 0.2, 0.4, 0.8, -0.1, -0.2, -0.4, -0.8])
"""Differences of correlations that are bet on."""
ROWS_KNOWN_MIN = 100
"""No bets are made before this number of rows is known."""
RETURNS = np.array([0.05, 0.1, 0.2, 0.4])
"""Distances below the limit of a change that lasts that are bet on: half of `DIFFERENCES`."""


class StandingPair(msgspec.Struct, array_like=True):
    """A pair whose change lasts, with the evidence that its correlation is back."""

    pair: int
    """Index among all pairs."""
    limit: float
    """Half the difference that was bet on, with its sign."""
    stakes: list[list[float]]
    """Stakes by side, then by bet of `RETURNS`; see `standing_changes`."""


class PairDetectorState(msgspec.Struct, array_like=True):
    """The state of a `PairDetector`; arrays as bytes."""

    rows_known: int
    sums: bytes
    products: bytes
    squares: bytes
    stakes: bytes
    log_won: bytes
    lowest: bytes
    since_ms: bytes
    last_ms: int | None
    buffered: bytes
    buffered_times_ms: list[int]
    standing: list[StandingPair] = []


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(PairDetectorState)


@dataclasses.dataclass(frozen=True)
class PairChange:
    """The correlation of two features has changed."""

    change: DetectedChange
    """The change, with stream 0 and without an effect."""
    first: int
    """Index of the first feature."""
    second: int
    correlation_before: float
    correlation: float
    """Rank correlation of the latest rows."""


@dataclasses.dataclass(frozen=True)
class PairRecovery:
    """The correlation of two features is as in the reference again."""

    first: int
    second: int


class PairDetector:
    """Bets that the rank correlation of some pair of features has changed; one stream of the alarm budget.

    A change of a pair lasts until bets show that the correlation differs from that of the reference by less
    than half of the change, on either side (see `standing_changes`). While a change lasts, there are no bets
    on another change of the same pair.

    Args:
        known: The moments of the reference.
        threshold_ms: Minimum mean time between two false alarms.
        design_effects: The design effects of the features, shape ``(n_features,)``.
        patience_ms: Minimum mean time until a change that lasts is taken for over; default:
            ``threshold_ms``.
        measured: The design effects of the products, see `pair_effects`.

    Examples:
        Two features are independent in the reference and for 2,000 minutes; then they are equal.

        >>> random = np.random.default_rng(0)
        >>> reference = Moments.none(2)
        >>> reference.add(random.integers(-100, 101, (5000, 2)))
        >>> independent, one = random.integers(-100, 101, (2000, 2)), random.integers(-100, 101, (2000, 1))
        >>> scores = np.concatenate([independent, np.repeat(one, 2, axis=1)]).astype(np.int8)
        >>> detector = PairDetector(reference, threshold_ms=30 * 24 * 3_600_000, design_effects=np.ones(2))
        >>> row, found = detector.update(scores, np.arange(4000) * 60_000)[0]
        >>> row, round(abs(found.correlation_before), 1), round(found.correlation, 1)
        (2303, 0.0, 1.0)
    """

    def __init__(
        self,
        known: Moments,
        threshold_ms: float,
        design_effects: Numbers,
        patience_ms: float | None = None,
        measured: Sequence[float] = (),
    ) -> None:
        """Start without evidence of a change."""
        self._patience_ms = threshold_ms if patience_ms is None else patience_ms
        self._reference = known
        self._known = known.copy()
        self._threshold_ms = threshold_ms
        features = len(known.sums)
        self._first, self._second = np.triu_indices(features, 1)
        self._effects = pair_effects(design_effects, measured)
        self._stakes = np.zeros((len(self._first), len(DIFFERENCES)))
        self._log_won = np.zeros_like(self._stakes)
        self._lowest = np.zeros_like(self._stakes)
        self._since_ms = np.zeros(self._stakes.shape, dtype=np.int64)
        self._last_ms: int | None = None
        self._standing: dict[int, StandingPair] = {}
        self._buffered: Scores = np.zeros((0, features), dtype=np.int8)
        self._buffered_times_ms: TimesMs = np.zeros(0, dtype=np.int64)

    @property
    def standing(self) -> list[tuple[int, int]]:
        """The pairs whose change lasts, each as the indices of both features."""
        return [(int(self._first[pair]), int(self._second[pair])) for pair in self._standing]

    def update(self, scores: Scores, times_ms: TimesMs) -> list[tuple[int, PairChange | PairRecovery]]:
        """Process rank scores ``(n_rows, n_features)``; return changes and recoveries.

        Each has the index of the row that showed it.
        """
        if not len(self._first):
            return []
        buffered = len(self._buffered)
        scores = np.concatenate([self._buffered, scores], dtype=np.int8, casting="same_kind")
        times_ms = np.concatenate([self._buffered_times_ms, times_ms])
        found: list[tuple[int, PairChange | PairRecovery]] = []
        whole = len(scores) // STEP_ROWS * STEP_ROWS
        for start in range(0, whole, STEP_ROWS):
            step = slice(start, start + STEP_ROWS)
            changes = self._process_step(scores[step], int(times_ms[start]), int(times_ms[step][-1]))
            found += [(start + STEP_ROWS - 1 - buffered, change) for change in changes]
        self._buffered, self._buffered_times_ms = scores[whole:], times_ms[whole:]
        return found

    def _process_step(self, scores: Scores, first_ms: int, end_ms: int) -> list[PairChange | PairRecovery]:
        if self._last_ms is None:
            self._last_ms = first_ms
            self._since_ms[:] = first_ms
        elapsed_ms = min(max(end_ms - self._last_ms, 0), GAP_MS_MAX)
        self._last_ms = max(end_ms, self._last_ms)
        latest = Moments.none(scores.shape[1])
        latest.add(scores)
        if self._known.rows < ROWS_KNOWN_MIN:
            self._known.merge(latest)
            return []
        recovered = self._recovered(latest, elapsed_ms) if self._standing else []
        differences = Differences.between(self._known, latest, self._effects)
        log_won = self._log_winnings(differences)
        self._stakes = (self._stakes + elapsed_ms) * np.exp(np.minimum(log_won, LOG_STAKE_MAX))
        self._stakes[list(self._standing)] = 0
        self._log_won += log_won
        lower = self._log_won <= self._lowest
        self._lowest[lower] = self._log_won[lower]
        self._since_ms[lower] = self._last_ms
        value = float(self._stakes.mean())
        change = self._change(value, differences) if value >= self._threshold_ms else None
        self._known.merge(latest)
        if change is not None or recovered:
            self._reset()
        return [*recovered, *([] if change is None else [change])]

    def _recovered(self, latest: Moments, elapsed_ms: int) -> list[PairRecovery]:
        """Bet that the pairs whose change lasts are as in the reference; end those that are."""
        differences = Differences.between(self._reference, latest, self._effects)
        for each in self._standing.values():
            spread, bound = differences.spread[each.pair], differences.bound[each.pair]
            change = np.sign(each.limit) * (differences.latest - differences.known)[each.pair]
            inside = abs(each.limit) + np.array([[-change], [change]])
            stake = RETURNS / (spread + bound * RETURNS)
            log_won = stake * inside - stake**2 * spread / (2 * (1 - bound * stake))
            stakes = (np.array(each.stakes) + elapsed_ms) * np.exp(np.minimum(log_won, LOG_STAKE_MAX))
            each.stakes = limited(stakes, self._patience_ms)
        over = [each.pair for each in self._standing.values() if have_won(each.stakes, self._patience_ms)]
        for pair in over:
            del self._standing[pair]
        return [PairRecovery(int(self._first[pair]), int(self._second[pair])) for pair in over]

    def _log_winnings(self, differences: "Differences") -> Numbers:
        """Return the log winnings of each bet on each pair, shape ``(n_pairs, n_bets)``."""
        size = np.abs(DIFFERENCES)
        spread, bound = differences.spread[:, None], differences.bound[:, None]
        stake = size / (spread + bound * size)
        cost = stake**2 * spread / (2 * (1 - bound * stake))
        won: Numbers = stake * np.sign(DIFFERENCES) * (differences.latest - differences.known)[:, None] - cost
        return np.where(differences.varying[:, None], won, 0.0)

    def _change(self, value: float, differences: "Differences") -> PairChange:
        """Date the change by the lowest points of the bets on the pair that won most (Hinkley 1970)."""
        assert self._last_ms is not None
        pair, bet = np.unravel_index(int(np.argmax(self._stakes)), self._stakes.shape)
        self._standing[int(pair)] = StandingPair(
            int(pair), float(DIFFERENCES[bet]) / 2, [[0.0] * len(RETURNS)] * 2
        )
        of_sign = np.sign(DIFFERENCES) == np.sign(DIFFERENCES[bet])
        since_ms = self._since_ms[pair, of_sign]
        change = DetectedChange(
            0,
            self._last_ms,
            int(self._since_ms[pair, bet]),
            int(since_ms.min()),
            int(since_ms.max()),
            value,
            self._threshold_ms,
        )
        return PairChange(
            change,
            int(self._first[pair]),
            int(self._second[pair]),
            float(differences.known[pair]),
            float(differences.latest[pair]),
        )

    def _reset(self) -> None:
        """Start again from the reference."""
        self._known = self._reference.copy()
        for array in (self._stakes, self._log_won, self._lowest):
            array[:] = 0
        self._since_ms[:] = self._last_ms or 0

    def state(self) -> bytes:
        """Return the complete state, which `restore` takes."""
        known = self._known
        return _ENCODER.encode(
            PairDetectorState(
                known.rows,
                known.sums.tobytes(),
                known.products.tobytes(),
                known.squares.tobytes(),
                self._stakes.tobytes(),
                self._log_won.tobytes(),
                self._lowest.tobytes(),
                self._since_ms.tobytes(),
                self._last_ms,
                self._buffered.tobytes(),
                self._buffered_times_ms.tolist(),
                list(self._standing.values()),
            )
        )

    def restore(self, state: bytes) -> None:
        """Continue from a state.

        Raises:
            ValueError: The state has another number of features.
        """
        decoded = _DECODER.decode(state)
        known, pairs = self._known, self._stakes.shape
        self._known = Moments(
            decoded.rows_known,
            _integers(decoded.sums, known.sums.shape),
            _integers(decoded.products, known.products.shape),
            _integers(decoded.squares, known.squares.shape),
        )
        self._stakes, self._log_won, self._lowest = (
            np.frombuffer(raw, dtype=np.float64).reshape(pairs).copy()
            for raw in (decoded.stakes, decoded.log_won, decoded.lowest)
        )
        self._since_ms = _integers(decoded.since_ms, pairs)
        self._last_ms = decoded.last_ms
        self._buffered = np.frombuffer(decoded.buffered, dtype=np.int8).reshape(-1, len(known.sums))
        self._buffered_times_ms = np.array(decoded.buffered_times_ms, dtype=np.int64)
        self._standing = {each.pair: each for each in decoded.standing}


def _integers(raw: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.frombuffer(raw, dtype=np.int64).reshape(shape).copy()

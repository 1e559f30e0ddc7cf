"""Detects that the share of missing, new, rare or out-of-range values has risen. Pure.

Each kind of values of a feature is an indicator, 0 or 1, whatever the other values do. If reference and
stream are exchangeable, each of N + 1 rows is the last one with equal probability. So after N rows with K
values of the kind, the next value is of the kind with probability ``(K + 1) / (N + 1)``, given all N + 1, and
is not with ``(N - K + 1) / (N + 1)`` (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World",
2005, chapter 2). A bet that a share s of all values turns into this kind has the probability
``q = p + s (1 - p)`` for it, and wins the ratio of the products of both probabilities, which is 1 on average
over references and streams. The reference is part of N and K, so its sampling error is counted, and an event
that it never had is one of N + 1 values.

Stakes grow as in `e_detector`. With the design effect D of the indicator, n rows count as n / D, those of the
reference and those of the stream: in a reference of 100 blocks whose values are alike, an event that it never
had is one of 101 blocks, however many rows a block has. The mean over the kinds and bets of a feature is one
stream of the alarm budget.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

from services.drift.binning.bin_search import BinIndices
from services.drift.detectors.e_detector import GAP_MS_MAX, LOG_STAKE_MAX
from services.drift.detectors.protocol import DetectedChange, TimesMs, Values
from services.monitoring.value_kinds import KINDS_MAX, MISSING, ValueKinds

STEP_ROWS = 256
"""Minimum rows per step, unless a window ends before. Alarms come 128 rows later on average, for a quarter of
the work of 64 rows."""
TURNED_SHARES = np.array([1 / 16, 1 / 4, 7 / 8])
"""Shares of all values that turn into the kind, as bet on. Much smaller rises win nothing."""

_ENCODER = msgspec.msgpack.Encoder()


class KindsOfRows:
    """Finds the kinds of values, see `value_kinds`, of all features at once."""

    def __init__(self, features: Sequence[ValueKinds], seasons_known: Sequence[int]) -> None:
        """Read the kinds of the bins.

        Args:
            features: The kinds of each feature's values.
            seasons_known: The number of seasons of each feature in the reference.
        """
        self._offsets = np.cumsum([0, *(len(each.of_bin) for each in features)])[:-1]
        self._of_bin = np.concatenate([each.of_bin for each in features])
        self._missing = np.array([each.names.index(MISSING) + 1 for each in features], dtype=np.int8)
        self._seasons_known = np.array(seasons_known)
        self._names = [each.names for each in features]

    def find(self, bins: BinIndices, seasons: BinIndices | None) -> npt.NDArray[np.int8]:
        """Return the kinds ``(n_rows, n_features)``; in an unknown season, only missing values have one."""
        kinds: npt.NDArray[np.int8] = self._of_bin.take(bins + self._offsets)
        if seasons is not None:
            kinds[(seasons >= self._seasons_known) & (kinds != self._missing)] = 0
        return kinds

    def number(self, feature: int, kind: str) -> int:
        """Return the number of a kind in `find`."""
        return self._names[feature].index(kind) + 1

    def are_known(self, feature: int, kind: int, seasons: BinIndices) -> npt.NDArray[np.bool_]:
        """Tell for each row of these seasons ``(n_rows,)`` whether a value would have this kind."""
        known: npt.NDArray[np.bool_] = seasons < self._seasons_known[feature]
        known |= kind == self._missing[feature]
        return known


class ShareDetectorState(msgspec.Struct, array_like=True):
    """The state of a `ShareDetector`; arrays as bytes."""

    known: bytes
    rows: bytes
    stakes: bytes
    won: bytes
    since_ms: bytes
    step: bytes
    last_ms: int | None
    step_rows: int
    step_ms: int


_DECODER = msgspec.msgpack.Decoder(ShareDetectorState)


class ShareChange(NamedTuple):
    """The share of one kind of values has risen."""

    change: DetectedChange
    """The change: its stream is the index of the feature, and it has no effect."""
    kind: str
    share: float
    """Share of the kind among the rows of the latest step."""
    share_before: float
    """Share in the reference."""


class ShareDetector:
    """Bets that shares have risen, for several features.

    Args:
        features: The kinds of values of each feature.
        threshold_ms: Minimum mean time between two false alarms of one feature.

    Examples:
        A feature has no missing value in 27,000 rows of reference and 1,024 minutes; then all are missing.

        >>> from services.monitoring.value_kinds import kinds_of
        >>> from streams.records import FeatureReference
        >>> reference = FeatureReference(feature="x", counts=[0, 27_000, 0], missing=0, edges=[0.0, 1.0])
        >>> detector = ShareDetector([kinds_of(reference)], threshold_ms=30 * 24 * 3_600_000)
        >>> for kind, minutes in ((0, range(0, 1024)), (1, range(1024, 1280))):
        ...     found = detector.update(np.full((len(minutes), 1), kind), np.array(minutes) * 60_000)
        >>> change = found[0]
        >>> change.kind, change.share, change.share_before, change.change.since_ms // 60_000
        ('missing', 1.0, 0.0, 1023)
    """

    def __init__(self, features: Sequence[ValueKinds], threshold_ms: float) -> None:
        """Start without evidence of a change."""
        self._threshold_ms = threshold_ms
        self._names = [each.names for each in features]
        shape = len(features), KINDS_MAX
        known, effects, used = np.zeros(shape), np.ones(shape), np.zeros(shape)
        for feature, each in enumerate(features):
            for kind, reference in enumerate(each.references):
                known[feature, kind] = reference.rows
                effects[feature, kind] = max(reference.design_effect, 1.0)
                used[feature, kind] = 1.0
        rows = np.array([[each.rows] for each in features], dtype=np.float64)
        self._reference, self._reference_rows = known, rows
        before = ((known + effects) / (rows + 2 * effects))[:, :, None]
        bet = before + TURNED_SHARES * (1 - before)
        self._powers = (used / effects)[:, :, None]
        self._log_against = np.log1p(-bet) * self._powers
        self._log_ratio = np.log(bet) * self._powers - self._log_against
        bets = np.maximum(used.sum(axis=1), 1.0) * len(TURNED_SHARES)
        self._weights = (used / bets[:, None])[:, :, None]
        self._known, self._rows = known.copy(), rows.copy()
        """Values by kind, and all values: those of the reference and those since."""
        self._log_ways = self._log_ways_known()
        self._stakes = np.zeros((*shape, len(TURNED_SHARES)))
        self._won = np.zeros_like(self._stakes)
        """Log winnings since their lowest point."""
        self._since_ms = np.zeros(self._stakes.shape, dtype=np.int64)
        """Times of those lowest points."""
        self._last_ms: int | None = None
        self._step = np.zeros(shape)
        """Values by kind in the step."""
        self._step_rows = self._step_ms = 0

    def update(self, kinds: npt.NDArray[np.int8], times_ms: TimesMs) -> list[ShareChange]:
        """Process at least one row; a step ends with the rows of this call, if it has `STEP_ROWS`.

        Args:
            kinds: The kind of each value, 0 for none, shape ``(n_rows, n_features)``.
            times_ms: The event time of each row, shape ``(n_rows,)``.
        """
        if self._last_ms is None:
            self._last_ms = int(times_ms[0])
            self._since_ms[:] = self._last_ms
        if kinds.any():
            self._step += _count(kinds)
        self._step_rows += len(kinds)
        self._step_ms = int(times_ms[-1])
        return self.flush() if self._step_rows >= STEP_ROWS else []

    def flush(self) -> list[ShareChange]:
        """End the step, at the end of a window."""
        if self._last_ms is None or not self._step_rows:
            return []
        elapsed_ms = min(max(self._step_ms - self._last_ms, 0), GAP_MS_MAX)
        self._last_ms = max(self._last_ms, self._step_ms)
        won = self._log_winnings()
        self._stakes += elapsed_ms
        self._stakes *= np.exp(np.minimum(won, LOG_STAKE_MAX))
        self._won += won
        np.maximum(self._won, 0.0, out=self._won)
        np.copyto(self._since_ms, self._last_ms, where=self._won == 0)
        values = (self._stakes * self._weights).sum(axis=(1, 2))
        changes = []
        if values.max() >= self._threshold_ms:
            risen = np.flatnonzero(values >= self._threshold_ms).tolist()
            changes = [self._change(feature, float(values[feature])) for feature in risen]
        self._step[:] = 0
        self._step_rows = 0
        return changes

    def _log_winnings(self) -> Values:
        """Count the step and return its log winnings, shape ``(n_features, n_kinds, n_bets)``."""
        self._rows += self._step_rows
        self._known += self._step
        log_ways = self._log_ways_known()
        won: Values = self._log_against * self._step_rows
        won += self._log_ratio * self._step[:, :, None]
        won -= (log_ways - self._log_ways)[:, :, None]
        self._log_ways = log_ways
        return won

    def _change(self, feature: int, value: float) -> ShareChange:
        """Date the change by the lowest points of the bets on the kind that won most (Hinkley 1970)."""
        assert self._last_ms is not None
        weighted = self._stakes[feature] * self._weights[feature]
        kind, bet = np.unravel_index(int(np.argmax(weighted)), weighted.shape)
        since_ms = self._since_ms[feature, kind]
        change = DetectedChange(
            feature,
            self._last_ms,
            int(since_ms[bet]),
            int(since_ms.min()),
            int(since_ms.max()),
            value,
            self._threshold_ms,
        )
        self.reset(feature)
        share = float(self._step[feature, kind] / self._step_rows)
        before = float(self._reference[feature, kind] / max(self._reference_rows[feature, 0], 1.0))
        return ShareChange(change, self._names[feature][kind], share, before)

    def _log_ways_known(self) -> Values:
        """Return `_log_ways` of the effective numbers of known values, shape ``(n_features, n_kinds)``."""
        powers = self._powers[:, :, 0]
        return _log_ways(self._known * powers, self._rows * powers)

    def power(self, feature: int, kind: int) -> float:
        """Return one over the design effect of a kind, numbered as in `KindsOfRows`."""
        return float(self._powers[feature, kind - 1, 0])

    def reset(self, feature: int) -> None:
        """Start one feature again from its reference."""
        self._known[feature], self._rows[feature] = self._reference[feature], self._reference_rows[feature]
        self._log_ways = self._log_ways_known()
        self._stakes[feature] = 0
        self._won[feature] = 0
        self._since_ms[feature] = self._last_ms or 0

    def state(self) -> bytes:
        """Return the complete state, which `restore` takes."""
        return _ENCODER.encode(
            ShareDetectorState(
                self._known.tobytes(),
                self._rows.tobytes(),
                self._stakes.tobytes(),
                self._won.tobytes(),
                self._since_ms.tobytes(),
                self._step.tobytes(),
                self._last_ms,
                self._step_rows,
                self._step_ms,
            )
        )

    def restore(self, state: bytes) -> None:
        """Continue from a state.

        Raises:
            ValueError: The state has another number of features.
        """
        decoded = _DECODER.decode(state)
        self._known, self._rows = _array(decoded.known, self._known), _array(decoded.rows, self._rows)
        self._stakes, self._won = _array(decoded.stakes, self._stakes), _array(decoded.won, self._won)
        self._since_ms = np.frombuffer(decoded.since_ms, np.int64).reshape(self._stakes.shape).copy()
        self._log_ways = self._log_ways_known()
        self._step = _array(decoded.step, self._step)
        self._last_ms, self._step_rows, self._step_ms = decoded.last_ms, decoded.step_rows, decoded.step_ms


def _count(kinds: npt.NDArray[np.int8]) -> Values:
    """Return the number of values by feature and kind."""
    features, size = kinds.shape[1], KINDS_MAX + 1
    places = (kinds + np.arange(0, features * size, size)).ravel()
    counted: Values = np.bincount(places, minlength=features * size).astype(np.float64)
    return counted.reshape(features, size)[:, 1:]


def _log_ways(known: Values, rows: Values) -> Values:
    """Return ``log(K! (N - K)! / N!)``, whose differences are the log probabilities of steps."""
    ways: Values = special.gammaln(known + 1) + special.gammaln(rows - known + 1) - special.gammaln(rows + 1)
    return ways


def _array(raw: bytes, like: Values) -> Values:
    return np.frombuffer(raw, dtype=np.float64).reshape(like.shape).copy()

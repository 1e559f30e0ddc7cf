"""Detects that features no longer go together as they did, where none of them need have changed. Pure.

For each pair of features the rank correlation of the latest rows is bet on being another one than that of all
rows known: the reference's and those since. With n new and N known rows their difference d varies by
``v = s^2 (1 / n + 1 / N)``, s being that of the products, and differences of later rows to all earlier ones
are uncorrelated with it. So the error of a finite reference is in v and does not repeat itself. Products are
bounded by b, and for such sums (Bernstein; Boucheron, Lugosi and Massart, "Concentration Inequalities",
2013, theorem 2.10)

    E exp(l d) <= exp(l^2 v / (2 (1 - c l)))   with c = b (1 / n) / 3,

so that each bet on a difference wins ``exp(l d - l^2 v / (2 (1 - c l)))``: at most 1 in the mean while
nothing changes. Stakes grow as in `edetector`, and their mean over all pairs is one stream of the budget.
Where values are alike within blocks, v and c grow by the design effect.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from services.drift.detectors.e_detector import GAP_MS_MAX, LOG_STAKE_MAX
from services.drift.detectors.protocol import DetectedChange, TimesMs
from services.monitoring.rank_correlation import SCORE_MAX, Moments, Numbers, Scores, correlations
from streams.records import PairDrift, RelationDrift

STEP_ROWS = 256
"""Rows that are compared together with all known ones: of fewer, correlations tell little."""
DIFFERENCES = np.array([0.1, 0.2, 0.4, 0.8, -0.1, -0.2, -0.4, -0.8])
"""Of correlations, that are bet on."""
UNSURE = 4.0
"""Standard deviations by which the products may vary more than they did among the known rows."""
ROWS_KNOWN_MIN = 100
"""Nothing is bet before so many rows are known."""


PAIRS_SHOWN_MAX = 10
EFFECT_MIN = 0.1
"""Difference of correlations from which a window's counts as drift."""


class PairDetectorState(msgspec.Struct, array_like=True):
    """All that a `PairDetector` knows; arrays as their bytes."""

    rows_known: int
    sums: bytes
    products: bytes
    squares: bytes
    stakes: bytes
    log_won: bytes
    lowest: bytes
    since_ms: bytes
    last_ms: int | None
    held: bytes
    held_times_ms: list[int]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(PairDetectorState)


@dataclasses.dataclass(frozen=True)
class PairChange:
    """Two features go together in another way."""

    change: DetectedChange
    """Its effect is null; its stream 0."""
    first: int
    second: int
    correlation_before: float
    correlation: float
    """Of the latest rows."""


@dataclasses.dataclass(frozen=True)
class Differences:
    """Of the rank correlations of two sets of rows, for all pairs ``(n_pairs,)``."""

    known: Numbers
    latest: Numbers
    spread: Numbers
    """The variance of their difference while nothing changes."""
    bound: Numbers
    """How far one value moves it, as c above."""
    varying: npt.NDArray[np.bool_]
    """Both features of the pair varied among the known rows."""

    @classmethod
    def between(cls, known: Moments, latest: Moments, effects: Numbers) -> Self:
        """Compare; both have rows, and the effects are those of the pairs.

        A feature that varies less of late is measured by its spread of before: it makes no correlation large.
        """
        pairs = np.triu_indices(len(known.sums), 1)
        before = _deviations(known)
        scale = (before[pairs[0]] * before[pairs[1]]) ** 2
        varying = scale > 0
        scale[~varying] = 1.0
        of_latest = correlations(latest.covariances(), np.maximum(before, _deviations(latest)))
        unsure = 1 + UNSURE / np.sqrt(known.rows)
        variance = known.product_variances()[pairs] / scale * unsure
        return cls(
            correlations(known.covariances(), before)[pairs],
            of_latest[pairs],
            variance * effects * (1 / latest.rows + 1 / known.rows),
            SCORE_MAX**2 / np.sqrt(scale) * effects / latest.rows / 3,
            varying,
        )

    def p_values(self) -> Numbers:
        """Return the chance of at least such a difference, from above, for each pair (Bernstein's bound)."""
        size = np.abs(self.latest - self.known)
        exponent = np.divide(
            size**2, 2 * (self.spread + self.bound * size), out=np.zeros_like(size), where=self.varying
        )
        found: Numbers = np.minimum(2 * np.exp(-exponent), 1.0)
        return found


def pair_effects(design_effects: Numbers) -> Numbers:
    """Return the design effects of the pairs' products: the geometric mean of those of the two features."""
    first, second = np.triu_indices(len(design_effects), 1)
    effects = np.sqrt(np.maximum(design_effects, 1.0))
    found: Numbers = effects[first] * effects[second]
    return found


def relation(first: str, second: str) -> str:
    """Name what is between two features."""
    return f"{first} and {second}"


def compare(
    known: Moments, latest: Moments, design_effects: Numbers, names: Sequence[str], p_value: float
) -> RelationDrift | None:
    """Compare a window with the reference; None without a pair.

    Args:
        known: Of the reference.
        latest: Of the window, with at least one row.
        design_effects: Of the features.
        names: Of the features.
        p_value: Level of all pairs together, from which a difference counts.
    """
    first, second = np.triu_indices(len(names), 1)
    if not len(first) or not known.rows:
        return None
    found = Differences.between(known, latest, pair_effects(design_effects))
    size, p_values = np.abs(found.latest - found.known), found.p_values()
    surest = np.lexsort((-size, p_values))[:PAIRS_SHOWN_MAX].tolist()
    return RelationDrift(
        distance=float(np.sqrt(np.mean(size**2))),
        p_value=min(1.0, float(p_values.min()) * len(first)),
        pairs=[
            PairDrift(
                first=names[first[pair]],
                second=names[second[pair]],
                correlation=float(found.latest[pair]),
                reference_correlation=float(found.known[pair]),
                p_value=float(p_values[pair]),
                drifted=bool(size[pair] >= EFFECT_MIN and p_values[pair] * len(first) < p_value),
            )
            for pair in surest
        ],
    )


class PairDetector:
    """Watches all pairs of some features; one stream of the budget."""

    def __init__(self, known: Moments, threshold_ms: float, design_effects: Numbers) -> None:
        """Start calm.

        Args:
            known: Of the reference.
            threshold_ms: Mean time between false alarms, at least.
            design_effects: Of the features, ``(n_features,)``.
        """
        self._reference = known
        self._known = known.copy()
        self._threshold_ms = threshold_ms
        features = len(known.sums)
        self._first, self._second = np.triu_indices(features, 1)
        self._effects = pair_effects(design_effects)
        self._stakes = np.zeros((len(self._first), len(DIFFERENCES)))
        self._log_won = np.zeros_like(self._stakes)
        self._lowest = np.zeros_like(self._stakes)
        self._since_ms = np.zeros(self._stakes.shape, dtype=np.int64)
        self._last_ms: int | None = None
        self._held: Scores = np.zeros((0, features), dtype=np.int8)
        self._held_times_ms: TimesMs = np.zeros(0, dtype=np.int64)

    def update(self, scores: Scores, times_ms: TimesMs) -> list[tuple[int, PairChange]]:
        """Take scores ``(n_rows, n_features)``; return changes, each with the row at which it was noticed."""
        if not len(self._first):
            return []
        before = len(self._held)
        scores = np.concatenate([self._held, scores], dtype=np.int8, casting="same_kind")
        times_ms = np.concatenate([self._held_times_ms, times_ms])
        found: list[tuple[int, PairChange]] = []
        whole = len(scores) // STEP_ROWS * STEP_ROWS
        for start in range(0, whole, STEP_ROWS):
            step = slice(start, start + STEP_ROWS)
            change = self._step(scores[step], int(times_ms[start]), int(times_ms[step][-1]))
            if change is not None:
                found.append((start + STEP_ROWS - 1 - before, change))
        self._held, self._held_times_ms = scores[whole:], times_ms[whole:]
        return found

    def _step(self, scores: Scores, first_ms: int, end_ms: int) -> PairChange | None:
        if self._last_ms is None:
            self._last_ms = first_ms
            self._since_ms[:] = first_ms
        elapsed_ms = min(max(end_ms - self._last_ms, 0), GAP_MS_MAX)
        self._last_ms = max(end_ms, self._last_ms)
        latest = Moments.none(scores.shape[1])
        latest.add(scores)
        if self._known.rows < ROWS_KNOWN_MIN:
            self._known.merge(latest)
            return None
        found = Differences.between(self._known, latest, self._effects)
        log_won = self._log_winnings(found)
        self._stakes = (self._stakes + elapsed_ms) * np.exp(np.minimum(log_won, LOG_STAKE_MAX))
        self._log_won += log_won
        fallen = self._log_won <= self._lowest
        self._lowest[fallen] = self._log_won[fallen]
        self._since_ms[fallen] = self._last_ms
        value = float(self._stakes.mean())
        change = self._change(value, found) if value >= self._threshold_ms else None
        self._known.merge(latest)
        if change is not None:
            self._begin()
        return change

    def _log_winnings(self, found: "Differences") -> Numbers:
        """Return what each bet on each pair wins, ``(n_pairs, n_bets)``."""
        size = np.abs(DIFFERENCES)
        spread, bound = found.spread[:, None], found.bound[:, None]
        stake = size / (spread + bound * size)
        cost = stake**2 * spread / (2 * (1 - bound * stake))
        won: Numbers = stake * np.sign(DIFFERENCES) * (found.latest - found.known)[:, None] - cost
        return np.where(found.varying[:, None], won, 0.0)

    def _change(self, value: float, found: "Differences") -> PairChange:
        """Date it by the lowest points of the bets on the pair that won most (Hinkley 1970)."""
        assert self._last_ms is not None
        pair, bet = np.unravel_index(int(np.argmax(self._stakes)), self._stakes.shape)
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
            float(found.known[pair]),
            float(found.latest[pair]),
        )

    def _begin(self) -> None:
        """Begin anew: what is known is the reference."""
        self._known = self._reference.copy()
        for array in (self._stakes, self._log_won, self._lowest):
            array[:] = 0
        self._since_ms[:] = self._last_ms or 0

    def state(self) -> bytes:
        """Return what `restore` takes."""
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
                self._held.tobytes(),
                self._held_times_ms.tolist(),
            )
        )

    def restore(self, state: bytes) -> None:
        """Go on from a state; raise `ValueError` if it is of another number of features."""
        found = _DECODER.decode(state)
        known, pairs = self._known, self._stakes.shape
        self._known = Moments(
            found.rows_known,
            _whole(found.sums, known.sums.shape),
            _whole(found.products, known.products.shape),
            _whole(found.squares, known.squares.shape),
        )
        self._stakes, self._log_won, self._lowest = (
            np.frombuffer(raw, dtype=np.float64).reshape(pairs).copy()
            for raw in (found.stakes, found.log_won, found.lowest)
        )
        self._since_ms = _whole(found.since_ms, pairs)
        self._last_ms = found.last_ms
        self._held = np.frombuffer(found.held, dtype=np.int8).reshape(-1, len(known.sums))
        self._held_times_ms = np.array(found.held_times_ms, dtype=np.int64)


def _whole(raw: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.frombuffer(raw, dtype=np.int64).reshape(shape).copy()


def _deviations(moments: Moments) -> Numbers:
    found: Numbers = np.sqrt(np.maximum(np.diagonal(moments.covariances()), 0.0))
    return found

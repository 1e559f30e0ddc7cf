"""The gate of a learned version: measured on labels before they are learned, beside what was served. Pure.

Three gates, each of which passes, fails, or has not enough data (decision 48):

- ``limit <loss>``: the mean loss on rows of the interval, each predicted before it is learned, is within the
  declared bounds (Gama, Sebastiao and Rodrigues, "On evaluating stream learning algorithms", 2013).
- ``champion``: on the same rows, it is not worse than that of the predictions that the champion served.
- ``earlier rows``: on rows of earlier intervals, the version is not worse than what was served there. A model
  that has learned wrong labels predicts more of them well, but not the rows of before. The rows of an
  interval whose version failed are not remembered. After ``lasting_intervals`` versions in a row that failed
  here, the change is lasting, and the next interval's rows replace the remembered ones.

The difference to the served losses is paired, with the error of `services.monitoring.arm_comparison`, which
allows for rows that are alike within a block of time. The results depend on the content of the topics alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from services.learning.learner_state import GateState, Lesson
from services.model_registry.gate_results import GateReport, GateResult, Outcome, bounded, result
from services.monitoring import arm_comparison
from services.monitoring.arm_comparison import BLOCKS
from services.monitoring.model_metrics import Measures, NumericPrediction
from services.runtime.declaration import LearningGates, MeasureLimit, ModelDeclaration
from streams.records import LossDifference, LossSums

ROWS_MIN, ROWS_MAX = 64, 256
"""Bounds of the rows that are measured, of the interval and of the remembered ones: evenly spread, and 4 or
more for each block of the error."""
LEARNED_TO_MEASURE = 24
"""Learned rows for each measured one, within these bounds: two predictions for 24 learned rows cost 5 %."""
REMEMBERED_MAX = 256
"""Maximum remembered rows."""
OF_INTERVAL_MAX = 64
"""Maximum rows that an interval adds to the remembered ones, which so are those of four intervals or more."""
CHAMPION, EARLIER_ROWS = "champion", "earlier rows"

_T = TypeVar("_T")
Predict = Callable[[Lesson], float]
"""Returns the estimator's score for a row; it may raise any error."""


class GateVerdict(msgspec.Struct, frozen=True):
    """What the gates found for one learned version."""

    version: int
    interval_end_ms: int
    report: GateReport
    is_news: bool
    """Whether it is refused, or the first that is not."""


class _Measured(NamedTuple):
    lesson: Lesson
    values: list[float]
    """The estimator's, in the order of `Measures.names`; empty if it predicted no number."""
    served_loss: float


class VersionGate:
    """Measures and judges the versions of one model."""

    def __init__(self, declaration: ModelDeclaration, state: GateState) -> None:
        """Continue from a state, which this object changes."""
        assert declaration.learning is not None, "a model that learns declares it"
        self._declared = declaration.learning.gates
        self._measures = Measures(declaration)
        self._state = state
        self._measured: list[_Measured] = []
        self._count = 0

    def select(self, lessons: Sequence[Lesson]) -> set[int]:
        """Return the positions of the rows of an interval to measure; each was answered by the champion."""
        self._measured = []
        self._count = min(max(len(lessons) // LEARNED_TO_MEASURE, ROWS_MIN), ROWS_MAX)
        answered = [place for place, each in enumerate(lessons) if each.score is not None]
        return set(_spread(answered, self._count))

    def measure(self, lesson: Lesson, predict: Predict) -> None:
        """Measure a selected row, which is not learned yet."""
        self._measured.append(self._of_row(lesson, predict))

    def judge(self, version: int, interval_end_ms: int, predict: Predict) -> GateVerdict:
        """Return what the gates find for the version that has learned the interval.

        Args:
            version: Its number.
            interval_end_ms: Event time.
            predict: Of the version.
        """
        state, measured = self._state, self._measured
        earlier = [self._of_row(each, predict) for each in _spread(state.remembered, self._count)]
        forgets = _compared(EARLIER_ROWS, "earlier rows", earlier, self._declared)
        results = [self._limit(name, bounds) for name, bounds in self._declared.limits.items()]
        results += [_compared(CHAMPION, "rows of the interval", measured, self._declared), forgets]
        state.contradicted = state.contradicted + 1 if forgets.outcome == "failed" else 0
        is_lasting = state.contradicted > self._declared.lasting_intervals
        if is_lasting:
            results[-1] = result(EARLIER_ROWS, "passed", _lasting(forgets, state), forgets.numbers)
        report = GateReport(results, self._declared.undecided)
        self._remember(report, is_lasting=is_lasting)
        is_news = not report.passed or state.refused is not False
        state.refused = not report.passed
        return GateVerdict(version, interval_end_ms, report, is_news)

    def _remember(self, report: GateReport, *, is_lasting: bool) -> None:
        state, lessons = self._state, [each.lesson for each in self._measured]
        if is_lasting:
            state.remembered, state.contradicted = lessons[-REMEMBERED_MAX:], 0
        elif report.outcome != "failed":
            state.remembered = [*state.remembered, *_spread(lessons, OF_INTERVAL_MAX)][-REMEMBERED_MAX:]
        self._measured = []

    def _of_row(self, lesson: Lesson, predict: Predict) -> _Measured:
        assert lesson.score is not None, "selected"
        served = self._measures.loss_of_score(lesson.score, lesson.label)
        assert served is not None, "no multiclass model learns online"
        try:
            score = predict(lesson)
        except Exception:  # noqa: BLE001  # any error here is one of the estimator: the version fails
            score = math.nan
        if not math.isfinite(score):
            return _Measured(lesson, [], served)
        given = NumericPrediction(score, self._measures.predicted_value(score))
        return _Measured(lesson, self._measures.values(given, lesson.label), served)

    def _limit(self, name: str, limit: MeasureLimit) -> GateResult:
        gate, rows = f"limit {name}", len(self._measured)
        if rows < self._declared.minimum_rows:
            return _too_few(gate, "rows of the interval", rows, self._declared)
        if lost := sum(not each.values for each in self._measured):
            return _no_number(gate, lost, rows)
        place = self._measures.names.index(name)
        mean = math.fsum(each.values[place] for each in self._measured) / rows
        bounds = {key: each for key, each in (("min", limit.min), ("max", limit.max)) if each is not None}
        is_within = limit.min is None or mean >= limit.min
        is_within = is_within and (limit.max is None or mean <= limit.max)
        side = "is within" if is_within else "is not within"
        text = (
            f"the mean {name} on {rows} rows before they were learned is {mean:.4f}, which {side} its limits"
        )
        return result(gate, "passed" if is_within else "failed", text, {name: mean, "rows": rows, **bounds})


def _compared(gate: str, which: str, rows: Sequence[_Measured], declared: LearningGates) -> GateResult:
    if len(rows) < declared.minimum_rows:
        return _too_few(gate, which, len(rows), declared)
    if lost := sum(not each.values for each in rows):
        return _no_number(gate, lost, len(rows))
    served = math.fsum(each.served_loss for each in rows) / len(rows)
    found = arm_comparison.difference([(_sums(rows), None)], 0)
    assert found is not None, "there are rows"
    allowed = declared.tolerance * served
    numbers = {"difference": found.mean, "served_loss": served, "allowed": allowed, "rows": len(rows)}
    if found.low is None or found.high is None:
        text = f"the {len(rows)} {which} are all of one moment: no error can be given"
        return result(gate, "not_enough_data", text, numbers)
    outcome = bounded(found.low, found.high, allowed)
    text = _text(outcome, which, found, served, allowed)
    return result(gate, outcome, text, numbers | {"low": found.low, "high": found.high})


def _sums(rows: Sequence[_Measured]) -> LossSums:
    """Return the sums of the differences to the served losses, in blocks of the time of the labels."""
    times_ms = np.array([each.lesson.label_time_ms for each in rows], dtype=np.int64)
    start_ms, end_ms = int(times_ms.min()), int(times_ms.max()) + 1
    block_of = (times_ms - start_ms) * BLOCKS // (end_ms - start_ms)
    values = np.array([each.values[0] - each.served_loss for each in rows], dtype=np.float64)
    return LossSums(
        labels=len(rows),
        total=math.fsum(values),
        squares=math.fsum(values * values),
        block_labels=np.bincount(block_of, minlength=BLOCKS).tolist(),
        block_totals=np.bincount(block_of, weights=values, minlength=BLOCKS).tolist(),
    )


def _text(outcome: Outcome, which: str, found: LossDifference, served: float, allowed: float) -> str:
    side = "higher" if found.mean > 0 else "lower"
    measured = (
        f"on {found.labels} {which} the mean loss is {abs(found.mean):.4f} {side} than the {served:.4f} of "
        f"the served predictions (95 % interval {found.low:+.4f} to {found.high:+.4f})"
    )
    if outcome == "not_enough_data":
        return f"{measured}; whether it is higher by more than {allowed:.4f} stays open"
    return f"{measured}: {'more' if outcome == 'failed' else 'not more'} than {allowed:.4f} is lost"


def _lasting(forgets: GateResult, state: GateState) -> str:
    return (
        f"{forgets.text}; so it was in {state.contradicted} intervals in a row: the change is taken as "
        "lasting, and the rows of this interval are the earlier ones from now on"
    )


def _too_few(gate: str, which: str, rows: int, declared: LearningGates) -> GateResult:
    text = (
        f"{rows} {which} with a served prediction, but learning.gates.minimum_rows is {declared.minimum_rows}"
    )
    return result(gate, "not_enough_data", f"{text}: wait for labels", {"rows": rows})


def _no_number(gate: str, lost: int, rows: int) -> GateResult:
    text = f"the version predicts no finite number for {lost} of {rows} rows"
    return result(gate, "failed", text, {"lost": lost, "rows": rows})


def _spread(given: Sequence[_T], count_max: int) -> list[_T]:
    """Return up to ``count_max`` of the elements, evenly spread."""
    count = min(len(given), count_max)
    return [given[number * len(given) // count] for number in range(count)]

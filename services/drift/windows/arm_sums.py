"""Exact sums over the predictions and labels of one window, for each arm and version apart. Pure."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from services.drift.performance.exact_sums import ExactMean
from services.monitoring.model_metrics import Measures, NumericPrediction
from services.monitoring.pending_predictions import PendingPrediction
from streams import records

ARMS_MAX = 64
"""Maximum arms and versions of a window: a day of a model that learns hourly, with its challengers. All
further ones share an entry without a name."""
BUFFERED_MAX = 1024
"""Labels in the buffer before they are summed together: five times cheaper than one by one."""
SQUARE_MAX = 1e300
"""Squares are cut here, because a sum of squares must stay finite."""


class ArmKey(NamedTuple):
    """One version in one arm."""

    arm: str
    version: int
    shadow: bool = False


OTHERS = ArmKey("", 0)
"""Takes the place of all arms after the first `ARMS_MAX`."""


class MeasureSums(msgspec.Struct, array_like=True):
    """The sums of one measure over labels."""

    total: ExactMean = msgspec.field(default_factory=ExactMean)
    squares: ExactMean = msgspec.field(default_factory=ExactMean)
    """Sum of the squares of the same values; of fewer where an older version counted some of them."""

    def add(self, values: Sequence[float]) -> None:
        """Add the values of some labels."""
        column = np.array(values, dtype=np.float64)
        self.total.add_all(column)
        with np.errstate(over="ignore"):
            self.squares.add_all(np.minimum(column * column, SQUARE_MAX))


class ArmSumsState(msgspec.Struct, array_like=True):
    """All that an `ArmSums` knows."""

    arm: str
    version: int
    shadow: bool = False
    predictions: int = 0
    labels: int = 0
    answers: int = 0
    """Labels whose prediction has a predicted value."""
    answers_right: int = 0
    """Those labels that equal the predicted value."""
    measures: list[MeasureSums] = []
    """Sums of each measure, in their order; empty before the first label with values. In a state of an older
    version, only the loss of a shadow."""
    segment_labels: dict[str, int] = {}
    segment_losses: dict[str, ExactMean] = {}
    """The loss that outcomes hold, by segment."""


class ArmSums:
    """The sums of one version in one arm."""

    def __init__(self, state: ArmSumsState) -> None:
        """Start empty, or from a state."""
        self._state = state
        self._values: list[Sequence[float]] = []
        self._segment_losses: dict[str, list[float]] = {}

    def count(self, predictions: int) -> None:
        """Count predictions."""
        self._state.predictions += predictions

    def add(
        self,
        values: Sequence[float] | None,
        loss: float | None = None,
        segments: Sequence[str] = (),
        *,
        is_right: bool | None = None,
    ) -> None:
        """Add one label.

        Args:
            values: Of each measure; None without a score.
            loss: That of the outcome.
            segments: Those of the prediction.
            is_right: Whether the label equals the predicted value; None without one.

        Raise `OverflowError` if a value is not finite.
        """
        if values is not None and not all(map(math.isfinite, values)):
            raise OverflowError("a measure of this prediction is not finite")
        state = self._state
        state.labels += 1
        if is_right is not None:
            state.answers += 1
            state.answers_right += is_right
        for name in segments:
            state.segment_labels[name] = state.segment_labels.get(name, 0) + 1
            if loss is not None:
                self._segment_losses.setdefault(name, []).append(loss)
        if values is not None:
            self._values.append(values)
            if len(self._values) >= BUFFERED_MAX:
                self.state()

    def state(self) -> ArmSumsState:
        """Return what `__init__` takes."""
        if self._values:
            state = self._state
            _extend(state.measures, len(self._values[0]))
            for sums, column in zip(state.measures, zip(*self._values, strict=True), strict=True):
                sums.add(column)
            for name, losses in self._segment_losses.items():
                state.segment_losses.setdefault(name, ExactMean()).add_all(np.array(losses))
            self._values, self._segment_losses = [], {}
        return self._state


class WindowArms:
    """The arms of one window."""

    def __init__(self, states: Iterable[ArmSumsState]) -> None:
        """Start with the arms of a snapshot."""
        self._arms = {ArmKey(each.arm, each.version, each.shadow): ArmSums(each) for each in states}

    def of(self, key: ArmKey) -> ArmSums:
        """Return the sums of an arm, to be changed."""
        found = self._arms.get(key)
        if found is None:
            if len(self._arms) >= ARMS_MAX:
                key = OTHERS
            found = self._arms.setdefault(key, ArmSums(ArmSumsState(*key)))
        return found

    def states(self) -> list[ArmSumsState]:
        """Return the state of each arm, in order."""
        return [self._arms[key].state() for key in sorted(self._arms)]


def _extend(measures: list[MeasureSums], length: int) -> None:
    measures += [MeasureSums() for _ in range(length - len(measures))]


def merged(states: Iterable[ArmSumsState]) -> ArmSumsState:
    """Return the sums over several arms, as one."""
    whole = ArmSumsState("", 0)
    for each in states:
        whole.predictions += each.predictions
        whole.labels += each.labels
        whole.answers += each.answers
        whole.answers_right += each.answers_right
        _extend(whole.measures, len(each.measures))
        for sums, more in zip(whole.measures, each.measures, strict=False):
            sums.total.merge(more.total)
            sums.squares.merge(more.squares)
        for name, labels in each.segment_labels.items():
            whole.segment_labels[name] = whole.segment_labels.get(name, 0) + labels
        for name, losses in each.segment_losses.items():
            whole.segment_losses.setdefault(name, ExactMean()).merge(losses)
    return whole


def figures_of(state: ArmSumsState, measures: Measures) -> records.ArmFigures:
    """Return the figures of an arm for a report."""
    return records.ArmFigures(
        arm=state.arm,
        version=state.version,
        shadow=state.shadow,
        predictions=state.predictions,
        labels=state.labels,
        measures=[
            records.MeasureFigures(
                measure=name,
                labels=sums.total.count,
                total=sums.total.sum,
                squares=sums.squares.sum if sums.squares.count == sums.total.count else None,
            )
            for name, sums in zip(measures.names, state.measures, strict=False)
            if sums.total.count
        ],
    )


def shadow_values(entry: PendingPrediction, label: float, measures: Measures) -> dict[ArmKey, list[float]]:
    """Return the value of each measure for the scores of the shadows; empty for a multiclass model."""
    if measures.task == "multiclass":
        return {}
    found = {}
    for name, score in entry.shadow_scores.items():
        answer = NumericPrediction(score, measures.predicted_value(score))
        key = ArmKey(name, entry.shadow_versions.get(name, 0), shadow=True)
        found[key] = measures.values(answer, label)
    return found

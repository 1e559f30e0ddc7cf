"""Exact sums over the predictions and labels of one window, for each arm and version apart. Pure."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from services.drift.performance.exact_sums import ExactMean
from services.drift.windows.measure_sums import OWN, ComparedLoss, ComparedSums, MeasureSums
from services.drift.windows.request_counts import RequestCounts
from services.monitoring import call_times
from services.monitoring.model_metrics import Measures
from streams import records

BUFFERED_MAX = 1024
"""Labels in the buffer before they are summed together: five times cheaper than one by one."""


class ArmKey(NamedTuple):
    """One version in one arm."""

    arm: str
    version: int
    shadow: bool = False


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
    """Labels that equal the predicted value of their prediction."""
    measures: list[MeasureSums] = []
    """Sums of each measure, in their order; empty before the first label with values. In a state of an older
    version, only the loss of a shadow."""
    segment_labels: dict[str, int] = {}
    segment_losses: dict[str, ExactMean] = {}
    """The loss that outcomes hold, by segment."""
    failed: int = 0
    """Requests of this arm that its version did not answer."""
    call_times: dict[int, int] = {}
    """Predictions by the limit of the time that the model's call took, see `call_times`."""
    compared: dict[int, ComparedSums] = {}
    """A shadow has the differences from the loss of each champion, by lineage; another arm has its own
    losses, under `OWN`."""
    requests: RequestCounts = msgspec.field(default_factory=RequestCounts)


class ArmSums:
    """The sums of one version in one arm."""

    def __init__(self, state: ArmSumsState) -> None:
        """Start empty, or from a state."""
        self._state = state
        self._values: list[Sequence[float]] = []
        self._segment_losses: dict[str, list[float]] = {}
        self._compared: dict[int, list[ComparedLoss]] = {}

    def count(self, block: int, predictions: int, failed: int = 0) -> None:
        """Count predictions of a block of the window, and requests that the version did not answer."""
        self._state.predictions += predictions
        self._state.failed += failed
        self._state.requests.answered[block] += predictions
        self._state.requests.failed[block] += failed

    def count_calls(self, block: int, call_us: int, predictions: int) -> None:
        """Count predictions of a block for which the model's call took this long."""
        limit_us, counts = call_times.limit_of(call_us), self._state.call_times
        counts[limit_us] = counts.get(limit_us, 0) + predictions
        self._state.requests.add_call(block, call_us, predictions)

    def compare(self, loss: ComparedLoss, lineage: int = OWN) -> None:
        """Add one label's loss, or its difference from that of the champion of a lineage."""
        self._compared.setdefault(lineage, []).append(loss)

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
            values: The value of each measure; None without a score.
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
        for lineage, compared in self._compared.items():
            self._state.compared.setdefault(lineage, ComparedSums()).add(compared)
        self._compared = {}
        return self._state


def _extend(measures: list[MeasureSums], length: int) -> None:
    measures += [MeasureSums() for _ in range(length - len(measures))]


def merged(states: Iterable[ArmSumsState]) -> ArmSumsState:
    """Return the sums over several arms, as one."""
    whole = ArmSumsState("", 0)
    for each in states:
        whole.predictions += each.predictions
        whole.failed += each.failed
        whole.requests.merge(each.requests)
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
        for lineage, compared in each.compared.items():
            whole.compared.setdefault(lineage, ComparedSums()).merge(compared)
    return whole


def compared_with(state: ArmSumsState, lineage: int) -> ComparedSums | None:
    """Return the sums with which an arm is compared with the champion of a lineage; None without labels."""
    return state.compared.get(lineage if state.shadow else OWN)


def figures_of(
    state: ArmSumsState,
    measures: Measures,
    losses: ComparedSums | None = None,
    difference: records.LossDifference | None = None,
    *,
    is_champion: bool = False,
) -> records.ArmFigures:
    """Return the figures of an arm for a report; ``losses`` are those of `compared_with`."""
    return records.ArmFigures(
        arm=state.arm,
        version=state.version,
        shadow=state.shadow,
        is_champion=is_champion,
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
        failed=state.failed,
        call_times=call_times.record_of(state.call_times),
        losses=losses.record() if losses else None,
        difference=difference,
        requests=state.requests.record(state.predictions + state.failed),
    )

"""Requests that wait until their label window closes, and are compared then. Pure.

With ``label.absent`` a request without a label is compared with the declared one. If more labels came than
are kept for requests that are read later, these requests are left out, whatever label they have.
"""

import heapq
import itertools
from collections.abc import Mapping

import msgspec

from services.monitoring.label_values import absent_label
from services.monitoring.model_metrics import Measures, NumericPrediction
from services.rollout import measure_ranges
from services.rollout.step_evidence import StepEvidence
from services.runtime.declaration import ModelDeclaration
from streams.inputs import BEFORE_ALL_MS
from streams.records import Label

WAITING_MAX = 100_000
"""Maximum requests that wait for their labels. At the limit no further ones are compared until label windows
close: which requests are left out does not depend on their arm."""
EARLY_MAX = 100_000
"""Maximum labels that are kept for requests that have not been read; beyond that the oldest are dropped."""


class VersionOutput(msgspec.Struct, array_like=True, gc=False):
    """What one version has predicted for a request."""

    score: float
    predicted: float | None = None
    """None: it follows from the score."""
    probabilities: list[float] = []


class WaitingRequest(msgspec.Struct, array_like=True, gc=False):
    """A request that is compared when its label window has closed."""

    time_ms: int
    """Event time."""
    closes_ms: int
    is_own: bool
    """Whether the new version has answered it; of pairs always."""
    output: VersionOutput
    other: VersionOutput | None = None
    """Of pairs: that of the champion."""
    label: float | None = None


class EarlyLabel(msgspec.Struct, array_like=True, gc=False):
    """The latest label of a request that has not been read: topics are read side by side."""

    time_ms: int
    """Event time."""
    value: float


class LabelWindows:
    """The waiting requests of a step, in the order in which their windows close.

    An answer over HTTP may be dated months ahead of the stream. Its window closes last, and delays no other.
    """

    def __init__(
        self,
        declaration: ModelDeclaration,
        waiting: dict[str, WaitingRequest],
        early: dict[str, EarlyLabel],
        dropped_ms: int = BEFORE_ALL_MS,
    ) -> None:
        """Continue with requests and early labels by id; see `dropped_ms`."""
        self.waiting = waiting
        self.early = early
        self.dropped_ms = dropped_ms
        """The latest event time of an early label that was dropped because there were too many."""
        self._numbers = itertools.count()
        self._closing = [(each.closes_ms, next(self._numbers), name) for name, each in waiting.items()]
        heapq.heapify(self._closing)
        self._declaration = declaration
        guardrails = declaration.rollout.guardrails
        self._is_needed = guardrails.loss is not None or guardrails.cost is not None
        self._label_ms = declaration.rollout.label_ms(declaration.label.horizon_ms)
        self._measures = Measures(declaration)
        self._absent = absent_label(declaration)

    def wait(
        self,
        name: str,
        time_ms: int,
        output: VersionOutput,
        other: VersionOutput | None = None,
        *,
        is_own: bool = True,
    ) -> None:
        """Wait for the label of a request; of two with one id the first counts."""
        if not self._is_needed or len(self.waiting) >= WAITING_MAX or name in self.waiting:
            return
        if not all(self._is_measured(each) for each in (output, other) if each is not None):
            return
        if self._absent is not None and time_ms <= self.dropped_ms:
            return
        request = WaitingRequest(time_ms, time_ms + self._label_ms, is_own, output, other)
        early = self.early.pop(name, None)
        if early is not None and early.time_ms <= request.closes_ms:
            request.label = early.value
        self.waiting[name] = request
        heapq.heappush(self._closing, (request.closes_ms, next(self._numbers), name))

    def take_label(self, label: Label) -> None:
        """Take a label that is dated within the window of its request; a later one replaces it."""
        found = self.waiting.get(label.prediction_id)
        if found is None:
            self._keep_early(label)
        elif label.event_time_ms <= found.closes_ms:
            found.label = label.value

    def drop_early(self, until_ms: int) -> None:
        """Drop the early labels before an event time up to which all requests have been read."""
        while self.early:
            name = next(iter(self.early))
            if self.early[name].time_ms >= until_ms:
                return
            del self.early[name]

    def _keep_early(self, label: Label) -> None:
        if not self._is_needed:
            return
        self.early[label.prediction_id] = EarlyLabel(label.event_time_ms, label.value)
        if len(self.early) > EARLY_MAX:
            self.dropped_ms = max(self.dropped_ms, self.early.pop(next(iter(self.early))).time_ms)

    def close_until(self, now_ms: int, evidence: StepEvidence) -> None:
        """Add the requests whose window has closed at an event time."""
        while self._closing and self._closing[0][0] < now_ms:
            self._compare(self.waiting.pop(heapq.heappop(self._closing)[2]), evidence)

    def _compare(self, request: WaitingRequest, evidence: StepEvidence) -> None:
        label = self._absent if request.label is None else request.label
        if label is None:
            evidence.unlabelled += request.is_own
            return
        evidence.labels += request.is_own
        own = self._values(request.output, label)
        if request.other is None:
            for measure, value in own.items():
                evidence.add_key(measure, request.time_ms, value, is_own=request.is_own)
            return
        other = self._values(request.other, label)
        for measure, value in own.items():
            evidence.add_pair(measure, request.time_ms, value - other[measure])

    def _is_measured(self, output: VersionOutput) -> bool:
        """Tell whether an output is one of the classes declared now."""
        return self._measures.task != "multiclass" or len(output.probabilities) == len(self._measures.classes)

    def _values(self, output: VersionOutput, label: float) -> Mapping[str, float]:
        """Return loss and cost of an output as shares of their ranges."""
        declaration, guardrails = self._declaration, self._declaration.rollout.guardrails
        predicted = self._predicted(output) if output.predicted is None else output.predicted
        values = self._measures.values(
            NumericPrediction(output.score, predicted, output.probabilities), label
        )
        found = {}
        if guardrails.loss is not None:
            found["loss"] = min(values[0] / guardrails.loss.maximum, 1.0)
        if guardrails.cost is not None and (cost := self._measures.cost(values)) is not None:
            found["cost"] = measure_ranges.cost(declaration).share(cost)
        return found

    def _predicted(self, output: VersionOutput) -> float:
        """Return the predicted value of a shadow, of which only scores are recorded."""
        if self._measures.task != "multiclass":
            return self._measures.predicted_value(output.score)
        return float(max(range(len(output.probabilities)), key=output.probabilities.__getitem__))

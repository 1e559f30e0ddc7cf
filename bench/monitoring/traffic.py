"""Plays requests and labels to the engine of the drift process, as the process does, without Kafka."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bench.monitoring import generators
from services.drift.drift_state import starting_state
from services.drift.engine import DriftOutputs, Engine
from services.monitoring import reference
from services.runtime.declaration import DAY_MS, ModelDeclaration
from streams import records
from streams.inputs import LABEL, PREDICTION, PartitionKey

MODEL = "m"
START_MS = 1_357_000_000_000 // (72 * DAY_MS) * 72 * DAY_MS
"""Start of a window and of a block, whatever their lengths in days."""
ROWS_A_DAY = 900
HELD_OUT_ROWS = 20_000

Times = npt.NDArray[np.int64]
HeldOut = tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]
"""Scores and labels ``(n_rows,)``."""
Columns = Mapping[str, npt.NDArray[Any]]
"""Values of the features ``(n_rows,)``: floats with nan where one is missing, or objects that are texts."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels of requests, in the order in which they become known; all arrays are ``(n_labels,)``."""

    requests: npt.NDArray[np.int64]
    times_ms: Times
    positives: npt.NDArray[np.int8]

    @classmethod
    def of(cls, times_ms: Times, values: npt.NDArray[np.int8]) -> "Labels":
        """Return the labels of all requests (n_rows,), each known at its time."""
        order = np.argsort(times_ms, kind="stable")
        return cls(order, times_ms[order], values[order])


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Requests in the order of their event times, with features, scores and labels."""

    times_ms: Times
    columns: Columns
    scores: npt.NDArray[np.float64]
    labels: Labels | None = None
    promoted_at_ms: int | None = None
    """When version 2 replaces version 1."""


class Monitored:
    """One monitored model: plays traffic to its engine and keeps what comes out."""

    def __init__(self, declared: ModelDeclaration, known: records.Reference) -> None:
        """Promote version 1 with this reference; another version is promoted with the same one."""
        self._declared, self._known = declared, known
        self.engine = Engine(declared, starting_state(declared, 1, 1))
        self.alarms: list[records.DriftAlarm] = []
        self.reports: list[records.DriftReport] = []
        self.requests: list[records.RetrainingRequested] = []
        self._offsets = {PREDICTION: 0, LABEL: 0}
        self._promote(1, START_MS)

    def play(self, traffic: Traffic, stop: Callable[["Monitored"], bool] = lambda _: False) -> None:
        """Play traffic window by window, until its end or until ``stop`` returns True after a window."""
        window_ms = self._declared.monitoring.window_ms
        promoted = traffic.promoted_at_ms is None
        for end_ms, made, labels in self._windows(traffic, window_ms):
            if not promoted and end_ms > (traffic.promoted_at_ms or 0):
                self._promote(2, traffic.promoted_at_ms or 0)
                promoted = True
            self.take(made, labels)
            self.advance(end_ms)
            if stop(self):
                return

    def take(self, made: Sequence[records.Prediction], labels: Sequence[records.Label] = ()) -> None:
        """Add predictions and labels, each in the order of their event times."""
        for offset, prediction in enumerate(made, self._offsets[PREDICTION]):
            self.engine.add_prediction(0, offset, prediction)
        for offset, label in enumerate(labels, self._offsets[LABEL]):
            self.engine.add_label(0, offset, label)
        self._offsets[PREDICTION] += len(made)
        self._offsets[LABEL] += len(labels)

    def advance(self, until_ms: int) -> None:
        """Process everything before this event time, and keep what comes out."""
        for kind in (PREDICTION, LABEL):
            self.engine.inputs.add_heartbeat(PartitionKey(kind, 0), self._offsets[kind], until_ms - 1)
            self._offsets[kind] += 1
        self._keep(self.engine.advance())

    def _windows(
        self, traffic: Traffic, window_ms: int
    ) -> Iterator[tuple[int, list[records.Prediction], list[records.Label]]]:
        last_ms = int(traffic.times_ms[-1])
        ends_ms = np.arange(START_MS + window_ms, last_ms + window_ms + 1, window_ms)
        rows = np.searchsorted(traffic.times_ms, ends_ms)
        given = traffic.labels
        labelled = np.zeros(len(ends_ms), int) if given is None else np.searchsorted(given.times_ms, ends_ms)
        start = first = 0
        for end_ms, stop, last in zip(ends_ms.tolist(), rows.tolist(), labelled.tolist(), strict=True):
            labels = [] if given is None else _labels(given, first, last)
            yield end_ms, predictions(traffic, start, stop), labels
            start, first = stop, last

    def _keep(self, outputs: DriftOutputs) -> None:
        self.alarms += [each for each in outputs.drift if isinstance(each, records.DriftAlarm)]
        self.reports += [each for each in outputs.drift if isinstance(each, records.DriftReport)]
        self.requests += outputs.requests

    def _promote(self, version: int, at_ms: int) -> None:
        arms = [
            records.Arm(
                name="champion", version=number, weight=10_000, effective_from_ms=at_ms * (number > 1)
            )
            for number in range(1, version + 1)
        ]
        known = msgspec.structs.replace(self._known, version=version)
        self.engine.add_model(
            records.ModelChanged(
                model=self._declared.name, arms=arms, changed_at_ms=at_ms, reason="bench", reference=known
            )
        )


def declaration(
    names: Sequence[str],
    *,
    horizon_hours: float = 1,
    retraining: Mapping[str, Any] | None = None,
    **monitoring: Any,
) -> ModelDeclaration:
    """Return the declaration of a binary model with these features, which may be missing."""
    fields = {"id": "string", "at": "timestamp"}
    return ModelDeclaration.model_validate(
        {
            "name": MODEL,
            "owner": "bench",
            "task": "binary",
            "request": {
                "topic": f"{MODEL}.requests",
                "id": "id",
                "event_time": "at",
                "schema": fields | dict.fromkeys(names, "float?"),
            },
            "features": {"from_request": list(names)},
            "label": {
                "topic": f"{MODEL}.labels",
                "id": "id",
                "event_time": "at",
                "value": "y",
                "positive_above": 0,
                "horizon_hours": horizon_hours,
                "schema": fields | {"y": "float"},
            },
            "monitoring": {"window_hours": 24, "block_hours": 24} | monitoring,
            "retraining": dict(retraining or {}),
            "gates": {"floor": 1},
        }
    )


def known_reference(
    declared: ModelDeclaration,
    columns: Columns,
    *,
    rows_a_day: int = ROWS_A_DAY,
    held_out: HeldOut | None = None,
) -> records.Reference:
    """Return the reference of a calibrated model that was trained on these rows, which end at `START_MS`.

    By default the mean loss of its held-out rows is the expected one.
    """
    scores, labels = held_out or generators.even_scores(np.random.default_rng(0), HELD_OUT_ROWS)
    known_ms = times(len(next(iter(columns.values()))), rows_a_day, end_ms=START_MS)
    held_out_ms = times(len(scores), rows_a_day, end_ms=START_MS)
    return reference.build(
        1,
        reference.KnownRows(columns, known_ms),
        reference.KnownOutputs(scores, labels.astype(np.float64), held_out_ms),
        declared,
    )


def columns_of(names: Sequence[str], values: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[Any]]:
    """Return the columns ``(n_rows, n_features)`` by name."""
    return dict(zip(names, values.T, strict=True))


def times(rows: int, rows_a_day: int = ROWS_A_DAY, *, end_ms: int | None = None) -> Times:
    """Return the event times of rows ``(n_rows,)``, from `START_MS` on, or up to an end."""
    step_ms = DAY_MS // rows_a_day
    start_ms = START_MS if end_ms is None else end_ms - rows * step_ms
    return start_ms + np.arange(rows, dtype=np.int64) * step_ms


def concerns(alarm: records.DriftAlarm, *names: str) -> bool:
    """Tell whether an alarm is about these features, or about the relation of two."""
    return set(names) <= set(re.findall(r"\w+", alarm.subject))


def predictions(traffic: Traffic, start: int, stop: int) -> list[records.Prediction]:
    """Return the rows ``start`` to ``stop`` as scoring writes them."""
    columns = [_served(values[start:stop]) for values in traffic.columns.values()]
    times_ms, scores = traffic.times_ms[start:stop].tolist(), traffic.scores[start:stop].tolist()
    promoted_at_ms = traffic.promoted_at_ms
    return [
        records.Prediction(
            prediction_id=f"p{number}",
            model=MODEL,
            version=1 if promoted_at_ms is None or time_ms < promoted_at_ms else 2,
            arm="champion",
            arm_weight=10_000,
            event_time_ms=time_ms,
            scored_time_ms=time_ms,
            source_partition=0,
            source_offset=number,
            features=list(row),
            features_lag_ms=0,
            score=score,
            prediction=int(score >= 0.5),
        )
        for number, time_ms, score, row in zip(
            range(start, stop), times_ms, scores, zip(*columns, strict=True), strict=True
        )
    ]


def _served(values: npt.NDArray[Any]) -> list[Any]:
    """Return values as they are served: None where one is missing."""
    served: list[Any] = values.tolist()
    if values.dtype == object or not np.isnan(values).any():
        return served
    return [None if value != value else value for value in served]


def _labels(given: Labels, start: int, stop: int) -> list[records.Label]:
    parts = (column[start:stop].tolist() for column in (given.requests, given.times_ms, given.positives))
    return [
        records.Label(
            prediction_id=f"p{number}",
            event_time_ms=time_ms,
            value=float(value),
            source_partition=0,
            source_offset=offset,
        )
        for offset, number, time_ms, value in zip(range(start, stop), *parts, strict=True)
    ]

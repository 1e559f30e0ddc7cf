"""The rollout process without its clients: decoded records in, the evidence of a step out. Pure.

Predictions are taken as they come: errors, latency and the arms' shares do not wait for labels. A request is
compared by loss and cost when its label window has closed, with the latest label that is dated within it.
"""

from collections.abc import Mapping

import msgspec

from services.monitoring.input_topics import UNKNOWN_TOPICS, InputTopics
from services.rollout import step_evidence, step_verdict
from services.rollout.label_windows import EarlyLabel, LabelWindows, WaitingRequest
from services.rollout.positions import Positions
from services.rollout.rollout_state import RolloutProgress
from services.rollout.step_evidence import StepEvidence
from services.rollout.step_requests import StepRequests
from services.rollout.step_verdict import StepCounts, StepVerdict
from services.runtime.declaration import ModelDeclaration
from streams import records
from streams.inputs import (
    BEFORE_ALL_MS,
    LABEL,
    PREDICTION,
    Item,
    PartitionKey,
    Resume,
    by_partition,
    in_order,
)
from streams.repeats import RepeatFilter


class MonitorState(msgspec.Struct):
    """All that a monitor knows when every record taken has been processed, and where to resume reading."""

    predictions: list[Resume] = []
    labels: list[Resume] = []
    evidence: StepEvidence = msgspec.field(default_factory=StepEvidence)
    waiting: dict[str, WaitingRequest] = {}
    early: dict[str, EarlyLabel] = {}
    dropped_ms: int = BEFORE_ALL_MS
    """See `LabelWindows`."""
    keys: list[int] = []
    """Hashes of the keys that have counted in this step."""
    last_offsets: dict[int, int] = {}
    last_offsets_by_source: dict[str, dict[int, int]] = {}
    newest_offsets: dict[str, dict[int, list[int]]] = {}
    topics: dict[str, str] = {}


def fresh_state(
    predictions: int, labels: int, state: MonitorState | None, topics: InputTopics = UNKNOWN_TOPICS
) -> MonitorState:
    """Return a state that continues from a snapshot, or else at the last requests, which tell the time.

    Args:
        predictions: Partitions of the predictions topic.
        labels: Partitions of the label topic.
        state: The snapshot's, if there is one.
        topics: The topics as they are now.
    """
    if state is None:
        state = MonitorState(
            [Resume(max(end - 1, 0)) for end in topics.prediction_ends],
            [Resume(end) for end in topics.label_ends],
        )
        state.topics = {"predictions": topics.predictions, "labels": topics.labels}
    topics.restart_recreated(state, "rollout", "")
    state.predictions += [Resume()] * (predictions - len(state.predictions))
    state.labels += [Resume()] * (labels - len(state.labels))
    return state


class RolloutMonitor:
    """Compares the new version of one model with its champion, in the step of its rollout."""

    def __init__(self, declaration: ModelDeclaration, state: MonitorState) -> None:
        """Continue from a state; see `fresh_state`."""
        self._declaration = declaration
        self.inputs = Positions(
            by_partition(state.predictions, state.labels), all_labels=declaration.label.absent is not None
        )
        self._repeats = RepeatFilter(state.last_offsets, state.last_offsets_by_source, state.newest_offsets)
        self._kept = state
        self._windows = LabelWindows(declaration, state.waiting, state.early, state.dropped_ms)
        self._requests: StepRequests | None = None
        self._message_keys: dict[tuple[int, int], bytes | None] = {}
        self._in_work: Item | None = None
        self._number = -1

    # -- what comes in ---------------------------------------------------------------------------

    def add_prediction(self, partition: int, offset: int, prediction: records.Prediction) -> None:
        """Take a prediction from its partition, in order.

        After an error the monitor must not be used any more; `suspects` tells which record was in process.
        """
        key = self._message_keys.pop((partition, offset), None)
        time_ms = prediction.event_time_ms
        is_over_http = prediction.source_offset == records.ASKED_OVER_HTTP
        source = PartitionKey(PREDICTION, partition)
        if not self.inputs.pass_record(source, offset, time_ms, is_over_http=is_over_http):
            return
        if self._repeats.is_repeat(prediction.source_partition, prediction.source_offset, prediction.source):
            return
        self._in_work = Item(time_ms, PREDICTION, partition, offset, prediction.prediction_id, prediction)
        if self._requests is not None:
            self._requests.take(partition, prediction, key)
        self._in_work = None

    def add_label(self, partition: int, offset: int, label: records.Label) -> None:
        """Take a label from its partition, in order."""
        source, time_ms = PartitionKey(LABEL, partition), label.event_time_ms
        if self.inputs.pass_record(source, offset, time_ms, is_over_http=label.is_over_http):
            self._in_work = Item(time_ms, LABEL, partition, offset, label.prediction_id, label)
            self._windows.take_label(label)
            self._in_work = None

    def note_key(self, partition: int, offset: int, key: bytes | None) -> None:
        """Take the key of the message that holds a prediction, before the prediction."""
        if self._declaration.request.routing_key != self._declaration.request.id:
            self._message_keys[partition, offset] = key

    def begin(self, progress: RolloutProgress, weights: tuple[int, int]) -> None:
        """Watch a step; evidence of the same step goes on, and that of another one is dropped.

        Args:
            progress: A running step.
            weights: The shares of challenger and champion, in 1/10,000.
        """
        evidence = self._requests.evidence if self._requests else self._kept.evidence
        keys = self._requests.keys if self._requests else set(self._kept.keys)
        if (evidence.rollout_id, evidence.step) != (progress.rollout_id, progress.step):
            evidence = step_evidence.of_step(
                self._declaration, progress.rollout_id, progress.step, progress.at_ms, weights
            )
            kept = self._windows.early, self._windows.dropped_ms
            self._windows = LabelWindows(self._declaration, {}, *kept)
            keys = set()
        self._number = progress.step
        self._requests = StepRequests(self._declaration, progress, weights, evidence, self._windows, keys)

    # -- what goes out ---------------------------------------------------------------------------

    @property
    def latest_ms(self) -> int | None:
        """The latest event time of a request; None before the first."""
        found = self.inputs.latest_ms
        return None if found == BEFORE_ALL_MS else found

    def advance(self) -> list[records.DeadLetter]:
        """Close label windows and units of time; return the records that could not be decoded."""
        if self._requests is not None:
            self._windows.close_until(self.inputs.labels_ms, self._requests.evidence)
            self._requests.close_units()
        self._windows.drop_early(self.inputs.requests_ms)
        self._message_keys.clear()
        letters, self.inputs.letters = self.inputs.letters, []
        return letters

    def ahead(self, records_max: int) -> set[PartitionKey]:
        """Return the partitions to pause: their labels are of requests that have not been read."""
        return self.inputs.labels_ahead() if len(self._windows.early) > records_max else set()

    def resume(self) -> Mapping[PartitionKey, Resume]:
        """Return where to continue in each partition."""
        return self.inputs.resume()

    def suspects(self) -> list[Item]:
        """Return the record in process at an error."""
        return [] if self._in_work is None else [self._in_work]

    def verdict(self) -> StepVerdict | None:
        """Return the verdict on the step; None before its first record."""
        if self._requests is None or self.latest_ms is None:
            return None
        found = self._verdict(self._requests.evidence, self.latest_ms, with_intervals=False)
        if found.kind == "open":
            return found
        return self._verdict(self._requests.evidence, self.latest_ms, with_intervals=True)

    def state(self) -> MonitorState:
        """Return what `__init__` takes."""
        predictions, labels = in_order(self.inputs.resume())
        requests = self._requests
        return msgspec.structs.replace(
            self._kept,
            predictions=predictions,
            labels=labels,
            evidence=requests.evidence if requests else self._kept.evidence,
            waiting=self._windows.waiting,
            early=self._windows.early,
            dropped_ms=self._windows.dropped_ms,
            keys=sorted(requests.keys) if requests else self._kept.keys,
            last_offsets=self._repeats.last_offsets,
            last_offsets_by_source=self._repeats.by_source,
            newest_offsets=self._repeats.newest,
        )

    def _verdict(self, evidence: StepEvidence, now_ms: int, *, with_intervals: bool) -> StepVerdict:
        counts = StepCounts(now_ms - evidence.start_ms, evidence.requests, evidence.labels)
        found = step_evidence.findings(
            evidence, self._declaration, self.inputs.labels_ms, with_intervals=with_intervals
        )
        return step_verdict.judge(self._declaration.rollout, self._number, found, counts)

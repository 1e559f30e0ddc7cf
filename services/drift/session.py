"""One connection's life: from the last snapshot on, slice by slice, until Kafka fails or the process ends."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from kafka import KafkaConsumer, TopicPartition

from services.drift.control_topics import ControlTopics
from services.drift.engine import DriftOutputs, DriftState, starting_state
from services.drift.monitored_model import SNAPSHOTS, MonitoredModel
from services.drift.performance.loss_monitor import LossRiseDetector
from services.monitoring import prediction_source
from services.runtime import kafka_consumers, metrics, redis_clients, schema_registry_client
from services.runtime.declaration import ModelDeclaration
from services.runtime.kafka_outbox import Outbox
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import topics
from streams.producer import Record, RecordTooLargeError

REDIS_TIMEOUT_SECONDS = 2.0
CLOSE_MS = 1000

_log = structlog.get_logger()


@contextlib.contextmanager
def opened(
    settings: Settings,
    declarations: Mapping[str, ModelDeclaration],
    stopping: threading.Event,
    *,
    gathered: bool = False,
) -> Iterator["DriftSession"]:
    """Connect, restore each model from its last snapshot, and disconnect at the end of the block.

    Gathered: read what gathering workers write, instead of predictions and labels.
    """
    with contextlib.ExitStack() as stack:
        ensure_topics(settings, declarations, sliced=gathered)
        data = _consumer(settings, "drift", stack)
        states = _restore(data, declarations, prediction_source.input_partitions(data, declarations))
        cloud_events, registry = settings.cloud_events != "none", schema_registry_client.connect(settings)
        served = [
            MonitoredModel(
                declarations[name], state, cloud_events=cloud_events, gathered=gathered, registry=registry
            )
            for name, state in states.items()
        ]
        control = ControlTopics(
            _consumer(settings, "drift-control", stack), {each.name: each.engine for each in served}
        )
        outbox = Outbox("drift", settings.kafka_options(), stopping)
        stack.callback(outbox.close)
        client = redis_clients.connect_blocking(settings, socket_timeout=REDIS_TIMEOUT_SECONDS)
        stack.callback(client.close)
        control.catch_up()
        yield DriftSession(data, control, outbox, client, served)


class DriftSession:
    """Reads, advances, writes, publishes."""

    def __init__(
        self,
        data: KafkaConsumer,
        control: ControlTopics,
        outbox: Outbox,
        client: Any,
        served: Sequence[MonitoredModel],
    ) -> None:
        """Take connected clients and restored models."""
        self._data = data
        self._control = control
        self._outbox = outbox
        self._redis = client
        self._served = served
        self._reader = prediction_source.PredictionSourceReader(data, [each.source for each in served])

    def step(self) -> None:
        """Process one slice; return after a while without one."""
        if self._reader.read():
            self._advance()
            self._reader.pause_leading_partitions()
        for each in self._served:
            each.public_watermark.publish(self._redis, each.watermark_ms)
        now_seconds = time.monotonic()
        for each in self._served:
            if each.pace.due(now_seconds):
                self._keep(each)

    def keep_all(self) -> None:
        """Take the last snapshots before the end."""
        for each in self._served:
            if each.pace.progressed:
                self._keep(each)

    def _advance(self) -> None:
        """Let every engine advance, and return when all that came of it is acknowledged."""
        if any(each.engine.references.unknown or each.engine.closes_window for each in self._served):
            self._control.catch_up()
        steps = [(each, self._step_of(each)) for each in self._served]
        stage: dict[tuple[str, int], list[Record]] = {}
        for each, outputs in steps:
            stage |= each.outcome_batches(outputs)
            for place, batch in prediction_source.dead_letter_batches(outputs.dead_letters).items():
                stage.setdefault(place, []).extend(batch)
        self._outbox.write(stage)
        reports = [each.about(report) for each, outputs in steps for report in outputs.drift]
        self._outbox.write({(topics.DRIFT.name, 0): reports})
        self._request(steps)
        for each, outputs in steps:
            each.watermark_ms = each.engine.watermark_ms
            each.pace.note(outputs.windows_closed)
            each.metrics.observe(outputs)

    def _step_of(self, each: MonitoredModel) -> DriftOutputs:
        if unknown := each.engine.references.unknown:
            _log.warning("drift.reference_missing", model=each.name, versions=sorted(unknown))
            each.engine.references.give_up()
        return each.engine.advance()

    def _request(self, steps: Sequence[tuple[MonitoredModel, DriftOutputs]]) -> None:
        """Ask for retrainings; the outcomes that they name are acknowledged by now."""
        batch: list[Record] = []
        for each, outputs in steps:
            for request in outputs.requests:
                ends = kafka_consumers.end_offsets(self._data, each.outcomes_topic)
                complete = msgspec.structs.replace(
                    request, offsets=request.offsets | {each.outcomes_topic: ends}
                )
                batch.append(each.about(complete))
                _log.info("drift.retraining_requested", model=each.name, reason=request.reason)
        self._outbox.write({(topics.RETRAINING.name, 0): batch})

    def _keep(self, each: MonitoredModel) -> None:
        started_seconds = time.monotonic()
        value = each.snapshot()
        try:
            self._outbox.write({(topics.DRIFT_STATE.name, 0): [(each.key, value, [])]})
        except RecordTooLargeError as error:
            _log.error("drift.snapshot_too_large", model=each.name, error=str(error))
        metrics.DRIFT_SNAPSHOT_BYTES.labels(each.name).set(len(value))
        each.pace.taken(started_seconds, time.monotonic())


def _consumer(settings: Settings, name: str, stack: contextlib.ExitStack) -> KafkaConsumer:
    consumer = kafka_consumers.connect(settings, name)
    stack.callback(consumer.close, timeout_ms=CLOSE_MS)
    return consumer


def _restore(
    consumer: KafkaConsumer, declarations: Mapping[str, ModelDeclaration], partitions: Mapping[str, int]
) -> dict[str, DriftState]:
    place = TopicPartition(topics.DRIFT_STATE.name, 0)
    kept = kafka_consumers.latest_values(consumer, place, [name.encode() for name in declarations])
    states = {}
    for name, declaration in declarations.items():
        state = None
        if (found := kept.get(name.encode())) is not None:
            state = SNAPSHOTS.decode(found[1], name, declaration.label.topic)
            _log.info("drift.restored", model=name, snapshot_offset=found[0], pending=len(state.pending))
            if not LossRiseDetector.can_restore(state.evaluator.monitor.detector):
                _log.warning(
                    "drift.detector_begins_anew", model=name, reason="another version of river wrote it"
                )
        states[name] = starting_state(
            declaration, partitions[topics.predictions(name)], partitions[declaration.label.topic], state
        )
    return states

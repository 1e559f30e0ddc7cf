"""A drift session: from the last snapshot, slice by slice, until Kafka fails or the process stops."""

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
"""Timeout of one write of the watermark to Redis; a write that fails is repeated in the next step."""

_log = structlog.get_logger()


@contextlib.contextmanager
def open_session(
    settings: Settings,
    declarations: Mapping[str, ModelDeclaration],
    stopping: threading.Event,
    *,
    gathered: bool = False,
) -> Iterator["DriftSession"]:
    """Connect, restore each model from its last snapshot, and disconnect at the end of the block.

    Args:
        settings: Of the installation.
        declarations: The models, by name.
        stopping: Set when the process has to stop.
        gathered: Read the slices that gathering workers write, instead of predictions and labels.
    """
    with contextlib.ExitStack() as stack:
        ensure_topics(settings, declarations, sliced=gathered)
        data = _consumer(settings, "drift", stack)
        states = _restore(data, declarations, prediction_source.input_partitions(data, declarations))
        cloud_events, registry = settings.cloud_events != "none", schema_registry_client.connect(settings)
        models = [
            MonitoredModel(
                declarations[name], state, cloud_events=cloud_events, gathered=gathered, registry=registry
            )
            for name, state in states.items()
        ]
        control = ControlTopics(
            _consumer(settings, "drift-control", stack), {model.name: model.engine for model in models}
        )
        outbox = Outbox("drift", settings.kafka_options(), stopping)
        stack.callback(outbox.close)
        client = redis_clients.connect_blocking(settings, socket_timeout=REDIS_TIMEOUT_SECONDS)
        stack.callback(client.close)
        control.catch_up()
        yield DriftSession(data, control, outbox, client, models)


class DriftSession:
    """Reads the inputs of all models, advances their engines, writes the outputs, publishes watermarks."""

    def __init__(
        self,
        data: KafkaConsumer,
        control: ControlTopics,
        outbox: Outbox,
        client: Any,
        models: Sequence[MonitoredModel],
    ) -> None:
        """Take connected clients and restored models."""
        self._data = data
        self._control = control
        self._outbox = outbox
        self._redis = client
        self._models = models
        self._reader = prediction_source.PredictionSourceReader(data, [model.source for model in models])

    def step(self) -> None:
        """Process one slice; without one, return after the poll timeout."""
        if self._reader.read():
            self._advance()
            self._reader.pause_leading_partitions()
        for model in self._models:
            model.watermark_publisher.publish(self._redis, model.watermark_ms)
        now_seconds = time.monotonic()
        for model in self._models:
            if model.pace.due(now_seconds):
                self._write_snapshot(model)

    def keep_all(self) -> None:
        """Write the last snapshots before the session ends."""
        for model in self._models:
            if model.pace.progressed:
                self._write_snapshot(model)

    def _advance(self) -> None:
        """Advance every engine; return when all outputs are acknowledged."""
        if any(model.engine.references.unknown or model.engine.closes_window for model in self._models):
            self._control.catch_up()
        steps = [(model, self._outputs_of(model)) for model in self._models]
        stage: dict[tuple[str, int], list[Record]] = {}
        for model, outputs in steps:
            stage |= model.outcome_batches(outputs)
            for key, batch in prediction_source.dead_letter_batches(outputs.dead_letters).items():
                stage.setdefault(key, []).extend(batch)
        self._outbox.write_what_fits(stage)
        reports = [model.encode(record) for model, outputs in steps for record in outputs.drift]
        self._outbox.write_what_fits({(topics.DRIFT.name, 0): reports})
        self._write_requests(steps)
        for model, outputs in steps:
            model.watermark_ms = model.engine.watermark_ms
            model.pace.note(outputs.windows_closed)
            model.metrics.observe(outputs)

    def _outputs_of(self, model: MonitoredModel) -> DriftOutputs:
        if unknown := model.engine.references.unknown:
            _log.warning("drift.reference_missing", model=model.name, versions=sorted(unknown))
            model.engine.references.give_up()
        return model.engine.advance()

    def _write_requests(self, steps: Sequence[tuple[MonitoredModel, DriftOutputs]]) -> None:
        """Write the retraining requests; the outcomes that they name are acknowledged by now."""
        batch: list[Record] = []
        for model, outputs in steps:
            for request in outputs.requests:
                ends = kafka_consumers.end_offsets(self._data, model.outcomes_topic)
                complete = msgspec.structs.replace(
                    request, offsets=request.offsets | {model.outcomes_topic: ends}
                )
                batch.append(model.encode(complete))
                _log.info("drift.retraining_requested", model=model.name, reason=request.reason)
        self._outbox.write_what_fits({(topics.RETRAINING.name, 0): batch})

    def _write_snapshot(self, model: MonitoredModel) -> None:
        started_seconds = time.monotonic()
        value = model.snapshot()
        try:
            self._outbox.write({(topics.DRIFT_STATE.name, 0): [(model.key, value, [])]})
        except RecordTooLargeError as error:
            _log.error("drift.snapshot_too_large", model=model.name, error=str(error))
        metrics.DRIFT_SNAPSHOT_BYTES.labels(model.name).set(len(value))
        model.pace.taken(started_seconds, time.monotonic())


def _consumer(settings: Settings, name: str, stack: contextlib.ExitStack) -> KafkaConsumer:
    consumer = kafka_consumers.connect(settings, name)
    stack.callback(consumer.close, timeout_ms=kafka_consumers.CLOSE_MS)
    return consumer


def _restore(
    consumer: KafkaConsumer, declarations: Mapping[str, ModelDeclaration], partitions: Mapping[str, int]
) -> dict[str, DriftState]:
    """Return the state of each model: that of its last snapshot, or the one before the first record."""
    state_partition = TopicPartition(topics.DRIFT_STATE.name, 0)
    snapshots = kafka_consumers.latest_values(
        consumer, state_partition, [name.encode() for name in declarations]
    )
    states = {}
    for name, declaration in declarations.items():
        state = None
        if (found := snapshots.get(name.encode())) is not None:
            state = SNAPSHOTS.decode(found[1], name, declaration.label.topic)
            _log.info("drift.restored", model=name, snapshot_offset=found[0], pending=len(state.pending))
            if not LossRiseDetector.can_restore(state.evaluator.monitor.detector):
                _log.warning(
                    "drift.detector_begins_anew",
                    model=name,
                    reason="its state was written by another version of river, or is damaged",
                )
        states[name] = starting_state(
            declaration, partitions[topics.predictions(name)], partitions[declaration.label.topic], state
        )
    return states

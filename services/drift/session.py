"""A drift session: from the last snapshot, slice by slice, until Kafka fails or the process stops."""

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from kafka import KafkaConsumer

from services.drift.control_topics import ControlTopics
from services.drift.drift_state import DriftState, starting_state
from services.drift.engine import DriftOutputs
from services.drift.monitored_model import SNAPSHOTS, MonitoredModel
from services.model_registry import large_references
from services.monitoring import pending_restore, prediction_source, source_ends
from services.monitoring.guarded_models import GuardedModels
from services.monitoring.input_topics import InputTopics
from services.monitoring.label_join import JoinTotals, LabelJoin
from services.monitoring.label_settlement import ALL_SETTLED
from services.monitoring.label_values import absent_label
from services.monitoring.pending_disk import PendingDisk
from services.monitoring.pending_predictions import PendingPredictions
from services.monitoring.pending_rebuild import PendingRebuild, RebuildPoint, stop_offsets
from services.monitoring.prediction_decoder import DecoderFor, PredictionDecoder
from services.monitoring.prediction_source import PredictionSourceReader
from services.monitoring.row_sample import RowSample
from services.runtime import (
    kafka_consumers,
    metrics,
    model_ownership,
    redis_clients,
    schema_registry_client,
    topic_identity,
)
from services.runtime.declaration import ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.event_clock import EventClock
from services.runtime.kafka_outbox import Outbox, Stage
from services.runtime.large_records import FoundValue
from services.runtime.model_ownership import ModelOwnership
from services.runtime.quarantine import Quarantine, is_defect
from services.runtime.settings import Settings
from services.runtime.state_topic import StateTopic
from services.runtime.topic_creation import ensure_topics
from streams import topics
from streams.inputs import AFTER_ALL_MS
from streams.producer import Record

REDIS_TIMEOUT_SECONDS = 2.0
"""Timeout of one write of the watermark to Redis; a write that fails is repeated in the next step."""

_log = structlog.get_logger()


@contextlib.contextmanager
def open_session(
    settings: Settings,
    folder: DeclarationFolder,
    quarantine: Quarantine,
    stopping: threading.Event,
) -> Iterator["DriftSession"]:
    """Connect, restore each model from its last snapshot, and disconnect at the end of the block.

    Args:
        settings: Settings of the installation.
        folder: The declared models.
        quarantine: The records and models that are isolated.
        stopping: Set when the process has to stop.
    """
    with contextlib.ExitStack() as stack:
        data = _consumer(settings, "drift", stack)
        read_reference = functools.partial(large_references.read, large_references.latest_in(settings))
        control = ControlTopics(_consumer(settings, "drift-control", stack), read_reference)
        outbox = Outbox("drift", settings.kafka_options(), stopping)
        stack.callback(outbox.close)
        client = redis_clients.connect_blocking(settings, socket_timeout=REDIS_TIMEOUT_SECONDS)
        stack.callback(client.close)
        reader = PredictionSourceReader(data)
        ensure_topics(settings, {})
        ownership = model_ownership.join(settings, "drift", topics.DRIFT_STATE)
        stack.callback(ownership.close)
        opener = DriftModelOpener(settings, quarantine, outbox, ownership, data)
        models = GuardedModels(folder, quarantine, opener, reader, ownership)
        stack.callback(models.close)
        models.refresh()
        yield DriftSession(data, control, outbox, client, models, reader)


class DriftModelOpener:
    """Restores models from their snapshots, and writes these."""

    def __init__(
        self,
        settings: Settings,
        quarantine: Quarantine,
        outbox: Outbox,
        ownership: ModelOwnership,
        consumer: KafkaConsumer,
    ) -> None:
        """Take where records and care of the models come from, what writes the snapshots, and who may."""
        self._consumer = consumer
        self._settings = settings
        self._quarantine = quarantine
        self._ownership = ownership
        self._snapshots = StateTopic(topics.DRIFT_STATE.name, outbox, ownership)

    def prepare(self, declarations: Mapping[str, ModelDeclaration]) -> Mapping[str, DriftState]:
        """Create the topics of these models; return the state of each, see `_restore`."""
        ensure_topics(self._settings, declarations)
        with contextlib.closing(kafka_consumers.connect(self._settings, "drift-state")) as consumer:
            partitions = prediction_source.input_partitions(consumer, declarations)
            inputs = {
                name: prediction_source.input_topics(consumer, each) for name, each in declarations.items()
            }
            found = self._snapshots.find(consumer, declarations)
        return _restore(found, declarations, partitions, inputs)

    def open(self, declaration: ModelDeclaration, found: DriftState) -> MonitoredModel:
        """Return a model that continues from a state."""
        folder = pending_restore.folder_of(self._settings, "drift", declaration.name)
        disk, lost_from = pending_restore.open_disk(folder, found.on_disk)
        try:
            decoder_for = self._decoder_for(declaration)
            model = self._model(declaration, found, PendingPredictions(found.pending, disk), decoder_for)
            if lost_from is not None:
                self._refill(model, declaration, found, disk, lost_from, decoder_for)
        except BaseException:
            disk.close()
            raise
        return model

    def _decoder_for(self, declaration: ModelDeclaration) -> DecoderFor:
        share = declaration.monitoring.sample
        return functools.partial(
            PredictionDecoder,
            "drift",
            declaration,
            registry=schema_registry_client.connect(self._settings),
            rejected=self._quarantine.rejected(declaration.name),
            clock=EventClock("drift", self._settings.event_ahead_seconds_max),
            sample=RowSample(share) if share < 1 else None,
            ends=source_ends.of_topic(self._consumer, declaration.request.topic),
        )

    def _model(
        self,
        declaration: ModelDeclaration,
        found: DriftState,
        pending: PendingPredictions,
        decoder_for: DecoderFor,
    ) -> MonitoredModel:
        return MonitoredModel(
            declaration,
            found,
            pending=pending,
            cloud_events=self._settings.cloud_events != "none",
            decoder_for=decoder_for,
            care=self._quarantine.care(declaration.name),
        )

    def _refill(
        self,
        model: MonitoredModel,
        declaration: ModelDeclaration,
        found: DriftState,
        disk: PendingDisk,
        lost_from: RebuildPoint,
        decoder_for: DecoderFor,
    ) -> None:
        """Read again what waited on a disk that is lost."""
        pending = PendingPredictions(disk=disk, in_memory_max=0)
        join = LabelJoin(  # nobody reads its totals
            declaration.label.horizon_ms,
            JoinTotals(),
            pending,
            classes=declaration.classes,
            absent=absent_label(declaration),
            settlement=ALL_SETTLED,
        )
        stop = stop_offsets(found.predictions, found.labels)
        rebuild = PendingRebuild(join, lost_from, stop, model.engine.restored_segments_of)
        pending_restore.refill(
            self._settings, "drift", declaration, decoder_for, rebuild, self._ownership.renew
        )
        rebuild.finish(found.pending, found.window.start_ms if found.window else AFTER_ALL_MS)
        _log.info("pending.restored", model=declaration.name, waiting=len(pending))

    def keep(self, model: MonitoredModel) -> None:
        """Write a snapshot and wait until it is acknowledged."""
        started_seconds = time.monotonic()
        value = model.snapshot()
        self._snapshots.put(model.name, value)
        metrics.DRIFT_SNAPSHOT_BYTES.labels(model.name).set(len(value))
        model.pace.taken(started_seconds, time.monotonic())


@dataclasses.dataclass(frozen=True)
class _Step:
    """The results of one model, encoded: what can fail has been done before any of it is written."""

    model: MonitoredModel
    outputs: DriftOutputs
    outcomes: Stage
    reports: Sequence[Record]

    @classmethod
    def of(cls, model: MonitoredModel) -> "_Step":
        """Advance the engine."""
        references = model.engine.references
        if not references.are_complete:
            sets, versions = references.feature_sets.give_up(), sorted(references.give_up())
            if versions or sets:
                _log.warning(
                    "drift.reference_missing", model=model.name, versions=versions, feature_sets=sets
                )
        model.engine.champions.settle()
        outputs = model.engine.advance()
        return cls(
            model, outputs, model.outcome_batches(outputs), [model.encode(each) for each in outputs.drift]
        )


class DriftSession:
    """Reads the inputs of all models, advances their engines, writes the outputs, publishes watermarks."""

    def __init__(
        self,
        data: KafkaConsumer,
        control: ControlTopics,
        outbox: Outbox,
        client: Any,
        models: GuardedModels[MonitoredModel],
        reader: PredictionSourceReader,
    ) -> None:
        """Take connected clients and the models."""
        self._data = data
        self._control = control
        self._outbox = outbox
        self._redis = client
        self._models = models
        self._reader = reader

    def step(self) -> None:
        """Process one slice; without one, return after the poll timeout."""
        self._models.refresh()
        if self._models.read():
            self._advance()
            self._reader.pause_leading_partitions()
        for model in self._models:
            model.watermark_publisher.publish(self._redis, model.watermark_ms)
        self._models.keep_due()

    def keep_all(self) -> None:
        """Write the last snapshots before the session ends."""
        self._models.keep_all()

    def _advance(self) -> None:
        """Advance every engine; return when all outputs are acknowledged."""
        engines = {model.name: model.engine for model in self._models}
        if any(engine.needs_control_topics for engine in engines.values()):
            self._control.catch_up(engines)
        attempts = [self._models.attempt(model.name, _Step.of, model) for model in self._models]
        steps = [step for step in attempts if step is not None]
        try:
            self._write(steps)
        except Exception as error:
            if not is_defect(error):
                raise
            for step in steps:  # one of them cannot be written: each alone, which repeats equal records
                self._models.attempt(step.model.name, self._write, [step])
        for step in steps:
            self._models.attempt(step.model.name, _finish, step)

    def _write(self, steps: Sequence[_Step]) -> None:
        """Write outcomes and dead letters, then reports and alarms, then requests, which name outcomes."""
        stage: dict[tuple[str, int], list[Record]] = {}
        for step in steps:
            letters = prediction_source.dead_letter_batches(step.outputs.dead_letters)
            for key, batch in (*step.outcomes.items(), *letters.items()):
                stage.setdefault(key, []).extend(batch)
        self._outbox.write_what_fits(stage)
        reports = [each for step in steps for each in step.reports]
        self._outbox.write_what_fits({(topics.DRIFT.name, 0): reports})
        requests = [each for step in steps for each in self._requests(step)]
        self._outbox.write_what_fits({(topics.RETRAINING.name, 0): requests})

    def _requests(self, step: _Step) -> Iterator[Record]:
        """Yield the retraining requests; the outcomes that they name are acknowledged by now."""
        for request in step.outputs.requests:
            ends = kafka_consumers.end_offsets(self._data, step.model.outcomes_topic)
            offsets = request.offsets | {step.model.outcomes_topic: ends}
            _log.info("drift.retraining_requested", model=step.model.name, reason=request.reason)
            yield step.model.encode(msgspec.structs.replace(request, offsets=offsets))


def _finish(step: _Step) -> None:
    """Note that the results are acknowledged."""
    model = step.model
    model.watermark_ms = model.engine.watermark_ms
    model.pace.note(step.outputs.windows_closed)
    model.pace.urgent = model.engine.pending_predictions.needs_settling
    model.metrics.observe(step.outputs)
    reason = model.engine.retraining_trigger.waits_for
    if reason is not None and reason != model.retraining_waits_for:
        _log.info("drift.retraining_waits", model=model.name, reason=reason)
    model.retraining_waits_for = reason


def _consumer(settings: Settings, name: str, stack: contextlib.ExitStack) -> KafkaConsumer:
    consumer = kafka_consumers.connect(settings, name)
    stack.callback(consumer.close, timeout_ms=kafka_consumers.CLOSE_MS)
    return consumer


def _restore(
    snapshots: Mapping[str, FoundValue],
    declarations: Mapping[str, ModelDeclaration],
    partitions: Mapping[str, int],
    inputs: Mapping[str, InputTopics],
) -> dict[str, DriftState]:
    """Return the state of each model: that of its last snapshot, or the one before the first record."""
    states = {}
    for name, declaration in declarations.items():
        state = None
        if (found := snapshots.get(name)) is not None:
            state = SNAPSHOTS.decode(found[1], name)
            before = topic_identity.identity(SNAPSHOTS.label_topic(found[1]), None)
            state.topics.setdefault("labels", before)  # older versions wrote only this name
            _log.info("drift.restored", model=name, snapshot_offset=found[0], pending=len(state.pending))
        states[name] = starting_state(
            declaration,
            partitions[topics.predictions(name)],
            partitions[declaration.label.topic],
            state,
            inputs[name],
        )
    return states

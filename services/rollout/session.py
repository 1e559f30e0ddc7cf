"""One session of the rollout process: from the last snapshots until Kafka fails or the process ends."""

import contextlib
import functools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import structlog

from services.model_registry import mlflow_client
from services.model_registry.ledger import Ledger
from services.model_registry.ledger_chain import EntryDraft
from services.model_registry.models_topic import ModelsTopic
from services.monitoring import prediction_source
from services.monitoring.guarded_models import GuardedModels
from services.monitoring.input_topics import InputTopics
from services.monitoring.prediction_decoder import PredictionDecoder
from services.monitoring.prediction_source import PredictionSourceReader
from services.rollout import promoted_reference
from services.rollout.approval_lookup import ApprovalLookup
from services.rollout.decisions import RolloutDecisions
from services.rollout.monitor import MonitorState, RolloutMonitor, fresh_state
from services.rollout.rollout_log import RolloutLog
from services.rollout.rollout_state import RolloutProgress
from services.rollout.step_verdict import StepVerdict
from services.runtime import (
    kafka_consumers,
    metrics,
    model_ownership,
    schema_registry_client,
    times,
)
from services.runtime.declaration import ModelDeclaration
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.event_clock import EventClock
from services.runtime.kafka_consumers import CLOSE_MS
from services.runtime.kafka_outbox import Outbox
from services.runtime.model_ownership import ModelOwnership
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from services.runtime.snapshots import SnapshotPace, Snapshots
from services.runtime.state_topic import StateTopic
from services.runtime.topic_creation import ensure_topics
from streams import codec, records, topics
from streams.cloud_events import Envelope
from streams.inputs import Item
from streams.records import RolloutRecord

SNAPSHOTS = Snapshots(MonitorState, 1)
CONTROL_SECONDS = 0.5
"""Time between two looks at the topics of rollouts and arms."""
VERDICT_SECONDS = 1.0
"""Minimum time between two verdicts on a step, which take some milliseconds."""
PEEK_SECONDS = 5.0
"""Maximum time to wait for the last request of a model, which tells the event time of its stream."""

_log = structlog.get_logger()


class KeyedDecoder:
    """Passes the keys of messages to the monitor, then their predictions."""

    def __init__(self, monitor: RolloutMonitor, decoder: PredictionDecoder) -> None:
        """Take the sink of both, and the decoder that passes to it."""
        self._monitor = monitor
        self._decoder = decoder

    def take_predictions(self, messages: Sequence[codec.KafkaRecord], now_ms: int) -> None:
        """Take a slice of one partition of the predictions topic."""
        for message in messages:
            self._monitor.note_key(message.partition, message.offset, message.key)
        self._decoder.take_predictions(messages, now_ms)

    def take_labels(self, messages: Sequence[codec.KafkaRecord], now_ms: int) -> None:
        """Take a slice of one partition of the label topic."""
        self._decoder.take_labels(messages, now_ms)


class RolloutModel:
    """One model in a rollout: its monitor with its inputs and the pace of its snapshots."""

    def __init__(
        self, declaration: ModelDeclaration, monitor: RolloutMonitor, decoder: PredictionDecoder
    ) -> None:
        """Take the monitor, and the decoder that passes to it."""
        self.name = declaration.name
        self.monitor = monitor
        handler = KeyedDecoder(monitor, decoder)
        self.source = prediction_source.direct_source(
            topics.predictions(declaration.name), declaration.label.topic, monitor, handler
        )
        self.pace = SnapshotPace()
        self._opened_seconds = time.monotonic()
        self._judged_seconds = 0.0

    @property
    def frontier_ms(self) -> int | None:
        """The latest event time of a request."""
        return self.monitor.latest_ms

    @property
    def now_ms(self) -> int | None:
        """The event time of the stream; None while it may still become known."""
        if self.monitor.latest_ms is not None or time.monotonic() - self._opened_seconds < PEEK_SECONDS:
            return self.monitor.latest_ms
        return times.now_ms()

    def verdict(self) -> StepVerdict | None:
        """Return the verdict on the step, once in a while."""
        now_seconds = time.monotonic()
        if now_seconds - self._judged_seconds < VERDICT_SECONDS:
            return None
        found = self.monitor.verdict()
        self._judged_seconds = time.monotonic()
        for each in () if found is None else found.figures:
            metrics.ROLLOUT_EVIDENCE.labels(self.name, each.guardrail).set(each.evidence / each.needed)
        return found

    def suspects(self) -> list[Item]:
        """Return the record that was in process at an error."""
        return self.monitor.suspects()

    def topic_of(self, kind: int) -> str:
        """Return the topic of the predictions or of the labels."""
        return self.source.topic_of(kind)

    def close(self) -> None:
        """Hold nothing."""


class RolloutModelOpener:
    """Restores the evidence of models from their snapshots, and writes these."""

    def __init__(
        self,
        settings: Settings,
        quarantine: Quarantine,
        outbox: Outbox,
        ownership: ModelOwnership,
        log: RolloutLog,
    ) -> None:
        """Take what the models share."""
        self._settings = settings
        self._quarantine = quarantine
        self._log = log
        self._snapshots = StateTopic(topics.ROLLOUT_STATE.name, outbox, ownership)

    def prepare(self, declarations: Mapping[str, ModelDeclaration]) -> Mapping[str, MonitorState]:
        """Create the topics of these models; return the state of each."""
        ensure_topics(self._settings, declarations)
        with contextlib.closing(kafka_consumers.connect(self._settings, "rollout-state")) as consumer:
            inputs = {
                name: prediction_source.input_topics(consumer, each) for name, each in declarations.items()
            }
            found = self._snapshots.find(consumer, declarations)
        states = {name: SNAPSHOTS.decode(value.value, name) for name, value in found.items()}
        return {
            name: _continued(states.get(name), self._log.of(name).current, inputs[name])
            for name in declarations
        }

    def open(self, declaration: ModelDeclaration, found: MonitorState) -> RolloutModel:
        """Return a model that continues from a state."""
        monitor = RolloutMonitor(declaration, found)
        decoder = PredictionDecoder(
            "rollout",
            declaration,
            monitor,
            registry=schema_registry_client.connect(self._settings),
            rejected=self._quarantine.rejected(declaration.name),
            clock=EventClock("rollout", self._settings.event_ahead_seconds_max),
        )
        return RolloutModel(declaration, monitor, decoder)

    def keep(self, model: RolloutModel) -> None:
        """Write a snapshot and wait until it is acknowledged."""
        started_seconds = time.monotonic()
        value = SNAPSHOTS.encode(model.name, model.source.label_topic, model.monitor.state())
        self._snapshots.put(model.name, value)
        metrics.ROLLOUT_STATE_BYTES.labels(model.name).set(len(value))
        model.pace.taken(started_seconds, time.monotonic())


def _continued(
    state: MonitorState | None, progress: RolloutProgress | None, inputs: InputTopics
) -> MonitorState:
    """Return a state to continue with; a snapshot of an earlier rollout has offsets of long ago."""
    if state is not None and (progress is None or state.evidence.rollout_id != progress.rollout_id):
        state = None
    return fresh_state(len(inputs.prediction_ends), len(inputs.label_ends), state, inputs)


@contextlib.contextmanager
def opened(
    settings: Settings,
    folder: DeclarationFolder,
    quarantine: Quarantine,
    undecided: Quarantine,
    stopping: threading.Event,
) -> Iterator["RolloutSession"]:
    """Connect, restore what is known of each rollout, and disconnect when the block ends.

    ``quarantine`` isolates records and models that cannot be read, ``undecided`` models whose decisions fail.
    """
    with contextlib.ExitStack() as stack:
        ensure_topics(settings, {})
        consumers = {}
        for name in ("rollout", "rollout-log", "rollout-arms", "rollout-ledger"):
            consumers[name] = kafka_consumers.connect(settings, name)
            stack.callback(consumers[name].close, timeout_ms=CLOSE_MS)
        outbox = Outbox("rollout", settings.kafka_options(), stopping)
        stack.callback(outbox.close)
        log = RolloutLog(consumers["rollout-log"])
        cloud_events = settings.cloud_events != "none"
        arms = ModelsTopic(
            consumers["rollout-arms"],
            lambda batch: outbox.write({(topics.MODELS.name, 0): batch}),
            source="rollout",
            cloud_events=cloud_events,
        )
        entries = Ledger(
            consumers["rollout-ledger"],
            lambda key, value: outbox.write({(topics.LEDGER.name, 0): [(key, value, [])]}),
        )
        ownership = model_ownership.join(settings, "rollout", topics.ROLLOUT_STATE)
        stack.callback(ownership.close)

        def write(record: RolloutRecord) -> None:
            ownership.require(ownership.partition(record.model))
            headers = Envelope("rollout", record.model, enabled=cloud_events).headers(record)
            batch = [(record.model.encode(), records.encode(record), headers)]
            outbox.write({(topics.ROLLOUTS.name, 0): batch})

        def enter(draft: EntryDraft) -> None:
            entries.append(draft)

        decisions = RolloutDecisions(
            log,
            arms,
            write,
            enter,
            functools.partial(mlflow_client.connect, settings),
            functools.partial(promoted_reference.with_reference, settings),
            ApprovalLookup(settings, entries).of,
        )
        reader = PredictionSourceReader(consumers["rollout"])
        opener = RolloutModelOpener(settings, quarantine, outbox, ownership, log)
        select = functools.partial(_in_rollout, log)
        models = GuardedModels(folder, quarantine, opener, reader, ownership, select)
        stack.callback(models.close)
        yield RolloutSession(folder, undecided, outbox, log, (arms, entries), decisions, models, ownership)


def _in_rollout(log: RolloutLog, declared: Mapping[str, ModelDeclaration]) -> Mapping[str, ModelDeclaration]:
    """Return the models whose rollout goes on: nothing is read of the others."""
    return {name: each for name, each in declared.items() if log.of(name).is_active}


class RolloutSession:
    """Reads the inputs of the models in a rollout, and decides on them."""

    def __init__(
        self,
        folder: DeclarationFolder,
        undecided: Quarantine,
        outbox: Outbox,
        log: RolloutLog,
        control: Sequence[ModelsTopic | Ledger],
        decisions: RolloutDecisions,
        models: GuardedModels[RolloutModel],
        ownership: ModelOwnership,
    ) -> None:
        """Take connected clients and the models; ``control`` are the topics on which decisions depend."""
        self._folder = folder
        self._undecided = undecided
        self._outbox = outbox
        self._log = log
        self._control = control
        self._decisions = decisions
        self._models = models
        self._ownership = ownership
        self._looked_seconds = 0.0

    def step(self) -> None:
        """Process one slice, and decide what follows; return after the poll timeout if there is none."""
        self._look()
        self._models.refresh()
        for each in self._models:
            self._models.attempt(each.name, self._watch, each)
        if self._models.read():
            for each in self._models:
                self._models.attempt(each.name, self._advance, each)
        in_work = {each.name: each for each in self._models}
        for name in sorted(self._log.models.keys() | self._folder.valid.keys()):
            if self._ownership.owns(name) and name not in self._folder.faults:
                self._pursue(name, in_work.get(name))
        self._models.keep_due()

    def keep_all(self) -> None:
        """Write the last snapshots before the process ends."""
        self._models.keep_all()

    def _look(self) -> None:
        now_seconds = time.monotonic()
        if now_seconds - self._looked_seconds >= CONTROL_SECONDS:
            self._log.refresh()
            for each in self._control:
                each.refresh()
            self._looked_seconds = now_seconds

    def _advance(self, each: RolloutModel) -> None:
        """Close what is complete; return when dead letters are acknowledged."""
        letters = each.monitor.advance()
        self._outbox.write(prediction_source.dead_letter_batches(letters))
        each.pace.note(0)

    def _watch(self, each: RolloutModel) -> None:
        """Let a model count for the step that is in effect; before that its requests belong to none."""
        progress = self._log.of(each.name).current
        if progress is not None and self._decisions.is_in_effect(each.name):
            each.monitor.begin(progress, self._decisions.weights(each.name))

    def _pursue(self, name: str, model: RolloutModel | None) -> None:
        """Do what follows for a model; an error that is no outage concerns this model alone."""
        now_seconds = time.monotonic()
        if not self._undecided.is_due(name, now_seconds):
            return
        verdict = None if model is None else self._models.attempt(name, model.verdict)
        now_ms = None if model is None else model.now_ms
        declared = self._folder.valid.get(name)
        decide = functools.partial(self._decisions.pursue, name, declared, verdict, now_ms)
        if self._undecided.open(name, now_seconds, lambda: decide() is None):
            self._undecided.works(name, now_seconds)

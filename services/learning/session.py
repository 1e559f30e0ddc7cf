"""One session of the learning process: from the last checkpoint until Kafka fails or the process ends."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import structlog
from kafka import KafkaConsumer

from services.feature_store import declared_features, repository, view_definition
from services.feature_store.plan import ValueType
from services.learning import arms_update, gate_entries
from services.learning.champion_copy import ChampionCopies, FindVersion
from services.learning.definition_watch import DefinitionWatch
from services.learning.learner import Learner
from services.learning.learner_state import LearnerState, fresh_state
from services.learning.learning_metrics import LearningObserver
from services.learning.version_gate import GateVerdict
from services.model_registry import large_references, learned_versions, model_inputs
from services.model_registry.models_topic import ModelsTopic, OvertakenError
from services.model_registry.training_code import function_of
from services.monitoring import pending_restore, prediction_source, source_ends
from services.monitoring.guarded_models import GuardedModels
from services.monitoring.input_topics import InputTopics
from services.monitoring.prediction_decoder import DecoderFor, PredictionDecoder
from services.runtime import (
    kafka_consumers,
    metrics,
    model_ownership,
    redis_clients,
    schema_registry_client,
    topic_identity,
)
from services.runtime.declaration import ModelDeclaration, learning_models
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.event_clock import EventClock
from services.runtime.kafka_outbox import Outbox
from services.runtime.large_records import FoundValue, LargeRecordWriter
from services.runtime.model_ownership import ModelOwnership
from services.runtime.quarantine import Quarantine
from services.runtime.settings import Settings
from services.runtime.snapshots import SnapshotPace, Snapshots
from services.runtime.state_topic import OlderTopic, StateTopic
from services.runtime.topic_creation import ensure_topics
from streams import codec, records, topics
from streams.feature_sets import FeatureSets
from streams.inputs import Item

REDIS_TIMEOUT_SECONDS = 2.0
CLOSE_MS = 1000
TellVerdicts = Callable[[str, Sequence[GateVerdict]], None]
"""Returns when what the gates found for versions of a model is in the ledger."""
PublishReference = Callable[[str, records.Reference], records.ReferenceName]
"""Writes the reference of a model that is too large for a change, and returns its name."""
CHECKPOINTS = Snapshots(LearnerState, 1)

_log = structlog.get_logger()


class LearningModel:
    """One model in the running process: its learner with its inputs, metrics and checkpoints."""

    def __init__(
        self,
        settings: Settings,
        declaration: ModelDeclaration,
        state: LearnerState,
        sets: FeatureSets,
        decoder_for: DecoderFor,
    ) -> None:
        """Continue from a state; raise `PlanError` or `TrainingCodeError` without features or learner."""
        self.name = declaration.name
        self.declaration = declaration
        self.learner = make_learner(settings, declaration, state, sets)
        self.source = prediction_source.direct_source(
            topics.predictions(declaration.name),
            declaration.label.topic,
            self.learner.inputs,
            decoder_for(self.learner),
        )
        self.observer = LearningObserver(self.learner)
        self.pace = SnapshotPace()
        self.watermark_ms: int | None = None
        """Everything up to this event time is processed and acknowledged."""
        self.public_watermark = prediction_source.WatermarkPublisher(
            "learning", declaration.name, metrics.LEARNING_WATERMARK
        )

    @property
    def frontier_ms(self) -> int:
        """The event time up to which the learner processes."""
        return self.learner.inputs.frontier_ms

    def suspects(self) -> list[Item]:
        """Return the record that was in process at an error of the learner."""
        return self.learner.suspects()

    def topic_of(self, kind: int) -> str:
        """Return the topic of the predictions or of the labels."""
        return self.source.topic_of(kind)

    def close(self) -> None:
        """Let go of the files of the predictions that wait."""
        self.learner.pending.close()


def make_learner(
    settings: Settings, declaration: ModelDeclaration, state: LearnerState, sets: FeatureSets | None = None
) -> Learner:
    """Return a learner for the served features, with the estimator of the model's training.py."""
    service = declared_features.service_of(repository.load(settings), declaration)
    service.check_inputs()
    declared_features.require(settings.models, declaration, service)
    names = [*declaration.features.from_request, *service.feature_names]
    text = {field.name for field in declaration.request.fields if field.type is codec.FieldType.STRING}
    text &= set(declaration.features.from_request)
    text |= {
        feature.name
        for view in service.views
        for feature in view.features
        if feature.type is ValueType.STRING
    }
    make = functools.partial(
        function_of(settings.models, declaration.name, "learner"),
        [name for name in names if name in text],
        [name for name in names if name not in text],
    )
    definitions, kinds = view_definition.of_service(service), model_inputs.served(declaration, service)
    return Learner(declaration, names, make, state, sets, definitions, kinds)


@contextlib.contextmanager
def opened(
    settings: Settings, folder: DeclarationFolder, quarantine: Quarantine, stopping: threading.Event
) -> Iterator["LearningSession"]:
    """Connect, restore each model from its last checkpoint, and disconnect when the block ends."""
    with contextlib.ExitStack() as stack:
        ensure_topics(settings, {})
        consumer = kafka_consumers.connect(settings, "learning")
        stack.callback(consumer.close, timeout_ms=CLOSE_MS)
        outbox = Outbox("learning", settings.kafka_options(), stopping)
        stack.callback(outbox.close)
        client = redis_clients.connect_blocking(settings, socket_timeout=REDIS_TIMEOUT_SECONDS)
        stack.callback(client.close)
        arms = kafka_consumers.connect(settings, "learning-arms")
        stack.callback(arms.close, timeout_ms=CLOSE_MS)
        models_topic = ModelsTopic(
            arms,
            lambda batch: outbox.write({(topics.MODELS.name, 0): batch}),
            source="learning",
            cloud_events=settings.cloud_events != "none",
        )
        announcer = Announcer(models_topic, functools.partial(large_references.publish_connected, settings))
        reader = prediction_source.PredictionSourceReader(consumer)
        ownership = model_ownership.join(settings, "learning", topics.LEARNING_STATE)
        stack.callback(ownership.close)
        opener = LearningModelOpener(settings, quarantine, outbox, ownership, announcer, consumer)
        models = GuardedModels(folder, quarantine, opener, reader, ownership, learning_models)
        stack.callback(models.close)
        models.refresh()
        tell = functools.partial(gate_entries.tell, settings)
        find = functools.partial(find_version, settings)
        yield LearningSession(
            outbox, client, models, reader, announcer, DefinitionWatch(settings), tell, find
        )


def find_version(settings: Settings, model: str, version: int) -> records.LearnedModel | None:
    """Return a published version over a new connection, see `learned_versions.find`."""
    with contextlib.closing(kafka_consumers.connect(settings, "learning-champion")) as consumer:
        return learned_versions.find(consumer, model, version)


class LearningModelOpener:
    """Restores models from their checkpoints, and writes these."""

    def __init__(
        self,
        settings: Settings,
        quarantine: Quarantine,
        outbox: Outbox,
        ownership: ModelOwnership,
        announcer: "Announcer",
        consumer: KafkaConsumer,
    ) -> None:
        """Take what the models share."""
        self._consumer = consumer
        self._settings = settings
        self._quarantine = quarantine
        self._ownership = ownership
        older = OlderTopic(topics.LEARNED.name, learned_versions.checkpoint_key)
        self._checkpoints = StateTopic(topics.LEARNING_STATE.name, outbox, ownership, older)
        self._announcer = announcer

    def prepare(self, declarations: Mapping[str, ModelDeclaration]) -> Mapping[str, LearnerState]:
        """Create the topics of these models; return the state of each, see `_restore`."""
        ensure_topics(self._settings, declarations)
        with contextlib.closing(kafka_consumers.connect(self._settings, "learning-state")) as consumer:
            partitions = prediction_source.input_partitions(consumer, declarations)
            inputs = {
                name: prediction_source.input_topics(consumer, each) for name, each in declarations.items()
            }
            found = self._checkpoints.find(consumer, declarations)
        return _restore(found, declarations, partitions, inputs)

    def open(self, declaration: ModelDeclaration, found: LearnerState) -> LearningModel:
        """Return a model that continues from a state."""
        name, settings = declaration.name, self._settings
        decoder_for = functools.partial(
            PredictionDecoder,
            "learning",
            declaration,
            registry=schema_registry_client.connect(settings),
            rejected=self._quarantine.rejected(name),
            clock=EventClock("learning", settings.event_ahead_seconds_max),
            ends=source_ends.of_topic(self._consumer, declaration.request.topic),
        )
        model = LearningModel(settings, declaration, found, self._announcer.names_of(name), decoder_for)
        folder = pending_restore.folder_of(settings, "learning", name)
        disk, lost_from = pending_restore.open_disk(folder, found.on_disk)
        model.learner.pending.use_disk(disk)
        try:
            if lost_from is not None:
                rebuild = model.learner.rebuild(disk, lost_from)
                keep_alive = self._ownership.renew
                pending_restore.refill(settings, "learning", declaration, decoder_for, rebuild, keep_alive)
                rebuild.finish(found.pending, model.learner.evicted_before_ms)
                _log.info("pending.restored", model=name, waiting=len(model.learner.pending))
        except BaseException:
            disk.close()
            raise
        return model

    def keep(self, model: LearningModel) -> None:
        """Write a checkpoint and wait until it is acknowledged."""
        self._announcer.announce(model)  # including earlier versions, if somebody has overwritten the arms
        started_seconds = time.monotonic()
        value = CHECKPOINTS.encode(model.name, model.source.label_topic, model.learner.state())
        self._checkpoints.put(model.name, value)
        metrics.LEARNING_STATE_BYTES.labels(model.name, "checkpoint").set(len(value))
        model.pace.taken(started_seconds, time.monotonic())


class LearningSession:
    """Reads predictions and labels, learns, writes the results."""

    def __init__(
        self,
        outbox: Outbox,
        client: Any,
        models: GuardedModels[LearningModel],
        reader: prediction_source.PredictionSourceReader,
        announcer: "Announcer",
        features: DefinitionWatch,
        tell: TellVerdicts,
        find: FindVersion,
    ) -> None:
        """Take connected clients and the models, what tells verdicts, and what finds a published version."""
        self._outbox = outbox
        self._versions = LargeRecordWriter(lambda batch: outbox.write({(topics.LEARNED.name, 0): batch}))
        self._redis = client
        self._models = models
        self._reader = reader
        self._announcer = announcer
        self._features = features
        self._tell = tell
        self._copies = ChampionCopies(find, self._versions)

    def step(self) -> None:
        """Process one slice; return after the poll timeout if there is none."""
        self._models.refresh()
        has_read = self._models.read()
        if changed := self._features.changed(self._models):
            _log.warning("learning.features_changed", models=changed)
            for name in changed:
                self._models.reopen(name)
        if has_read:
            for each in self._models:
                self._models.attempt(each.name, self._advance, each)
            self._reader.pause_leading_partitions()
        for each in self._models:
            each.public_watermark.publish(self._redis, each.watermark_ms)
        self._models.keep_due()

    def keep_all(self) -> None:
        """Write the last checkpoints before the process ends."""
        self._models.keep_all()

    def _advance(self, each: LearningModel) -> None:
        """Learn, and return when all results are acknowledged."""
        self._announcer.learn_names(each)
        outputs = each.learner.advance()
        self._outbox.write(prediction_source.dead_letter_batches(outputs.dead_letters))
        if outputs.learned:
            self._copies.copy(each.name, outputs.learned[-1], self._announcer.latest(each.name))
        for learned in outputs.published:
            # Versions use the keys in turn: this is the slot that the key's last version did not use.
            slot = learned.version // learned_versions.KEYS % 2
            self._versions.put(
                learned_versions.key(each.name, learned.version), records.encode(learned), slot
            )
        self._tell(each.name, outputs.verdicts)
        if outputs.learned:
            self._announcer.announce(each)
        each.watermark_ms = each.learner.watermark_ms
        each.pace.note(outputs.intervals_closed)
        each.pace.urgent = each.learner.pending.needs_settling
        each.observer.observe(outputs)


class Announcer:
    """Adds learned versions to the arms of their models, each version once.

    Operators write to the models topic as well. So each version is added to the arms that they have left.
    """

    def __init__(self, models_topic: ModelsTopic, publish_large: PublishReference) -> None:
        """Take the models topic, which is read to its end, and what writes references too large for it."""
        self._models_topic = models_topic
        self._publish_large = publish_large
        self._large_names: dict[str, records.ReferenceName] = {}

    def names_of(self, model: str) -> FeatureSets:
        """Return the published names of the features of a model, which grow as the topic is read."""
        return self._models_topic.feature_sets.setdefault(model, FeatureSets())

    def latest(self, model: str) -> records.ModelChanged | None:
        """Return the latest change of the arms of a model that was read."""
        return self._models_topic.latest.get(model)

    def learn_names(self, each: LearningModel) -> None:
        """Read the names of features that scoring has published; continue without missing ones."""
        sets = each.learner.feature_sets
        if sets.has_unknown:
            self._models_topic.refresh()
            if given_up := sets.give_up():
                _log.warning("learning.names_missing", model=each.name, feature_sets=given_up)

    def announce(self, each: LearningModel) -> None:
        """Write the changes that the arms of a model lack; return when the latest arms have them all."""
        first_ms, learned = each.learner.first_ms, each.learner.learned
        reference = self._published(each.name, each.learner.reference)
        if first_ms is None:
            return

        def lacking(latest: records.ModelChanged | None) -> list[records.ModelChanged]:
            return arms_update.changes(each.name, first_ms, learned, latest, reference)

        try:
            self._models_topic.publish_on_latest(each.name, lacking)
        except OvertakenError as error:
            _log.warning("learning.arms_contended", model=each.name, error=str(error))

    def _published(
        self, model: str, reference: records.Reference | None
    ) -> records.Reference | records.ReferenceName | None:
        """Return a reference, or the name of one that is too large for a change and written here."""
        if reference is None or not large_references.is_large(reference):
            return reference
        known = self._large_names.get(model)
        if known is None or known.version != reference.version:
            self._large_names[model] = self._publish_large(model, reference)
        return self._large_names[model]


def _restore(
    checkpoints: Mapping[str, FoundValue],
    declarations: Mapping[str, ModelDeclaration],
    partitions: Mapping[str, int],
    inputs: Mapping[str, InputTopics],
) -> dict[str, LearnerState]:
    states = {}
    for name, declaration in declarations.items():
        state = None
        if (found := checkpoints.get(name)) is not None:
            state = CHECKPOINTS.decode(found[1], name)
            before = topic_identity.identity(CHECKPOINTS.label_topic(found[1]), None)
            state.topics.setdefault("labels", before)  # older versions wrote only this name
            _log.info("learning.restored", model=name, offset=found[0], labels=state.counts.learned)
        states[name] = fresh_state(
            name,
            partitions[topics.predictions(name)],
            partitions[declaration.label.topic],
            state,
            inputs[name],
        )
    return states

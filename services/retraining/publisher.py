"""What the retraining process reads of other topics, and what it writes."""

import contextlib
from collections.abc import Mapping, Sequence

from kafka import KafkaConsumer

from services.model_registry import large_references, ledger, ledger_drafts, models_topic
from services.model_registry.models_topic import MakeChanges
from services.retraining import ledger_evidence
from services.runtime import kafka_consumers, times
from services.runtime.kafka_producers import RecordProducer
from services.runtime.settings import Settings
from streams import records, topics
from streams.cloud_events import Envelope
from streams.feature_sets import FeatureSets
from streams.json_decoder import InvalidRecordError

_decode_rollout = records.decoder_of(records.RolloutRecord).decode


class TopicPublisher:
    """Writes results, references and changes of arms."""

    def __init__(self, settings: Settings, producer: RecordProducer) -> None:
        """Take a connected producer."""
        self._settings = settings
        self._producer = producer

    def publish_result(
        self, finished: records.RetrainingFinished, request: records.RetrainingRequested
    ) -> None:
        """Write the result of a request and return when the broker has acknowledged it.

        The ledger is written before: after a crash in between, the request is repeated, and no entry twice.
        """
        data_set, gates = ledger_evidence.of_run(self._settings, finished.model, finished.request_id)
        entries = ledger_drafts.of_retraining(
            request, finished, at_ms=times.now_ms(), data_set=data_set, gates=gates
        )
        ledger.append(self._settings, entries, ledger_drafts.RETRAINING)
        enabled = self._settings.cloud_events != "none"
        headers = Envelope("retraining", finished.model, enabled=enabled).headers(finished)
        self._producer.send(
            topics.RETRAINING.name, finished.model.encode(), records.encode(finished), headers
        )

    def publish_request(self, request: records.RetrainingRequested) -> None:
        """Write a request of model.yaml or of an HTTP call; this process reads it as all others."""
        enabled = self._settings.cloud_events != "none"
        headers = Envelope("retraining", request.model, enabled=enabled).headers(request)
        self._producer.send(topics.RETRAINING.name, request.model.encode(), records.encode(request), headers)

    def model_state(self, model: str) -> tuple[records.ModelChanged | None, FeatureSets]:
        """Return the latest change of a model, and the published names of its features."""
        return models_topic.read_model(self._settings, model)

    def rollouts(self, model: str) -> list[records.RolloutRecord]:
        """Return the records of all rollouts of a model; one that cannot be decoded is left out."""
        found: list[records.RolloutRecord] = []
        name = topics.ROLLOUTS.name
        for message in kafka_consumers.read_topic(self._settings, "retraining-rollouts", name):
            with contextlib.suppress(InvalidRecordError):  # the rollout process reports it
                found += [_decode_rollout(message.value)] if message.value is not None else []
        return [record for record in found if record.model == model]

    def publish_reference(self, model: str, reference: records.Reference) -> records.ReferenceName:
        """Write a reference that is too large for a change; return its name when it is acknowledged."""
        return large_references.publish_connected(self._settings, model, reference)

    def publish_changes(self, model: str, make: MakeChanges) -> None:
        """Write what follows from the latest change of a model's arms and return when it is acknowledged."""
        with models_topic.opened(self._settings, "retraining") as models:
            models.publish_on_latest(model, make)
            change, actor = models.latest[model], ledger_drafts.RETRAINING
        draft = ledger_drafts.of_change(change, actor=actor, at_ms=times.now_ms())
        ledger.append(self._settings, [draft], actor)

    def end_offsets(self, names: Sequence[str]) -> Mapping[str, list[int]]:
        """Return the end of each partition of these topics; an empty list for a topic that does not exist."""
        with contextlib.closing(kafka_consumers.connect(self._settings, "retraining-ends")) as consumer:
            return {name: _ends(consumer, name) for name in names}


def _ends(consumer: KafkaConsumer, topic: str) -> list[int]:
    try:
        return kafka_consumers.end_offsets(consumer, topic)
    except kafka_consumers.MissingTopicError:
        return []

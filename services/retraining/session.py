"""The Kafka side of the retraining process: requests in, records out.

Delivery: the offset of a request is committed after its result is acknowledged. A request that is delivered
again is skipped if it has a result, and continues where it stopped if it has none. An interrupted training is
a crash by design: it is done again. A request that failed, or ended the process, at `ATTEMPTS_MAX` attempts
gets the result "failed", so that the requests after it are handled (`services.retraining.attempts`). A
request of a model whose declaration is invalid waits (`services.retraining.waiting_requests`). Requests are
handled one at a time, for all models. The topic's one partition is assigned by hand, because a training that
takes hours would lose it to the group: run one process of this kind.
"""

import contextlib
import importlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from services.model_registry import (
    large_references,
    ledger,
    ledger_drafts,
    mlflow_client,
    models_topic,
    skops_internals,
)
from services.model_registry.models_topic import OvertakenError
from services.retraining.attempts import Attempts, of_text
from services.retraining.retrainer import MakeChanges, Retrainer
from services.retraining.waiting_requests import WaitingRequests
from services.runtime import kafka_consumers, metrics, times
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.kafka_producers import RecordProducer
from services.runtime.quarantine import Quarantine
from services.runtime.recreated_topics import RecreatedTopics
from services.runtime.settings import Settings
from streams import codec, dead_letters, defects, records, topics
from streams.cloud_events import Envelope
from streams.feature_sets import FeatureSets
from streams.json_decoder import InvalidRecordError
from streams.outages import is_outage

log = structlog.get_logger()
_decode = records.decoder_of(records.RetrainingRecord).decode

GROUP = "driftline.retraining"
POLL_MS = 200
CLOSE_MS = 2000
"""Maximum time to leave the group; Kafka's client would wait for half a minute."""
REQUESTS = TopicPartition(topics.RETRAINING.name, 0)


WARMED = ("duckdb", "matplotlib.figure", "mlflow.sklearn", "pandera.pandas", "sklearn.ensemble")
"""Slow libraries of a training, after skops, which searches all modules that are loaded."""


def warm_up(settings: Settings) -> None:
    """Import what takes seconds, and connect to MLflow, before the first request waits for it."""
    skops_internals.skops_io()
    for name in WARMED:
        importlib.import_module(name)
    mlflow_client.connect(settings).search_experiments(max_results=1)


@contextlib.contextmanager
def opened(
    settings: Settings,
    folder: DeclarationFolder,
    quarantine: Quarantine,
    waiting: WaitingRequests,
    _stopping: threading.Event,
) -> Iterator["RetrainingSession"]:
    """Connect, read what has happened so far, and disconnect at the end of the block."""
    quarantine.declare(folder.valid, folder.faults, time.monotonic())
    warm_up(settings)
    with contextlib.ExitStack() as stack:
        producer = stack.enter_context(contextlib.closing(RecordProducer(settings)))
        consumer = kafka_consumers.connect(settings, "retraining", group_id=GROUP, max_poll_records=1)
        stack.callback(consumer.close, autocommit=False, timeout_ms=CLOSE_MS)
        kafka_consumers.partition_count(consumer, REQUESTS.topic)
        kafka_consumers.partition_count(consumer, topics.LEDGER.name)
        consumer.assign([REQUESTS])
        session = RetrainingSession(settings, folder, consumer, producer, waiting)
        session.recall()
        log.info("retraining.waiting")
        yield session


class RetrainingSession:
    """Takes one request after the other."""

    def __init__(
        self,
        settings: Settings,
        folder: DeclarationFolder,
        consumer: KafkaConsumer,
        producer: RecordProducer,
        waiting: WaitingRequests,
    ) -> None:
        """Take connected clients; nothing is read before `recall`."""
        self._waiting = waiting
        waiting.begin()
        self._settings = settings
        self._consumer = consumer
        self._recreated = RecreatedTopics(consumer)
        self._producer = producer
        self._retrainer = Retrainer(settings, folder, self, self.end_offsets)
        self._attempts = Attempts(-1)
        self._requests: dict[str, records.RetrainingRequested] = {}
        """The requests without a result, by id: their reasons are evidence in the ledger."""

    def recall(self) -> None:
        """Read the results of all earlier requests. The topic is small and kept without a limit."""
        self._recreated.note(REQUESTS.topic)
        self._attempts = self._committed(kafka_consumers.topic_id(self._consumer, REQUESTS.topic))
        for record in kafka_consumers.read_topic(self._settings, "retraining-history", REQUESTS.topic):
            with contextlib.suppress(InvalidRecordError):  # it became a dead letter when it was read first
                if record.value is not None:
                    self._retrainer.history.add(_decode(record.value))

    def step(self) -> None:
        """Handle the next request, if there is one, and commit its offset.

        Raises `TopicRecreatedError` if the topic is another one now.
        """
        self._recreated.check([REQUESTS.topic])
        for found in self._consumer.poll(timeout_ms=POLL_MS).values():
            for record in found:
                request = self._decoded(record)
                if isinstance(request, records.RetrainingRequested):
                    self._requests[request.request_id] = request
                    self._take(record.offset, request)
                self._commit(record.offset + 1, self._attempts.passed(record.offset + 1))

    def _take(self, offset: int, request: records.RetrainingRequested) -> None:
        """Handle a request, unless it has a result or must wait."""
        if self._retrainer.history.is_finished(request.request_id):
            log.info("retraining.repeat", request_id=request.request_id)
        elif reason := self._retrainer.wait_reason(request):
            self._waiting.add(offset, request, reason)
        else:
            self._handle(offset, request)

    def _handle(self, offset: int, request: records.RetrainingRequested) -> None:
        attempts = self._attempts.of(offset)
        if attempts.are_used_up:
            self._retrainer.give_up(request, f"{attempts.begun} attempts failed: {attempts.reason}")
            return
        attempts = attempts.next()
        self._note(attempts)
        try:
            self._retrainer.handle(request)
        except KeyboardInterrupt:  # a signal stops the process: the request was not at fault
            self._note(attempts.taken_back())
            raise
        except Exception as error:
            is_ours = not is_outage(error) and not isinstance(error, OvertakenError)
            self._note(attempts.failed(defects.reason_of(error)) if is_ours else attempts.taken_back())
            raise

    def _committed(self, topic_id: str) -> Attempts:
        """Return the committed attempts; read the topic from its start if they are of a former one."""
        found = self._consumer.committed(REQUESTS, metadata=True)
        attempts = of_text(None if found is None else found.metadata)
        if attempts.are_of_another_topic(topic_id):
            log.warning("retraining.topic_recreated", committed=attempts.offset)
            self._consumer.seek_to_beginning(REQUESTS)
            attempts = Attempts(-1)
        return msgspec.structs.replace(attempts, topic_id=topic_id)

    def _note(self, attempts: Attempts) -> None:
        with contextlib.suppress(KafkaError):  # without the commit, this attempt is not counted
            self._commit(attempts.offset, attempts)

    def _commit(self, offset: int, attempts: Attempts) -> None:
        self._attempts = attempts
        position = self._waiting.position(offset)
        self._consumer.commit({REQUESTS: OffsetAndMetadata(position, attempts.text(), -1)})

    def _decoded(self, record: Any) -> records.RetrainingRecord | None:
        """Decode a record; one that cannot be decoded becomes a dead letter."""
        try:
            return None if record.value is None else _decode(record.value)
        except Exception as error:  # noqa: BLE001  # whatever it is, only this record is at fault
            letter = codec.letter_of("retraining", record, error)
            key, value, _ = dead_letters.encode(letter)
            self._producer.send(topics.DEAD_LETTERS.name, key, value)
            metrics.DEAD_LETTERS.labels("retraining", record.topic, letter.kind).inc()
            log.error("retraining.record_invalid", offset=record.offset, reason=letter.reason)  # noqa: TRY400  # no stack needed
            return None

    def keep_all(self) -> None:
        """Keep nothing: each request is committed once its result is acknowledged."""

    def publish_result(self, finished: records.RetrainingFinished) -> None:
        """Write the result of a request and return when the broker has acknowledged it.

        The ledger is written before: after a crash in between, the request is repeated, and no entry twice.
        """
        request = self._requests.get(finished.request_id)
        entries = ledger_drafts.of_retraining(request, finished, at_ms=times.now_ms())
        ledger.append(self._settings, entries, ledger_drafts.RETRAINING)
        enabled = self._settings.cloud_events != "none"
        headers = Envelope("retraining", finished.model, enabled=enabled).headers(finished)
        self._producer.send(REQUESTS.topic, finished.model.encode(), records.encode(finished), headers)
        self._requests.pop(finished.request_id, None)

    def model_state(self, model: str) -> tuple[records.ModelChanged | None, FeatureSets]:
        """Return the latest change of a model, and the published names of its features."""
        return models_topic.read_model(self._settings, model)

    def publish_reference(self, model: str, reference: records.Reference) -> records.ReferenceName:
        """Write a reference that is too large for a change; return its name when it is acknowledged."""
        return large_references.publish_connected(self._settings, model, reference)

    def publish_changes(self, model: str, make: MakeChanges) -> None:
        """Write what follows from the latest change of a model's arms and return when it is acknowledged."""
        with models_topic.opened(self._settings, "retraining") as models:
            if not models.publish_on_latest(model, make):
                raise OvertakenError(
                    f"the arms of {model} were changed {models_topic.ATTEMPTS_MAX} times by somebody else "
                    "during its promotion: restart retraining to try again"
                )
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

"""The Kafka side of the retraining process: requests in, records out.

Delivery: the offset of a request is committed after its result is acknowledged. A request that is delivered
again is skipped if it has a result, and continues where it stopped if it has none. An interrupted training is
a crash by design: its steps that are not done are done again. A request whose process ended without a word at
`ATTEMPTS_MAX` attempts gets the result "failed" (`services.retraining.attempts`). An outage is no attempt,
and is tried again later. Several models are trained at once, each by one process; requests that must wait
block no others (`services.retraining.request_queue`). The topic's one partition is assigned by hand: run one
process of this kind.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import structlog
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from services.feature_store.plan_watch import PlanWatch
from services.model_registry import ledger
from services.retraining.attempts import OpenAttempts, of_text
from services.retraining.http_requests import RetrainingAnswer, RetrainingCall, decided
from services.retraining.publisher import TopicPublisher
from services.retraining.request_api import RequestInbox
from services.retraining.request_queue import RequestQueue
from services.retraining.retrainer import Retrainer
from services.retraining.scheduled_requests import ScheduledRequests, count_labels
from services.retraining.trainings import Trainings
from services.runtime import kafka_consumers, metrics, times
from services.runtime.declaration_file import DeclarationFolder
from services.runtime.kafka_producers import RecordProducer
from services.runtime.quarantine import Quarantine
from services.runtime.recreated_topics import RecreatedTopics
from services.runtime.settings import Settings
from streams import codec, dead_letters, records, topics
from streams.json_decoder import InvalidRecordError

log = structlog.get_logger()
_decode = records.decoder_of(records.RetrainingRecord).decode

GROUP = "driftline.retraining"
POLL_MS = 200
CLOSE_MS = 2000
"""Maximum time to leave the group; Kafka's client would wait for half a minute."""
REQUESTS = TopicPartition(topics.RETRAINING.name, 0)


@contextlib.contextmanager
def opened(
    settings: Settings,
    folder: DeclarationFolder,
    quarantine: Quarantine,
    requests: RequestQueue,
    inbox: RequestInbox,
    _stopping: threading.Event,
) -> Iterator["RetrainingSession"]:
    """Connect, read what has happened so far; at the end of the block end trainings and disconnect."""
    with contextlib.ExitStack() as stack:
        producer = stack.enter_context(contextlib.closing(RecordProducer(settings)))
        consumer = kafka_consumers.connect(settings, "retraining", group_id=GROUP, max_poll_records=1)
        stack.callback(consumer.close, autocommit=False, timeout_ms=CLOSE_MS)
        kafka_consumers.partition_count(consumer, REQUESTS.topic)
        kafka_consumers.partition_count(consumer, topics.LEDGER.name)
        consumer.assign([REQUESTS])
        session = RetrainingSession(settings, folder, quarantine, consumer, producer, requests, inbox)
        stack.callback(session.stop)
        session.recall()
        log.info("retraining.waiting")
        yield session


class RetrainingSession:
    """Takes requests, lets a process train for each model, and writes the results."""

    def __init__(
        self,
        settings: Settings,
        folder: DeclarationFolder,
        quarantine: Quarantine,
        consumer: KafkaConsumer,
        producer: RecordProducer,
        requests: RequestQueue,
        inbox: RequestInbox,
    ) -> None:
        """Take connected clients; nothing is read before `recall`.

        ``quarantine`` shows invalid declarations, ``requests`` what waits; another thread fills ``inbox``.
        """
        self._queue = requests
        requests.clear()
        self._settings = settings
        self._folder = folder
        self._consumer = consumer
        self._recreated = RecreatedTopics(consumer)
        self._producer = producer
        self._publisher = publisher = TopicPublisher(settings, producer)
        self._retrainer = Retrainer(settings, folder, publisher, publisher.end_offsets)
        count = functools.partial(count_labels, settings)
        self._scheduled = ScheduledRequests(
            folder, self._retrainer.history, count, self._retrainer.trial_refusal
        )
        self._trainings = Trainings(settings, requests, self._retrainer, self._commit)
        self._read_to: int | None = None
        self._committed: tuple[int, str] | None = None
        self._plan = PlanWatch(settings)
        self._quarantine = quarantine
        self._inbox = inbox
        quarantine.declare(folder.valid, folder.faults, time.monotonic())

    def recall(self) -> None:
        """Read the results of all earlier requests. The topics are small and kept without a limit."""
        self._recreated.note(REQUESTS.topic)
        self._trainings.attempts = self._read_attempts(
            kafka_consumers.topic_id(self._consumer, REQUESTS.topic)
        )
        for record in kafka_consumers.read_topic(self._settings, "retraining-history", REQUESTS.topic):
            with contextlib.suppress(InvalidRecordError):  # it became a dead letter when it was read first
                if record.value is not None:
                    self._retrainer.history.add(_decode(record.value))
        if self._retrainer.history.has_open:
            self._retrainer.recall(ledger.read(self._settings))

    def step(self) -> None:
        """Read the next request, begin what is due, and finish what has ended.

        Raises `TopicRecreatedError` if the topic is another one now.
        """
        self._recreated.check([REQUESTS.topic])
        if bool(self._folder.refresh()) | self._plan.refresh():
            self._quarantine.declare(self._folder.valid, self._folder.faults, time.monotonic())
            self._queue.wake()
        for found in self._consumer.poll(timeout_ms=POLL_MS).values():
            for record in found:
                request = self._decoded(record)
                if isinstance(request, records.RetrainingRequested):
                    self._retrainer.history.add(request)
                    self._trainings.add(record.offset, request)
                self._read_to = record.offset + 1
        self._inbox.answer(self._answer)
        for scheduled in self._scheduled.due(time.monotonic(), times.now_ms()):
            self._publisher.publish_request(scheduled)
        self._trainings.step()
        self._commit()

    def _answer(self, model: str, call: RetrainingCall) -> RetrainingAnswer:
        history = self._retrainer.history
        answer, request = decided(model, call, history, self._folder, times.now_ms())
        if request is not None:
            self._publisher.publish_request(request)
            history.add(request)  # before it is read: a repeat of the call makes no second
        return answer

    def stop(self) -> None:
        """End the trainings: the next session begins them again."""
        self._trainings.stop()

    def _read_attempts(self, topic_id: str) -> OpenAttempts:
        """Return the committed attempts; read the topic from its start if they are of a former one."""
        found = self._consumer.committed(REQUESTS, metadata=True)
        attempts = of_text(None if found is None else found.metadata)
        if attempts.are_of_another_topic(topic_id):
            log.warning("retraining.topic_recreated", committed=None if found is None else found.offset)
            self._consumer.seek_to_beginning(REQUESTS)
            attempts = OpenAttempts()
        return msgspec.structs.replace(attempts, topic_id=topic_id)

    def _commit(self) -> None:
        """Commit the first open request, or what was read, with the attempts; nothing if both are known."""
        if self._read_to is None:
            return
        state = self._queue.position(self._read_to), self._trainings.attempts.text()
        if state != self._committed:
            self._consumer.commit({REQUESTS: OffsetAndMetadata(*state, -1)})
            self._committed = state

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

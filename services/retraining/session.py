"""The Kafka side of the retraining process: requests in, records out.

Delivery: the offset of a request is committed after its result is acknowledged. A request that is delivered
again is skipped if it has a result, and continues where it stopped if it has none. An interrupted training is
a crash by design: it is done again. Requests are handled one at a time, for all models. The topic's one
partition is assigned by hand, because a training that takes hours would lose it to the group: run one process
of this kind.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition

from services.model_registry import mlflow_client
from services.retraining.retrainer import Retrainer
from services.runtime import kafka_consumers
from services.runtime.declaration import ModelDeclaration
from services.runtime.kafka_producers import RecordProducer
from services.runtime.settings import Settings
from streams import records, topics
from streams.cloud_events import Envelope

log = structlog.get_logger()

GROUP = "driftline.retraining"
POLL_MS = 200
CLOSE_MS = 2000
"""Maximum time to leave the group; Kafka's client would wait for half a minute."""
REQUESTS = TopicPartition(topics.RETRAINING.name, 0)


def warm_up(settings: Settings) -> None:
    """Import what takes seconds, and connect to MLflow, before the first request waits for it."""
    import skops.io  # noqa: F401, I001  # warmed, as all below; first, as it searches all that is loaded
    import duckdb  # noqa: F401  # as above
    import matplotlib.figure  # noqa: F401  # as above
    import mlflow.sklearn  # noqa: F401  # as above
    import pandera.pandas  # noqa: F401  # as above
    import sklearn.ensemble  # noqa: F401  # as above

    mlflow_client.connect(settings).search_experiments(max_results=1)


@contextlib.contextmanager
def opened(
    settings: Settings, declarations: Mapping[str, ModelDeclaration], _stopping: threading.Event
) -> Iterator["RetrainingSession"]:
    """Connect, read what has happened so far, and disconnect at the end of the block."""
    warm_up(settings)
    with contextlib.ExitStack() as stack:
        producer = stack.enter_context(contextlib.closing(RecordProducer(settings)))
        consumer = kafka_consumers.connect(settings, "retraining", group_id=GROUP, max_poll_records=1)
        stack.callback(consumer.close, autocommit=False, timeout_ms=CLOSE_MS)
        log.info("retraining.waiting")
        kafka_consumers.partition_count(consumer, REQUESTS.topic)
        consumer.assign([REQUESTS])
        session = RetrainingSession(settings, declarations, consumer, producer)
        session.recall()
        yield session


class RetrainingSession:
    """Takes one request after the other."""

    def __init__(
        self,
        settings: Settings,
        declarations: Mapping[str, ModelDeclaration],
        consumer: KafkaConsumer,
        producer: RecordProducer,
    ) -> None:
        """Take connected clients; nothing is read before `recall`."""
        self._settings = settings
        self._consumer = consumer
        self._producer = producer
        self._decode = records.decoder_of(records.RetrainingRecord).decode
        self._retrainer = Retrainer(
            settings, declarations, self.publish, self.end_offsets, changes=self.changes
        )

    def recall(self) -> None:
        """Read what has happened so far. Both topics are small and kept without a limit."""
        happened = read_all(self._settings, topics.RETRAINING.name, records.RetrainingRecord)
        for record in (*happened, *self.changes()):
            self._retrainer.history.add(record)

    def step(self) -> None:
        """Handle the next request, if there is one, and commit its offset."""
        for found in self._consumer.poll(timeout_ms=POLL_MS).values():
            for record in found:
                self._handle(record)
                self._consumer.commit()

    def keep_all(self) -> None:
        """Keep nothing: each request is committed once its result is acknowledged."""

    def publish(self, topic: str, record: records.ModelChanged | records.RetrainingFinished) -> None:
        """Write a record and return when the broker has acknowledged it."""
        enabled = self._settings.cloud_events != "none"
        headers = Envelope("retraining", record.model, enabled=enabled).headers(record)
        self._producer.send(topic, record.model.encode(), records.encode(record), headers)

    def end_offsets(self, names: Sequence[str]) -> Mapping[str, list[int]]:
        """Return the end of each partition of these topics; an empty list for a topic that does not exist."""
        with contextlib.closing(kafka_consumers.connect(self._settings, "retraining-ends")) as consumer:
            return {name: _ends(consumer, name) for name in names}

    def changes(self) -> Iterable[records.ModelChanged]:
        """Read all changes of models so far, by whichever process."""
        return read_all(self._settings, topics.MODELS.name, records.ModelChanged)

    def _handle(self, record: Any) -> None:
        if record.value is None:
            return
        try:
            decoded = self._decode(record.value)
        except ValueError as error:
            log.error("retraining.record_invalid", offset=record.offset, reason=str(error))  # noqa: TRY400  # no stack needed
            return
        if isinstance(decoded, records.RetrainingRequested):
            self._retrainer.handle(decoded)


def _ends(consumer: KafkaConsumer, topic: str) -> list[int]:
    try:
        return kafka_consumers.end_offsets(consumer, topic)
    except kafka_consumers.MissingTopicError:
        return []


def read_all(settings: Settings, topic: str, kind: Any) -> list[Any]:
    """Return all records of a topic up to its present end, without those that cannot be decoded."""
    decode, found = records.decoder_of(kind).decode, []
    for record in kafka_consumers.read_topic(settings, "retraining-history", topic):
        try:
            found.append(decode(record.value or b""))
        except ValueError as error:
            log.warning("retraining.record_invalid", topic=topic, offset=record.offset, reason=str(error))
    return found

"""The retraining process: retraining requests -> gated, promoted models."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from services.model_registry import mlflow_client
from services.retraining.history import Known
from services.retraining.retrainer import Retrainer
from services.runtime import logs
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.web import server
from streams import records, topics
from streams.cloud_events import Envelope
from streams.stopping import exit_within_bounds

log = structlog.get_logger()

GROUP = "driftline.retraining"
POLL_MS = 200
TOPIC_SECONDS = 0.5
"""A topic that is created later is found within this time."""
ACKNOWLEDGED_SECONDS_MAX = 30
CLOSE_MS = 2000
"""Of the group, from which nothing is to be had any more; Kafka's client would wait for half a minute."""
END_SECONDS_MAX = 5.0
"""Between a signal and the end: nothing is finished first, clients only say goodbye."""


def run() -> None:
    """Train, gate and promote a new model for each request."""
    # One thread a fit, before OpenMP loads: two fits run side by side, and sums have the same order anywhere.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    settings = Settings()
    logs.configure_logging("retraining", settings.log_level)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        serve(settings)
    except KeyboardInterrupt:
        log.info("retraining.stopped")


def serve(settings: Settings) -> None:
    """Handle requests until interrupted.

    Delivery: the offset of a request is committed after its result is acknowledged. A request that is
    delivered again is skipped when it has a result, and goes on where it stopped when it has none.
    An interrupted training is a crash by design: it is done again. One request at a time, of all models.
    The topic's one partition is assigned by hand, as a training of hours would lose it to the group: run
    one process of this kind.
    """
    declarations = load_all(settings.models)
    worker = _Worker(settings)
    retrainer = Retrainer(settings, declarations, worker.publish, worker.end_offsets, changes=worker.changes)
    app = server.application(worker.not_ready)
    with server.serve_in_thread(app, settings.host, settings.retraining_port):
        warm_up(settings)
        worker.work(retrainer)


def warm_up(settings: Settings) -> None:
    """Import what takes seconds, and reach MLflow, before the first request waits for it."""
    import skops.io  # noqa: F401, I001  # warmed, as all below; first, as it searches all that is loaded
    import duckdb  # noqa: F401  # as above
    import matplotlib.figure  # noqa: F401  # as above
    import mlflow.sklearn  # noqa: F401  # as above
    import pandera.pandas  # noqa: F401  # as above
    import sklearn.ensemble  # noqa: F401  # as above

    mlflow_client.connect(settings).search_experiments(max_results=1)


class _Worker:
    """The Kafka side: requests in, records out."""

    def __init__(self, settings: Settings) -> None:
        from kafka import KafkaProducer

        self._options = settings.kafka_options()
        self._cloud_events = settings.cloud_events != "none"
        self._producer = KafkaProducer(**self._options, acks="all", enable_idempotence=True)
        self._ready = False

    def not_ready(self) -> str | None:
        return None if self._ready else "starting, or waiting for the topic"

    def publish(self, topic: str, record: records.ModelChanged | records.RetrainingFinished) -> None:
        headers = Envelope("retraining", record.model, enabled=self._cloud_events).headers(record)
        future = self._producer.send(
            topic, key=record.model.encode(), value=records.encode(record), headers=headers
        )
        future.get(timeout=ACKNOWLEDGED_SECONDS_MAX)

    def end_offsets(self, names: Sequence[str]) -> Mapping[str, list[int]]:
        """Return the end of each partition of those topics that exist."""
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(**self._options, allow_auto_create_topics=False)
        try:
            found = {}
            for name in names:
                partitions = [
                    TopicPartition(name, n) for n in sorted(consumer.partitions_for_topic(name) or ())
                ]
                ends = consumer.end_offsets(partitions) if partitions else {}
                found[name] = [ends[partition] for partition in partitions]
            return found
        finally:
            consumer.close()

    def work(self, retrainer: Retrainer) -> None:
        """Take one request after the other, for ever."""
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(
            **self._options,
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            max_poll_records=1,
        )
        decode = records.decoder_of(records.RetrainingRecord).decode
        try:
            log.info("retraining.waiting")
            while not consumer.partitions_for_topic(topics.RETRAINING.name):
                time.sleep(TOPIC_SECONDS)
            consumer.assign([TopicPartition(topics.RETRAINING.name, 0)])
            self._recall(retrainer)
            self._ready = True
            while True:
                fetched = consumer.poll(timeout_ms=POLL_MS)
                for found in fetched.values():
                    for record in found:
                        self._handle(retrainer, decode, record)
                        consumer.commit()
        finally:
            consumer.close(autocommit=False, timeout_ms=CLOSE_MS)
            self._producer.close(timeout=2)

    def _handle(self, retrainer: Retrainer, decode: Any, record: Any) -> None:
        if record.value is None:
            return
        try:
            decoded = decode(record.value)
        except ValueError as error:
            log.error("retraining.record_invalid", offset=record.offset, reason=str(error))  # noqa: TRY400  # no stack needed
            return
        if isinstance(decoded, records.RetrainingRequested):
            retrainer.handle(decoded)

    def _recall(self, retrainer: Retrainer) -> None:
        """Read what happened so far, whoever did it. Both topics are small and kept for ever."""
        for record in (
            *read_all(self._options, topics.RETRAINING.name, records.RetrainingRecord),
            *self.changes(),
        ):
            retrainer.history.add(record)

    def changes(self) -> list[Any]:
        """Read all changes of models so far, whoever made them."""
        return read_all(self._options, topics.MODELS.name, records.ModelChanged)


def read_all(options: Mapping[str, Any], topic: str, kind: Any) -> list[Known]:
    """Return all records of a topic up to its present end, those that cannot be decoded left out."""
    from kafka import KafkaConsumer, TopicPartition

    decode, found = records.decoder_of(kind).decode, []
    consumer = KafkaConsumer(**options, allow_auto_create_topics=False)
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for record in (r for batch in consumer.poll(timeout_ms=POLL_MS).values() for r in batch):
                try:
                    found.append(decode(record.value or b""))
                except ValueError as error:
                    log.warning(
                        "retraining.record_invalid", topic=topic, offset=record.offset, reason=str(error)
                    )
    finally:
        consumer.close()
    return found


def _stop(*_: object) -> None:
    """End at once, in the middle of a training as well."""
    exit_within_bounds(seconds=END_SECONDS_MAX)
    raise KeyboardInterrupt

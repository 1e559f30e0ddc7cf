"""Reads the drift, retraining and models topics into the page feed.

Delivery: every start reads the topics from the beginning, without a consumer group, and commits nothing.
Repeats change nothing, because the state is kept under the records' own ids. A record that cannot be decoded
is counted and skipped: the page only shows, and the processes that act on records write the dead letters.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from services.dashboard.page_feed import PageFeed
from services.model_registry import model_change
from services.runtime.event_clock import EventClock
from services.runtime.kafka_consumers import COMMITTED
from services.runtime.recreated_topics import RecreatedTopics
from services.runtime.settings import Settings
from services.runtime.times import now_ms
from streams import records, topics
from streams.defects import reason_of
from streams.json_decoder import InvalidRecordError
from streams.outages import is_outage

POLL_MS = 200
POLL_RECORDS_MAX = 1000
PROBE_SECONDS = 2.0
PROBE_TIMEOUT_MS = 2000
RETRY_SECONDS = 2.0

DECODERS: Mapping[str, Callable[[bytes], Any]] = {
    topics.DRIFT.name: records.decoder_of(records.DriftRecord).decode,
    topics.RETRAINING.name: records.decoder_of(records.RetrainingRecord).decode,
    topics.MODELS.name: model_change.decode,
}

_log = structlog.get_logger()


def follow(settings: Settings, feed: PageFeed, stop: threading.Event) -> None:
    """Read until ``stop`` is set; reconnect after each failure."""
    # Missing topics are normal at the first start, and `_lose` reports a lost broker once. The client would
    # write several error lines per second about both.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    clock = EventClock("dashboard", settings.event_ahead_seconds_max)
    while not stop.is_set():
        try:
            with _connected(settings) as consumer:
                TopicFollower(consumer, feed, clock).run(stop)
        except Exception as error:  # noqa: BLE001  # the page must not stop without a sign
            if not is_outage(error):
                _log.exception("dashboard.reader_failed")
            _lose(feed, error)
            stop.wait(RETRY_SECONDS)


@contextlib.contextmanager
def _connected(settings: Settings) -> Iterator[KafkaConsumer]:
    consumer = _connect(settings)
    try:
        yield consumer
    finally:
        consumer.close(timeout_ms=1000)


def _connect(settings: Settings) -> KafkaConsumer:
    consumer = KafkaConsumer(
        **settings.kafka_options(),
        client_id="driftline-dashboard",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=COMMITTED,
        allow_auto_create_topics=False,
        metadata_max_age_ms=2000,  # the topics may be created after this process has started
        reconnect_backoff_max_ms=2000,
        bootstrap_timeout_ms=5000,
        max_poll_records=POLL_RECORDS_MAX,
    )
    consumer.subscribe(list(DECODERS))
    return consumer


class TopicFollower:
    """Reads records of one consumer into the feed, and reports whether it has caught up."""

    def __init__(self, consumer: Any, feed: PageFeed, clock: EventClock | None = None) -> None:
        """Take a subscribed consumer, and what tells which times are too far ahead."""
        self._clock = clock or EventClock("dashboard")
        self.consumer = consumer
        self.feed = feed
        self.recreated = RecreatedTopics(consumer)
        self.probed_at_seconds = 0.0
        self.goal: dict[TopicPartition, int] | None = None
        """End offsets of the partitions at the first probe; after these, the page is live."""

    def run(self, stop: threading.Event) -> None:
        """Read until ``stop`` is set; raise `KafkaError` if a new consumer is needed."""
        while not stop.is_set():
            for batch in self.consumer.poll(timeout_ms=POLL_MS, max_records=POLL_RECORDS_MAX).values():
                for message in batch:
                    self.take(message.topic, message.value)
            if time.monotonic() - self.probed_at_seconds >= PROBE_SECONDS:
                self.probe()
                self.probed_at_seconds = time.monotonic()

    def take(self, topic: str, value: bytes | None) -> None:
        """Decode one record and apply it; heartbeats and tombstones have no value and are skipped."""
        if value is None:
            return
        try:
            record = DECODERS[topic](value)
            self._check_time(record)
            if record is not None:  # names of features: nothing that the page shows
                self.feed.apply(record)
        except Exception as error:  # noqa: BLE001  # one record must not stop the page
            reason = str(error) if isinstance(error, InvalidRecordError) else reason_of(error)
            _log.warning("dashboard.record_skipped", topic=topic, error=reason)
            self.feed.update_kafka(records_skipped=self.feed.kafka.records_skipped + 1)
            return
        self.feed.update_kafka(records_read=self.feed.kafka.records_read + 1)

    def _check_time(self, record: Any) -> None:
        """Raise `AheadError` for what drift reports of years ahead: it would stay the latest window."""
        if isinstance(record, records.DriftAlarm):
            self._clock.check_arrival(record.detected_at_ms, now_ms())
        elif isinstance(record, records.DriftReport | records.PerformanceReport):
            self._clock.check_arrival(record.window_end_ms, now_ms())

    def probe(self) -> None:
        """Request the end offsets of the partitions; poll() alone does not notice a lost broker.

        Raises `TopicRecreatedError` if a topic is another one now: a new consumer reads it from its start.
        """
        self.recreated.check(DECODERS)
        partitions = list(self.consumer.assignment())
        try:
            if not partitions:
                self.consumer.bootstrap(timeout_ms=PROBE_TIMEOUT_MS, refresh=True)
                self.feed.update_kafka(status="live", error="")
                return
            ends = self.consumer.end_offsets(partitions, timeout_ms=PROBE_TIMEOUT_MS)
            if self.goal is None or not self.goal.keys() >= ends.keys():
                self.goal = dict(ends)
            reached = all(
                self.consumer.position(partition, timeout_ms=PROBE_TIMEOUT_MS) >= end
                for partition, end in self.goal.items()
                if partition in ends
            )
        except KafkaError as error:
            _lose(self.feed, error)
            return
        self.feed.update_kafka(status="live" if reached else "reading", error="")


def _lose(feed: PageFeed, error: Exception) -> None:
    if feed.kafka.status != "lost":
        _log.warning("dashboard.kafka_lost", broker=feed.kafka.broker, error=repr(error))
    feed.update_kafka(status="lost", error=type(error).__name__)

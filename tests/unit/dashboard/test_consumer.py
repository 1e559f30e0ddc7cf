"""Records from Kafka into the page feed, and the status of the connection."""

import threading
from typing import Any

import msgspec
import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError

from services.dashboard import consumer
from services.dashboard.page_feed import PageFeed
from services.runtime.settings import Settings
from services.runtime.topic_identity import TopicRecreatedError
from streams import codec, topics
from streams.feature_sets import feature_set
from streams.records import encode
from tests.browser.synthetic_year import Year
from tests.unit.drift.memory_kafka import TopicIds

DRIFT = TopicPartition(topics.DRIFT.name, 0)


@pytest.fixture
def feed():
    return PageFeed("broker:9092")


class FakeConsumer:
    """A consumer of one partition with a given position and end."""

    def __init__(self, position: int, end: int) -> None:
        self.at, self.end = position, end
        self.is_lost = False
        self._cluster = TopicIds()

    def assignment(self) -> set[TopicPartition]:
        return {DRIFT}

    def end_offsets(self, partitions: list[TopicPartition], **_: Any) -> dict[TopicPartition, int]:
        if self.is_lost:
            raise KafkaTimeoutError
        return dict.fromkeys(partitions, self.end)

    def position(self, _: TopicPartition, **__: Any) -> int:
        return self.at


def test_invalid_record_is_counted_and_skipped(feed: PageFeed):
    follower = consumer.TopicFollower(None, feed)
    year = Year("m", days=2)
    for value in (encode(year.reports[0]), b"{not json", b'{"type":"other"}', None, encode(year.reports[1])):
        follower.take(topics.DRIFT.name, value)
    assert (feed.kafka.records_read, feed.kafka.records_skipped) == (2, 2)
    assert len(feed.snapshot().models["m"].windows) == 2


def test_a_window_of_years_ahead_is_not_the_latest(feed: PageFeed):
    follower = consumer.TopicFollower(None, feed)
    (report,) = Year("m", days=1).reports
    forged = msgspec.structs.replace(report, report_id="forged", window_end_ms=codec.LATEST_MS)
    for each in (report, forged):
        follower.take(topics.DRIFT.name, encode(each))
    assert (feed.kafka.records_read, feed.kafka.records_skipped) == (1, 1)
    assert [each.end_ms for each in feed.snapshot().models["m"].windows] == [report.window_end_ms]


def test_names_of_features_are_read_and_change_nothing(feed: PageFeed):
    follower = consumer.TopicFollower(None, feed)
    names = feature_set("m", ["x"], [])
    follower.take(topics.MODELS.name, encode(names))
    assert (feed.kafka.records_read, feed.kafka.records_skipped) == (1, 0)
    assert feed.snapshot().models == {}


def test_record_over_which_the_page_fails_is_counted_and_skipped(
    feed: PageFeed, monkeypatch: pytest.MonkeyPatch
):
    def fail(_record: Any) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(feed, "apply", fail)
    consumer.TopicFollower(None, feed).take(topics.DRIFT.name, encode(Year("m", days=1).reports[0]))
    assert (feed.kafka.records_read, feed.kafka.records_skipped) == (0, 1)


@pytest.mark.parametrize("error", [KafkaTimeoutError(), RuntimeError("a defect")])
def test_reader_connects_again_after_any_error(
    feed: PageFeed, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    stop, statuses = threading.Event(), list[str]()

    class Failing:
        def poll(self, **_: Any) -> Any:
            statuses.append(feed.kafka.status)
            if len(statuses) == 2:
                stop.set()
                return {}
            raise error

        def close(self, **_: Any) -> None:
            pass

    monkeypatch.setattr(consumer, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(consumer, "_connect", lambda _: Failing())
    monkeypatch.setattr(consumer.TopicFollower, "probe", lambda _: None)
    consumer.follow(Settings(), feed, stop)
    assert statuses[1] == "lost"


def test_a_reader_that_cannot_connect_tries_again(feed: PageFeed, monkeypatch: pytest.MonkeyPatch):
    stop, statuses = threading.Event(), list[str]()

    def connect(_: Settings) -> Any:
        statuses.append(feed.kafka.status)
        if len(statuses) == 2:
            stop.set()
        raise OSError("no route to host")

    monkeypatch.setattr(consumer, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(consumer, "_connect", connect)
    consumer.follow(Settings(), feed, stop)
    assert statuses[1] == "lost"


def test_status_is_live_after_the_end_seen_at_the_start(feed: PageFeed):
    kafka = FakeConsumer(position=3, end=5)
    follower = consumer.TopicFollower(kafka, feed)
    follower.probe()
    statuses = [feed.kafka.status]
    kafka.at, kafka.end = 5, 9
    follower.probe()
    assert [*statuses, feed.kafka.status] == ["reading", "live"]


def test_lost_broker_is_reported_and_recovers(feed: PageFeed):
    kafka = FakeConsumer(position=5, end=5)
    follower = consumer.TopicFollower(kafka, feed)
    kafka.is_lost = True
    follower.probe()
    assert (feed.kafka.status, feed.kafka.error) == ("lost", "KafkaTimeoutError")
    kafka.is_lost = False
    follower.probe()
    assert (feed.kafka.status, feed.kafka.error) == ("live", "")


def test_a_topic_that_is_recreated_needs_a_new_consumer(feed: PageFeed):
    kafka = FakeConsumer(position=5, end=5)
    follower = consumer.TopicFollower(kafka, feed)
    follower.probe()
    kafka._cluster.recreate(topics.DRIFT.name)
    with pytest.raises(TopicRecreatedError, match=topics.DRIFT.name):
        follower.probe()

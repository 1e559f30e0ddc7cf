"""Inputs are read from the right offsets, and leading partitions are paused."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import pytest
import redis
from kafka import TopicPartition
from prometheus_client import CollectorRegistry, Gauge

from services.monitoring import prediction_source
from services.monitoring.prediction_source import (
    PredictionSource,
    PredictionSourceReader,
    WatermarkPublisher,
    dead_letter_batches,
    direct_source,
)
from streams import records, topics
from streams.inputs import LABEL, PREDICTION, Inputs, PartitionKey, Resume

PREDICTIONS, LABELS = TopicPartition("predictions", 0), TopicPartition("labels", 0)


class AssignedConsumer:
    """Remembers seeks and pauses, and returns prepared records."""

    def __init__(self, polled: dict[TopicPartition, list[Any]] | None = None, start_offset: int = 0) -> None:
        self.sought: dict[TopicPartition, int] = {}
        self.pauses: set[TopicPartition] = set()
        self._polled = polled or {}
        self.partitions: dict[str, set[int]] = {}
        self._start_offset = start_offset

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.assigned = list(partitions)

    def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self._start_offset)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought[partition] = offset

    def position(self, partition: TopicPartition) -> int:
        return self.sought[partition]

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self.partitions.get(topic)

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        return self._polled

    def paused(self) -> set[TopicPartition]:
        return set(self.pauses)

    def pause(self, *partitions: TopicPartition) -> None:
        self.pauses |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.pauses -= set(partitions)


@dataclasses.dataclass
class Handler:
    """Collects the records of all slices."""

    predictions: list[Any] = dataclasses.field(default_factory=list)
    labels: list[Any] = dataclasses.field(default_factory=list)

    def take_predictions(self, messages: Sequence[Any], now_ms: int) -> None:
        self.predictions += messages

    def take_labels(self, messages: Sequence[Any], now_ms: int) -> None:
        self.labels += messages


def reader_of(consumer: Any, *sources: PredictionSource) -> PredictionSourceReader:
    reader = PredictionSourceReader(consumer)
    reader.follow({str(number): each for number, each in enumerate(sources)})
    return reader


def attempt(_model: str, handle: Any, *args: Any) -> None:
    handle(*args)


def source(prediction_offset: int = 0, label_offset: int = 0) -> PredictionSource:
    inputs = Inputs(
        {
            PartitionKey(PREDICTION, 0): Resume(prediction_offset),
            PartitionKey(LABEL, 0): Resume(label_offset),
        }
    )
    return direct_source("predictions", "labels", inputs, Handler())


def test_reading_starts_at_the_lowest_offset_of_all_models() -> None:
    consumer = AssignedConsumer()
    reader_of(consumer, source(5, 7), source(6, 3))
    assert set(consumer.assigned) == {PREDICTIONS, LABELS}
    assert consumer.sought == {PREDICTIONS: 5, LABELS: 3}


def test_every_model_that_shares_a_topic_gets_its_records() -> None:
    sources = [source(), source()]
    reader = reader_of(AssignedConsumer({LABELS: ["a", "b"]}), *sources)
    assert reader.read(attempt)
    for each in sources:
        assert isinstance(each.handler, Handler)
        assert (each.handler.predictions, each.handler.labels) == ([], ["a", "b"])


def test_a_source_that_is_followed_later_moves_a_shared_partition_back_and_no_other() -> None:
    consumer = AssignedConsumer()
    reader = PredictionSourceReader(cast("Any", consumer))
    first = source(5, 7)
    reader.follow({"a": first})
    consumer.sought = {PREDICTIONS: 50, LABELS: 70}
    late = dataclasses.replace(source(6, 9), predictions_topic="others")
    reader.follow({"a": first, "b": late})
    assert consumer.sought == {PREDICTIONS: 50, LABELS: 9, TopicPartition("others", 0): 6}
    reader.follow({"b": late})
    assert set(consumer.assigned) == {LABELS, TopicPartition("others", 0)}


def test_a_model_whose_topic_has_more_partitions_than_it_reads_is_named() -> None:
    consumer = AssignedConsumer()
    reader = reader_of(consumer, source(), dataclasses.replace(source(), label_topic="others"))
    consumer.partitions = {"predictions": {0}, "labels": {0}, "others": {0, 1}}
    assert reader.grown() == ["1"]


def test_reading_nothing_returns_false() -> None:
    assert not reader_of(AssignedConsumer(), source()).read(attempt)


def test_a_partition_with_many_waiting_records_is_paused_until_the_others_catch_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prediction_source, "WAITING_RECORDS_MAX", 2)
    consumer, one = AssignedConsumer(), source()
    reader, inputs = reader_of(consumer, one), one.inputs
    assert isinstance(inputs, Inputs)
    for offset in range(3):
        inputs.add(PartitionKey(PREDICTION, 0), offset, 1000 + offset, str(offset), None)
    reader.pause_leading_partitions()
    assert consumer.pauses == {PREDICTIONS}
    inputs.add_heartbeat(PartitionKey(LABEL, 0), 0, 5000)
    inputs.take()
    reader.pause_leading_partitions()
    assert consumer.pauses == set()


def test_records_deleted_since_the_snapshot_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    reader_of(AssignedConsumer(start_offset=9), source(5, 0))
    logged = capsys.readouterr().out
    assert logged.count("input.lost") == 1
    assert "predictions" in logged


class Client:
    """Collects all calls, or fails while ``is_away``."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **_: Any) -> None:
            if self.is_away:
                raise redis.ConnectionError
            self.values.append((name, *arguments))

        return call


def seconds_of(gauge: Gauge) -> float:
    (family,) = gauge.collect()
    return sum(sample.value for sample in family.samples)


def test_a_watermark_is_published_when_it_changes_and_again_after_an_error() -> None:
    gauge = Gauge("watermark", "", ["model"], registry=CollectorRegistry())
    publisher, client = WatermarkPublisher("drift", "m", gauge), Client()
    publisher.publish(client, None)
    assert client.values == []
    client.is_away = True
    publisher.publish(client, 5000)
    assert seconds_of(gauge) == 0
    client.is_away = False
    for _ in range(2):
        publisher.publish(client, 5000)
    assert len(client.values) == 1
    assert seconds_of(gauge) == 5


def test_dead_letters_go_to_their_topic_by_the_topic_they_came_from() -> None:
    letter = records.DeadLetter(
        service="drift",
        reason="bad",
        topic="labels",
        partition=0,
        offset=1,
        key=None,
        value=None,
        failed_time_ms=0,
    )
    assert dead_letter_batches([]) == {}
    ((target, batch),) = dead_letter_batches([letter]).items()
    assert target == (topics.DEAD_LETTERS.name, 0)
    assert batch == [(b"labels", records.encode(letter), [])]

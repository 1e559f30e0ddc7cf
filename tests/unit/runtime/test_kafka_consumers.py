"""Reads of a topic to its end, on a consumer whose partitions are in memory."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError

from services.runtime import kafka_consumers
from services.runtime.kafka_consumers import MissingTopicError, end_offsets, latest_values, read_to_end
from services.runtime.large_records import LargeRecordWriter
from streams.producer import Record

PARTITION = TopicPartition("t", 0)


class Entry(NamedTuple):
    offset: int
    key: bytes | None = None
    value: bytes | None = b""
    timestamp: int = 0


class Log:
    """One partition as the broker holds it; offsets that hold no record are gaps."""

    def __init__(self, entries: list[Entry], begin: int = 0, end: int | None = None) -> None:
        self.entries = entries
        self.begin = begin
        self.end = (entries[-1].offset + 1 if entries else begin) if end is None else end


class MemoryConsumer:
    """What `read_to_end` needs of a consumer; each poll takes at most two entries."""

    def __init__(self, log: Log, *, silent: bool = False, later: list[Entry] | None = None) -> None:
        self.log = log
        self.at = log.begin
        self.calls: Counter[str] = Counter()
        self._silent = silent
        self._later = later or []

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0} if topic == PARTITION.topic else set()

    def beginning_offsets(self, _: Any) -> dict[TopicPartition, int]:
        return {PARTITION: self.log.begin}

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        ends = dict.fromkeys(partitions, self.log.end)
        if self._later:  # written just after the question
            self.log.entries += self._later
            self.log.end, self._later = self._later[-1].offset + 1, []
        return ends

    def assign(self, _: Any) -> None:
        self.calls["assign"] += 1

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.at = offset

    def position(self, _: TopicPartition) -> int:
        return self.at

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Entry]]:
        self.calls["poll"] += timeout_ms > 0
        found = [] if self._silent else [each for each in self.log.entries if each.offset >= self.at][:2]
        if found:
            self.at = found[-1].offset + 1
        elif not self._silent:
            self.at = self.log.end  # behind the last record there are only markers of transactions
        return {PARTITION: found} if found else {}


def entries(*offsets: int) -> list[Entry]:
    return [Entry(offset, b"k%d" % offset) for offset in offsets]


def test_all_records_up_to_the_end_are_read_over_gaps() -> None:
    consumer = MemoryConsumer(Log(entries(3, 4, 9, 12), begin=3))
    assert [each.offset for each in read_to_end(consumer, [PARTITION])] == [3, 4, 9, 12]


def test_an_end_that_only_markers_reach_is_reached() -> None:
    consumer = MemoryConsumer(Log(entries(0, 1), end=5))
    assert [each.offset for each in read_to_end(consumer, [PARTITION])] == [0, 1]


def test_an_empty_partition_is_not_polled() -> None:
    consumer = MemoryConsumer(Log([]))
    assert list(read_to_end(consumer, [PARTITION])) == []
    assert consumer.calls["poll"] == 0


def test_records_written_after_the_call_are_not_waited_for() -> None:
    consumer = MemoryConsumer(Log(entries(0, 1)), later=entries(2, 3, 4, 5))
    assert [each.offset for each in read_to_end(consumer, [PARTITION])] == [0, 1]


def test_a_silent_broker_is_an_error_that_names_partition_offset_and_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_consumers, "SILENCE_SECONDS_MAX", 0.0)
    consumer = MemoryConsumer(Log(entries(0, 1)), silent=True)
    with pytest.raises(KafkaTimeoutError, match=r"t, partition 0: no record .*offset 0, before the end at 2"):
        list(read_to_end(consumer, [PARTITION]))


def test_the_ends_of_a_topic_that_does_not_exist_are_refused() -> None:
    assert end_offsets(MemoryConsumer(Log(entries(0, 1))), "t") == [2]
    with pytest.raises(MissingTopicError, match="there is no topic other: run 'driftline setup'"):
        end_offsets(MemoryConsumer(Log([])), "other")


def test_the_latest_value_of_each_key_is_found_from_the_end_without_deleted_ones() -> None:
    log = [Entry(0, b"rare", b"old"), *(Entry(n, b"common", b"%d" % n) for n in range(1, 90))]
    log += [Entry(90, b"gone", b"x"), Entry(91, b"gone", None)]
    consumer = MemoryConsumer(Log(log))
    found = latest_values(consumer, PARTITION, [b"rare", b"common", b"gone", b"never"])
    assert {key: each[:2] for key, each in found.items()} == {b"rare": (0, b"old"), b"common": (89, b"89")}


def test_the_search_reads_no_further_back_than_needed() -> None:
    consumer = MemoryConsumer(Log([Entry(n, b"k", b"%d" % n) for n in range(1000)]))
    assert latest_values(consumer, PARTITION, [b"k"])[b"k"][:2] == (999, b"999")
    assert consumer.calls["poll"] == 2


def test_a_value_in_parts_is_put_together_over_several_windows() -> None:
    value = bytes(range(256)) * 20_000
    log: list[Entry] = [Entry(0, b"k", b"old")]

    def write(batch: Sequence[Record]) -> None:
        for key, each, _ in batch:
            log.append(Entry(len(log), key, each))

    LargeRecordWriter(write).put(b"k", value)
    write([(b"another", b"x", [])] * 2)
    found = latest_values(MemoryConsumer(Log(log)), PARTITION, [b"k"])
    assert found[b"k"].value == value
    assert found[b"k"].offset == log[-3].offset

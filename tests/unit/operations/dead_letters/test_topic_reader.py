import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from services.operations.dead_letters import topic_reader
from services.operations.dead_letters.topic_reader import LETTERS, LettersError, offset_at, read, reader
from services.runtime.settings import Settings
from tests.unit.operations.dead_letters.memory_kafka import MemoryKafka

PLACE = TopicPartition("t", 0)


def filled(count: int) -> MemoryKafka:
    kafka = MemoryKafka(t=1)
    for number in range(count):
        kafka.write(PLACE, (b"k", b"%d" % number, []), timestamp_ms=10 * number)
    return kafka


def pieces(kafka: Any, start: int = 0) -> list[list[int]]:
    """Return the offsets of each piece."""

    async def run() -> list[list[int]]:
        return [[record.offset for record in piece] async for piece in read(kafka, PLACE, start)]

    return asyncio.run(run())


def test_all_records_are_read_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_reader, "PIECE_RECORDS_MAX", 2)
    assert pieces(filled(5)) == [[0, 1], [2, 3], [4]]
    assert pieces(filled(5), start=3) == [[3, 4]]


def test_an_empty_partition_has_no_piece() -> None:
    assert pieces(filled(0)) == []
    assert pieces(filled(2), start=2) == []


def test_reading_starts_at_the_first_record_that_still_exists() -> None:
    kafka = filled(4)
    kafka.deleted[PLACE] = 2
    assert pieces(kafka) == [[2, 3]]


def test_records_written_after_the_call_are_not_read() -> None:
    """A replay that fails again writes new letters: it must not read them."""
    kafka = filled(2)

    async def run() -> list[int]:
        found = []
        async for piece in read(kafka, PLACE):
            found += [record.offset for record in piece]
            kafka.write(PLACE, (b"k", b"new", []))
        return found

    assert asyncio.run(run()) == [0, 1]


def test_a_silent_broker_is_an_error_with_topic_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = filled(2)
    kafka.is_silent = True
    monkeypatch.setattr(topic_reader, "SILENCE_SECONDS_MAX", 0.0)
    with pytest.raises(LettersError, match="t: no record arrived for 0 s before its end"):
        pieces(kafka)


@pytest.mark.parametrize(("time_ms", "offset"), [(0, 0), (5, 1), (20, 2), (21, 3)])
def test_a_time_has_the_offset_of_the_first_record_from_then_on(time_ms: int, offset: int) -> None:
    assert asyncio.run(offset_at(filled(3), PLACE, time_ms)) == offset


def test_a_missing_topic_is_named_and_the_consumer_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []

    class Consumer(MemoryKafka):
        def __init__(self, **options: Any) -> None:
            assert (options["group_id"], options["enable_auto_commit"]) == (None, False)
            assert options["isolation_level"] == "read_committed"
            super().__init__(other=1)

        async def stop(self) -> None:
            stopped.append(True)

    async def run() -> None:
        async with reader(Settings(_env_file=None)):
            raise AssertionError("there is nothing to read")

    monkeypatch.setattr(topic_reader, "AIOKafkaConsumer", Consumer)
    with pytest.raises(LettersError, match=f"there is no topic {LETTERS.topic}: run 'driftline setup'"):
        asyncio.run(run())
    assert stopped == [True]

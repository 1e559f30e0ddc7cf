"""Decoding, lateness and watermarks of a slice."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from services.feature_store.plan import StreamSource
from services.features.decoder import SourceDecoder, source_header, source_of
from services.runtime.watermarks import NEVER
from streams import codec

NOON_MS = 1_372_680_000_000


@dataclasses.dataclass
class Record:
    value: bytes | None
    offset: int = 0
    headers: Sequence[tuple[str, bytes]] = ()
    topic: str = "orders"
    partition: int = 2
    key: bytes | None = b"k"
    timestamp: int = 0


def reader(lateness_seconds: int = 0) -> SourceDecoder:
    fields = codec.parse_ddl("event_time timestamp not null, amount double")
    return SourceDecoder(StreamSource("orders", "event_time", fields, ("id",), lateness_seconds * 1000), 200)


def at(second: int, offset: int = 0) -> Any:
    return Record(f'{{"event_time": "2013-07-01T12:00:{second:02}Z", "amount": 1}}'.encode(), offset)


def beat(second: int) -> Any:
    return Record(None, headers=codec.heartbeat(NOON_MS + second * 1000))


def test_an_event_moves_the_watermark_to_just_before_itself() -> None:
    assert reader().decode([at(10)], NEVER).watermark_ms == NOON_MS + 9_999


def test_events_of_the_same_instant_are_not_late() -> None:
    intake = reader().decode([at(10), at(10), at(10)], NEVER)
    assert (len(intake.events), intake.late) == (3, [])


def test_a_heartbeat_promises_its_own_instant_too() -> None:
    intake = reader().decode([beat(10), at(10), at(11)], NEVER)
    assert (len(intake.late), len(intake.events)) == (1, 1)


@pytest.mark.parametrize(("lateness_seconds", "second", "late"), [(0, 9, 1), (5, 5, 0), (5, 4, 1)])
def test_late_is_what_is_further_behind_than_declared(lateness_seconds: int, second: int, late: int) -> None:
    intake = reader(lateness_seconds).decode([at(10), at(second)], NEVER)
    assert len(intake.late) == late


def test_a_watermark_from_before_the_slice_counts() -> None:
    assert len(reader().decode([at(10)], NOON_MS + 11_000).late) == 1


def test_a_tombstone_without_header_promises_nothing() -> None:
    tombstone: Any = Record(None)
    assert reader().decode([tombstone], NEVER).watermark_ms == NEVER


@pytest.mark.parametrize(
    "value", [b"", b"{", b'{"amount": 1}', b'{"event_time": "2013-07-01T12:00:00"}', b" " * 201]
)
def test_a_bad_record_is_a_dead_letter_and_its_neighbours_are_events(value: bytes) -> None:
    bad: Any = Record(value, offset=7)
    intake = reader().decode([at(1), bad, at(2)], NEVER)
    assert len(intake.events) == 2
    (letter,) = intake.dead_letters
    assert (letter.topic, letter.partition, letter.offset, letter.value) == ("orders", 2, 7, value)
    assert letter.reason


def test_an_event_of_the_future_is_a_dead_letter_and_makes_nothing_late() -> None:
    """The bound is Kafka's own time of the record, which a replay of the past has far behind it."""
    written_ms = NOON_MS + 20_000
    of_the_future, at_the_bound, good = (
        Record(f'{{"event_time": "{stamp}", "amount": 1}}'.encode(), offset, timestamp=written_ms)
        for offset, stamp in enumerate(
            ["3000-01-01T00:00:00Z", "2013-07-02T12:00:20Z", "2013-07-01T12:00:10Z"]
        )
    )
    records: list[Any] = [of_the_future, good]
    intake = reader().decode(records, NEVER)
    assert ([letter.offset for letter in intake.dead_letters], intake.late) == ([0], [])
    assert "more than a day after the record was written" in intake.dead_letters[0].reason
    assert intake.watermark_ms == NOON_MS + 9_999
    beyond: Any = dataclasses.replace(at_the_bound, timestamp=written_ms - 1)
    last: Any = at_the_bound
    assert [len(reader().decode([record], NEVER).dead_letters) for record in (last, beyond)] == [0, 1]


def test_a_forwarded_record_keeps_the_identity_of_its_source() -> None:
    forwarded: Any = Record(at(3).value, headers=[source_header(1, 99)])
    (_, event), *_ = reader().decode_forwarded([forwarded], {}).events
    assert (event.source_partition, event.source_offset, event.time_ms) == (1, 99, NOON_MS + 3000)
    assert source_of(forwarded.headers) == (1, 99)


def test_a_forwarded_heartbeat_moves_only_the_watermark_of_its_source_partition() -> None:
    marks = {0: NOON_MS, 1: NOON_MS + 5000}
    headers = [*codec.heartbeat(NOON_MS + 2000), source_header(0, -1)]
    record: Any = Record(None, headers=headers)
    assert reader().decode_forwarded([record], marks).watermark_ms == NOON_MS + 2000
    assert marks == {0: NOON_MS + 2000, 1: NOON_MS + 5000}


def test_a_forwarded_record_without_its_source_is_a_dead_letter() -> None:
    assert len(reader().decode_forwarded([at(3)], {}).dead_letters) == 1

"""Decoding of a slice: events, late records, dead letters and watermarks."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature_store.plan import StreamSource
from services.features.decoder import ALL_SOURCES, SourceDecoder, source_header, source_of
from services.runtime.event_clock import EventClock
from services.runtime.watermarks import NEVER
from streams import codec

NOON_MS = 1_372_680_000_000


@dataclasses.dataclass
class Record:
    value: bytes | None
    offset: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()
    topic: str = "orders"
    partition: int = 2
    key: bytes | None = b"k"
    timestamp: int = 0


def decoder(lateness_seconds: int = 0) -> SourceDecoder:
    fields = codec.parse_ddl("event_time timestamp not null, amount double")
    return SourceDecoder(StreamSource("orders", "event_time", fields, ("id",), lateness_seconds * 1000), 200)


def decoder_with_tolerance(seconds: float) -> SourceDecoder:
    source = StreamSource(
        "orders", "event_time", codec.parse_ddl("event_time timestamp not null"), ("id",), 0
    )
    return SourceDecoder(source, 200, clock=EventClock("features", seconds))


def at(second: int, offset: int = 0) -> Any:
    return Record(f'{{"event_time": "2013-07-01T12:00:{second:02}Z", "amount": 1}}'.encode(), offset)


def heartbeat(second: int) -> Any:
    return Record(None, headers=codec.heartbeat(NOON_MS + second * 1000))


def test_event_moves_the_watermark_to_just_before_itself() -> None:
    assert decoder().decode([at(10)], NEVER).watermark_ms == NOON_MS + 9_999


def test_events_of_the_same_instant_are_not_late() -> None:
    decoded = decoder().decode([at(10), at(10), at(10)], NEVER)
    assert (len(decoded.events), decoded.late) == (3, [])


def test_heartbeat_includes_its_own_instant() -> None:
    decoded = decoder().decode([heartbeat(10), at(10), at(11)], NEVER)
    assert (len(decoded.late), len(decoded.events)) == (1, 1)


@pytest.mark.parametrize(("lateness_seconds", "second", "late"), [(0, 9, 1), (5, 5, 0), (5, 4, 1)])
def test_event_older_than_the_lateness_is_late(lateness_seconds: int, second: int, late: int) -> None:
    decoded = decoder(lateness_seconds).decode([at(10), at(second)], NEVER)
    assert len(decoded.late) == late


def test_watermark_before_the_slice_counts() -> None:
    assert len(decoder().decode([at(10)], NOON_MS + 11_000).late) == 1


def test_tombstone_without_header_moves_no_watermark() -> None:
    tombstone: Any = Record(None)
    assert decoder().decode([tombstone], NEVER).watermark_ms == NEVER


YEAR_0 = b'{"event_time": "0001-01-01T00:00:00+14:00"}'
"""A valid time of RFC 3339, which in UTC is before the year 1."""


@pytest.mark.parametrize(
    "value", [b"", b"{", b'{"amount": 1}', b'{"event_time": "2013-07-01T12:00:00"}', b" " * 201, YEAR_0]
)
def test_invalid_record_is_a_dead_letter_and_its_neighbours_are_events(value: bytes) -> None:
    bad: Any = Record(value, offset=7)
    decoded = decoder().decode([at(1), bad, at(2)], NEVER)
    assert len(decoded.events) == 2
    (letter,) = decoded.dead_letters
    assert (letter.topic, letter.partition, letter.offset, letter.value) == ("orders", 2, 7, value)
    assert letter.reason


def test_event_from_the_future_is_a_dead_letter_and_makes_nothing_late() -> None:
    """The limit is relative to the record's timestamp; in a replay that is long after the event time."""
    written_ms = NOON_MS + 20_000
    from_the_future, at_the_limit, good = (
        Record(f'{{"event_time": "{stamp}", "amount": 1}}'.encode(), offset, timestamp=written_ms)
        for offset, stamp in enumerate(
            ["3000-01-01T00:00:00Z", "2013-07-01T12:01:20Z", "2013-07-01T12:00:10Z"]
        )
    )
    records: list[Any] = [from_the_future, good]
    decoded = decoder().decode(records, NEVER)
    assert ([letter.offset for letter in decoded.dead_letters], decoded.late) == ([0], [])
    assert "s ahead of the timestamp of the record" in decoded.dead_letters[0].reason
    assert decoded.watermark_ms == NOON_MS + 9_999
    beyond: Any = dataclasses.replace(at_the_limit, timestamp=written_ms - 1)
    last: Any = at_the_limit
    assert [len(decoder().decode([record], NEVER).dead_letters) for record in (last, beyond)] == [0, 1]


def test_event_and_heartbeat_of_a_fast_clock_move_nothing() -> None:
    """Its timestamps are as far ahead as its events; this worker's clock is right."""
    fast = [at(50), Record(None, 1, headers=codec.heartbeat(NOON_MS + 50_000))]
    for record in fast:
        record.timestamp = NOON_MS + 50_000
    subject = decoder_with_tolerance(seconds=10)
    decoded = subject.decode([at(10), *fast, at(12, 2)], NEVER, now_ms=NOON_MS + 20_000)
    assert [record.offset for record, _ in decoded.events] == [0, 2]
    assert (decoded.late, decoded.watermark_ms) == ([], NOON_MS + 11_999)
    assert [letter.offset for letter in decoded.dead_letters] == [0, 1]
    later = subject.decode(fast, NEVER, now_ms=NOON_MS + 60_000)
    assert later.dead_letters == []


def test_forwarded_record_keeps_partition_and_offset_of_its_source() -> None:
    forwarded: Any = Record(at(3).value, headers=[source_header(1, 99)])
    (_, event), *_ = decoder().decode_forwarded([forwarded], NEVER).events
    assert (event.source_partition, event.source_offset, event.time_ms) == (1, 99, NOON_MS + 3000)
    assert source_of(forwarded.headers) == (1, 99)


def test_forwarded_heartbeat_moves_the_watermark_only_if_it_is_of_all_source_partitions() -> None:
    beat = codec.heartbeat(NOON_MS + 2000)
    of_all: Any = Record(None, headers=[*beat, ALL_SOURCES])
    of_one: Any = Record(None, 1, headers=[*beat, source_header(0, -1)])
    for before_ms, expected_ms in ((NEVER, NOON_MS + 2000), (NOON_MS + 5000, NOON_MS + 5000)):
        decoded = decoder().decode_forwarded([of_all, at(3)], before_ms)
        assert (decoded.watermark_ms, len(decoded.dead_letters)) == (expected_ms, 1)
    decoded = decoder().decode_forwarded([of_one], NOON_MS)
    assert (decoded.watermark_ms, decoded.dead_letters) == (NOON_MS, [])


def test_forwarded_event_has_a_source_partition_of_its_own() -> None:
    event: Any = Record(at(3).value, headers=[ALL_SOURCES])
    (letter,) = decoder().decode_forwarded([event], NEVER).dead_letters
    assert letter.reason == "the header driftline-source is missing"


def test_forwarded_heartbeat_that_is_ahead_is_a_dead_letter_and_moves_nothing() -> None:
    """A features process forwards none; whoever writes one into the internal topic must not end its view."""
    headers = [*codec.heartbeat(codec.LATEST_MS), ALL_SOURCES]
    record: Any = Record(None, headers=headers, timestamp=NOON_MS)
    decoded = decoder().decode_forwarded([record], NOON_MS, now_ms=NOON_MS)
    assert ("ahead of" in decoded.dead_letters[0].reason, decoded.watermark_ms) == (True, NOON_MS)


@pytest.mark.parametrize("value", [b"abc", b"9" * 5000, None])
def test_heartbeat_that_is_no_time_is_a_dead_letter_and_moves_nothing(value: bytes | None) -> None:
    bad = Record(None, 1, headers=[(codec.HEARTBEAT_HEADER, value)])
    decoded = decoder().decode([at(10), bad, at(11, 2)], NEVER)
    (letter,) = decoded.dead_letters
    assert (letter.offset, len(decoded.events), decoded.watermark_ms) == (1, 2, NOON_MS + 10_999)
    assert codec.HEARTBEAT_HEADER in letter.reason

    for source in (ALL_SOURCES, source_header(0, -1)):
        forwarded = Record(None, headers=[(codec.HEARTBEAT_HEADER, value), source])
        decoded = decoder().decode_forwarded([forwarded], NEVER)
        (letter,) = decoded.dead_letters
        assert (codec.HEARTBEAT_HEADER in letter.reason, decoded.watermark_ms) == (True, NEVER)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"1",
        b"a:b",
        b"1:2:3",
        b"-1:2",
        b"9" * 30 + b":1",
        b"4000000000:1",
        b"0:-7",
        b"0:9223372036854775808",
        None,
    ],
)
def test_source_that_cannot_be_read_is_no_source(value: bytes | None) -> None:
    assert source_of([("driftline-source", value)]) is None


def test_forwarded_record_without_its_source_is_a_dead_letter() -> None:
    assert len(decoder().decode_forwarded([at(3)], NEVER).dead_letters) == 1


NAMES = st.sampled_from([codec.HEARTBEAT_HEADER, "driftline-source", ""]) | st.text(max_size=5)
HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=30)), max_size=3)


@given(st.none() | st.binary(max_size=60), HEADERS, st.integers(-1, 2**62))
def test_any_record_is_an_event_late_or_a_dead_letter(
    value: bytes | None, headers: list[tuple[str, bytes | None]], timestamp: int
) -> None:
    record: Any = Record(value, headers=headers, timestamp=timestamp)
    decoded = decoder().decode([record], NEVER, NOON_MS)
    assert len(decoded.events) + len(decoded.late) + len(decoded.dead_letters) <= 1
    decoder().decode_forwarded([record], NEVER)

"""A slice of requests is decoded as its records alone would be."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.event_clock import EventClock
from services.scoring.request_decoder import RequestDecoder
from streams import codec
from tests.unit.scoring.fakes import declaration

NOW_MS = 1_767_400_000_000
SECOND_MS, DAY_MS = 1000, 86_400_000
BYTES_MAX = 200
SOUND, OLD = '"2026-01-02T00:00:00Z"', '"2026-01-01T00:00:00Z"'
AHEAD = '"2026-01-04T00:00:00Z"'
RECORDS: dict[str, dict[str, Any]] = {
    "sound": {"at": SOUND},
    "before its record": {"at": OLD},
    "ahead of both clocks": {"at": AHEAD},
    "ahead of its record": {"at": SOUND, "timestamp": NOW_MS - 2 * DAY_MS},
    "ahead of this worker": {"at": AHEAD, "timestamp": NOW_MS + 2 * DAY_MS},
    "too large": {"at": SOUND, "padding": " " * BYTES_MAX},
    "before the year 1 in UTC": {"at": '"0001-01-01T00:00:00+14:00"'},
    "no time": {"at": "17"},
    "no JSON": {"value": b"\xff"},
    "heartbeat": {"value": None, "headers": codec.heartbeat(NOW_MS - SECOND_MS)},
    "a later heartbeat": {"value": None, "headers": codec.heartbeat(NOW_MS)},
    "heartbeat of 1970": {"value": None, "headers": codec.heartbeat(0)},
    "tombstone": {"value": None},
    "a wrong heartbeat": {"value": None, "headers": [(codec.HEARTBEAT_HEADER, b"soon")]},
}


def record(kind, offset=0):
    given_fields = RECORDS[kind]
    at, padding = given_fields.get("at"), given_fields.get("padding", "")
    text = f'{{"id": "r{offset}", "x": 1.0, "at": {at}}}{padding}'.encode()
    return SimpleNamespace(
        topic="requests",
        partition=0,
        offset=offset,
        timestamp=given_fields.get("timestamp", NOW_MS),
        key=b"k",
        value=given_fields.get("value", text),
        headers=given_fields.get("headers", ()),
    )


def decoder():
    topic = declaration().request
    return RequestDecoder(topic, topic.wire_decoder(None), EventClock("scoring", 60), BYTES_MAX)


def content(decoded):
    ids = [event.id for event in decoded.events]
    letters = [(letter.offset, letter.reason) for letter in decoded.letters]
    return [each.offset for each in decoded.sources], ids, list(decoded.times_ms), letters


@given(st.lists(st.sampled_from(sorted(RECORDS)), max_size=6))
def test_a_slice_is_decoded_as_its_records_alone(kinds):
    subject = decoder()
    found = [record(kind, offset) for offset, kind in enumerate(kinds)]
    whole = subject.decode(found, NOW_MS)
    alone = [subject.decode([each], NOW_MS) for each in found]
    joined = [list(itertools.chain.from_iterable(parts)) for parts in zip(*map(content, alone), strict=True)]
    assert list(content(whole)) == (joined or [[], [], [], []])
    watermarks_ms = [each.watermark_ms for each in alone if each.watermark_ms is not None]
    assert whole.watermark_ms == (watermarks_ms[-1] if watermarks_ms else None)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("ahead of both clocks", "ahead of the timestamp of the record"),
        ("ahead of its record", "ahead of the timestamp of the record"),
        ("ahead of this worker", "ahead of the clock of this worker"),
        ("too large", f"the limit is {BYTES_MAX}"),
        ("no time", "at"),
        ("no JSON", "malformed"),
        ("a wrong heartbeat", codec.HEARTBEAT_HEADER),
    ],
)
def test_a_record_that_is_no_request_is_a_dead_letter_with_its_reason(kind, reason):
    decoded = decoder().decode([record("sound"), record(kind, 1)], NOW_MS)
    assert [each.offset for each in decoded.sources] == [0]
    (letter,) = decoded.letters
    assert letter.offset == 1
    assert reason in letter.reason


def test_a_sound_request_has_its_event_time_in_ms():
    (time_ms,) = decoder().decode([record("sound")], NOW_MS).times_ms
    assert time_ms == 1_767_312_000_000

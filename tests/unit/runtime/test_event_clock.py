"""Which event times are too far ahead, of what, and who is told."""

import dataclasses
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.runtime.event_clock import LOG_APPEND_TIME, AheadError, EventClock
from streams import codec

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000


@dataclasses.dataclass
class Record:
    timestamp: int = NOW_MS
    timestamp_type: int = 0
    topic: str = "orders"
    partition: int = 3
    offset: int = 7
    key: bytes | None = b"device-9"
    value: bytes | None = None
    headers: codec.Headers = ()


def clock(seconds: float = 60) -> EventClock:
    return EventClock("scoring", seconds)


@pytest.mark.parametrize(
    ("time_ms", "written_ms", "now_ms", "whose"),
    [
        (NOW_MS + 60_000, NOW_MS, NOW_MS, None),
        (NOW_MS + 60_001, NOW_MS, NOW_MS, "the timestamp of the record"),
        (0, NOW_MS, NOW_MS, None),
        (-DAY_MS, NOW_MS, NOW_MS, None),
        # A replay: what counts is the time at which the record was written, whenever it is read.
        (NOW_MS - DAY_MS, NOW_MS - DAY_MS, NOW_MS, None),
        (NOW_MS, NOW_MS - DAY_MS, NOW_MS, "the timestamp of the record"),
        # The producer's clock is a day ahead, and with it the timestamp of the record.
        (NOW_MS + DAY_MS, NOW_MS + DAY_MS, NOW_MS, "the clock of this worker"),
        # A record without a timestamp.
        (NOW_MS + 60_000, -1, NOW_MS, None),
        (NOW_MS + 60_001, -1, NOW_MS, "the clock of this worker"),
        (NOW_MS + 60_001, 0, NOW_MS, "the clock of this worker"),
    ],
)
def test_time_is_too_far_ahead_of_the_earlier_of_both_clocks(
    time_ms: int, written_ms: int, now_ms: int, whose: str | None
) -> None:
    fault = clock().fault(time_ms, Record(written_ms), now_ms)
    assert (fault is None) == (whose is None)
    assert whose is None or whose in str(fault)


def test_timestamp_of_the_broker_counts_whatever_the_clock_of_this_worker_is() -> None:
    by_broker = Record(NOW_MS, LOG_APPEND_TIME)
    assert clock().fault(NOW_MS, by_broker, now_ms=NOW_MS - DAY_MS) is None
    fault = clock().fault(NOW_MS + 61_000, by_broker, now_ms=NOW_MS + DAY_MS)
    assert "61.000 s ahead of Kafka's timestamp of the record; the maximum is 60 s" in str(fault)


def test_tolerance_is_a_setting() -> None:
    assert clock(2).fault(NOW_MS + 2_001, Record(), NOW_MS) is not None
    assert clock(3600).fault(NOW_MS + 2_001, Record(), NOW_MS) is None


def test_request_over_http_is_compared_with_the_clock_of_this_worker() -> None:
    clock().check_arrival(NOW_MS + 60_000, NOW_MS)
    with pytest.raises(AheadError, match="ahead of the clock of this worker"):
        clock().check_arrival(NOW_MS + 60_001, NOW_MS)


def test_heartbeat_too_far_ahead_is_refused() -> None:
    def beat(ms: int) -> Any:
        return Record(headers=codec.heartbeat(ms))

    assert clock().watermark_of(beat(NOW_MS + 60_000), NOW_MS) == NOW_MS + 60_000
    assert clock().watermark_of(Record(), NOW_MS) is None
    with pytest.raises(AheadError):
        clock().watermark_of(beat(NOW_MS + 60_001), NOW_MS)


def test_sender_is_counted_always_and_logged_once_a_minute() -> None:
    subject = clock()
    with capture_logs() as logs:
        for offset in range(5):
            subject.fault(NOW_MS + DAY_MS, Record(topic="clocks", offset=offset), NOW_MS)
    labels = {"service": "scoring", "topic": "clocks"}
    assert REGISTRY.get_sample_value("driftline_records_ahead_total", labels) == 5
    (line,) = logs
    assert {name: line[name] for name in ("topic", "partition", "offset", "ahead_seconds")} == {
        "topic": "clocks",
        "partition": 3,
        "offset": 0,
        "ahead_seconds": 86_400.0,
    }
    assert line["key"] == "b'device-9'"

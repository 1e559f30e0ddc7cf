from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from services.archive import row_schemas, write_buffer
from services.archive.write_buffer import WriteBuffer
from streams import codec, records

TOPIC = "driftline.outcomes.m"


@dataclass
class Record:
    offset: int
    value: bytes | None
    partition: int = 0
    topic: str = TOPIC
    timestamp: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def outcome(source_offset: int, source_partition: int = 0) -> bytes:
    return records.encode(
        records.Outcome(
            prediction_id=f"{source_partition}-{source_offset}",
            model="m",
            version=1,
            arm="champion",
            event_time_ms=0,
            label_time_ms=1,
            source_partition=source_partition,
            source_offset=source_offset,
            label=1.0,
            score=0.5,
            loss=0.7,
        )
    )


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def reported() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def waiting(reported: list[str], clock: Clock) -> WriteBuffer:
    made = WriteBuffer(row_schemas.OUTCOMES, lambda record, reason: reported.append(reason), clock)
    made.start((TOPIC, 0), 0, {})
    return made


def offsets(waiting: WriteBuffer) -> list[int]:
    return [row.record.offset for row in waiting.rows]


def test_record_that_kafka_delivers_again_is_dropped(waiting: WriteBuffer):
    waiting.add((TOPIC, 0), [Record(0, outcome(0)), Record(1, outcome(1))])
    waiting.add((TOPIC, 0), [Record(1, outcome(1)), Record(2, outcome(2))])

    assert offsets(waiting) == [0, 1, 2]
    assert waiting.positions == {(TOPIC, 0): 3}


def test_record_that_its_producer_wrote_again_is_dropped_by_source_partition(waiting: WriteBuffer):
    written = [outcome(0), outcome(1), outcome(0), outcome(1), outcome(0, source_partition=1), outcome(2)]
    waiting.add((TOPIC, 0), [Record(offset, value) for offset, value in enumerate(written)])

    assert offsets(waiting) == [0, 1, 4, 5]


def test_repeats_of_what_the_table_held_before_a_restart_are_dropped(waiting: WriteBuffer):
    waiting.start((TOPIC, 0), 10, {0: 7})
    waiting.add((TOPIC, 0), [Record(10, outcome(7)), Record(11, outcome(8))])

    assert offsets(waiting) == [11]


def test_all_that_was_asked_over_http_is_archived(waiting: WriteBuffer):
    """It has no source offset by which it could be a repeat, and none that would make others repeats."""
    waiting.start((TOPIC, 0), 0, {records.ASKED_OVER_HTTP: records.ASKED_OVER_HTTP})
    http = outcome(records.ASKED_OVER_HTTP, records.ASKED_OVER_HTTP)
    waiting.add((TOPIC, 0), [Record(0, http), Record(1, outcome(0)), Record(2, http), Record(3, outcome(0))])

    assert offsets(waiting) == [0, 1, 2]


def test_heartbeat_moves_the_position_and_makes_no_row(waiting: WriteBuffer):
    waiting.add((TOPIC, 0), [Record(0, None)])

    assert offsets(waiting) == []
    assert waiting.uncommitted


def test_record_that_cannot_be_decoded_is_reported_and_its_neighbours_are_kept(
    waiting: WriteBuffer, reported: list[str]
):
    waiting.add((TOPIC, 0), [Record(0, outcome(0)), Record(1, b"{"), Record(2, outcome(1))])

    assert offsets(waiting) == [0, 2]
    assert len(reported) == 1


def test_record_of_a_partition_that_was_taken_away_is_dropped(waiting: WriteBuffer):
    waiting.add((TOPIC, 0), [Record(0, outcome(0))])
    waiting.stop((TOPIC, 0))
    waiting.add((TOPIC, 0), [Record(1, outcome(1))])

    assert offsets(waiting) == []
    assert not waiting.uncommitted


def test_commit_is_due_by_number(waiting: WriteBuffer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(write_buffer, "ROWS_MAX", 2)
    waiting.add((TOPIC, 0), [Record(0, outcome(0))])
    assert not waiting.due()
    waiting.add((TOPIC, 0), [Record(1, outcome(1))])
    assert waiting.due()


def test_commit_is_due_by_size(waiting: WriteBuffer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(write_buffer, "BYTES_MAX", 10)
    waiting.add((TOPIC, 0), [Record(0, outcome(0))])
    assert waiting.due()


def test_commit_is_due_by_age_of_the_oldest_record(waiting: WriteBuffer, clock: Clock):
    waiting.add((TOPIC, 0), [Record(0, outcome(0))])
    clock.now += write_buffer.COMMIT_SECONDS - 1
    waiting.add((TOPIC, 0), [Record(1, outcome(1))])
    assert not waiting.due()
    clock.now += 1
    assert waiting.due()
    waiting.committed()
    assert not waiting.due()
    assert not waiting.uncommitted


def test_of_heartbeats_in_a_row_the_one_that_promises_most_is_archived(clock: Clock):
    waiting = WriteBuffer(row_schemas.EVENTS, lambda record, reason: None, clock)
    waiting.start(("orders", 0), 0, {})
    values = [None, None, None, b"event", None]
    promises = [7, 9, 8, 0, 10]
    waiting.add(
        ("orders", 0),
        [
            Record(n, v, headers=codec.heartbeat(ms))
            for n, (v, ms) in enumerate(zip(values, promises, strict=True))
        ],
    )
    batch = row_schemas.EVENTS.batch(waiting.rows).to_pydict()
    assert batch["offset"] == [1, 3, 4]
    assert batch["watermark_ms"] == [9, None, 10]
    assert batch["value"] == [None, b"event", None]


def test_a_tombstone_without_a_promise_is_not_archived(clock: Clock):
    waiting = WriteBuffer(row_schemas.EVENTS, lambda record, reason: None, clock)
    waiting.start(("orders", 0), 0, {})
    waiting.add(("orders", 0), [Record(0, None)])
    assert (waiting.rows, waiting.positions) == ([], {("orders", 0): 1})

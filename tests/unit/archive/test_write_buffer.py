"""Which records are buffered, and when a commit is due."""

from typing import Any

import msgspec
import pytest

from services.archive import row_schemas, write_buffer
from services.archive.write_buffer import WriteBuffer
from streams import codec, records
from tests.unit.archive.kafka_records import OUTCOME, PREDICTION, TOPIC, Record, outcome


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
def buffer(reported: list[str], clock: Clock) -> WriteBuffer:
    empty = WriteBuffer(row_schemas.OUTCOMES, lambda record, error: reported.append(str(error)), clock)
    empty.start((TOPIC, 0), 0, {})
    return empty


def offsets(buffer: WriteBuffer) -> list[int]:
    return [row.record.offset for row in buffer.rows]


def test_record_that_kafka_delivers_again_is_dropped(buffer: WriteBuffer):
    buffer.add((TOPIC, 0), [Record(0, outcome(0)), Record(1, outcome(1))])
    buffer.add((TOPIC, 0), [Record(1, outcome(1)), Record(2, outcome(2))])

    assert offsets(buffer) == [0, 1, 2]
    assert buffer.positions == {(TOPIC, 0): 3}


def test_record_that_its_producer_wrote_again_is_dropped_by_source_partition(buffer: WriteBuffer):
    written = [outcome(0), outcome(1), outcome(0), outcome(1), outcome(0, source_partition=-2), outcome(2)]
    buffer.add((TOPIC, 0), [Record(offset, value) for offset, value in enumerate(written)])

    assert offsets(buffer) == [0, 1, 4, 5]


def test_repeats_of_rows_in_the_table_are_dropped_after_a_restart(buffer: WriteBuffer):
    buffer.start((TOPIC, 0), 10, {"": {0: [6, 7]}})
    buffer.add((TOPIC, 0), [Record(10, outcome(7)), Record(11, outcome(8))])

    assert offsets(buffer) == [11]


def test_all_predictions_over_http_are_archived(reported: list[str]):
    """They have no source offset, so they are no repeats and make no others repeats."""
    place = "driftline.predictions.m", 0
    table = WriteBuffer(row_schemas.PREDICTIONS, lambda record, error: reported.append(str(error)))
    table.start(place, 0, {"": {records.ASKED_OVER_HTTP: [records.ASKED_OVER_HTTP]}})
    http = msgspec.structs.replace(
        PREDICTION, source_partition=records.ASKED_OVER_HTTP, source_offset=records.ASKED_OVER_HTTP
    )
    written = [records.encode(each) for each in (http, PREDICTION, http, PREDICTION)]
    table.add(place, [Record(offset, value) for offset, value in enumerate(written)])

    assert (offsets(table), reported) == ([0, 1, 2], [])


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"source_partition": 1},
        {"source_partition": -1},
        {"source_offset": -7},
        {"source_partition": -(2**31)},
    ],
)
@pytest.mark.parametrize("table", [row_schemas.PREDICTIONS, row_schemas.OUTCOMES])
def test_a_record_that_cannot_be_of_its_partition_is_reported_and_no_row(
    reported: list[str], table: row_schemas.Table, changes: dict[str, Any]
):
    valid = PREDICTION if table is row_schemas.PREDICTIONS else OUTCOME
    place = f"driftline.{table.name}.m", 0
    buffer = WriteBuffer(table, lambda record, error: reported.append(str(error)))
    buffer.start(place, 0, {})
    written = [msgspec.structs.replace(valid, **({"source_offset": 3} | changes)), valid]
    buffer.add(place, [Record(offset, records.encode(each)) for offset, each in enumerate(written)])

    assert offsets(buffer) == [1]
    assert ["find the process that wrote it" in each for each in reported] == [True]


def test_a_forged_offset_makes_no_honest_record_a_repeat(buffer: WriteBuffer):
    written = [outcome(0), outcome(2**62), outcome(1), outcome(2)]
    buffer.add((TOPIC, 0), [Record(offset, value) for offset, value in enumerate(written)])

    assert offsets(buffer) == [0, 1, 2, 3]


def test_heartbeat_moves_the_position_and_makes_no_row(buffer: WriteBuffer):
    buffer.add((TOPIC, 0), [Record(0, None)])

    assert offsets(buffer) == []
    assert buffer.uncommitted


def test_record_that_cannot_be_decoded_is_reported_and_its_neighbours_are_kept(
    buffer: WriteBuffer, reported: list[str]
):
    buffer.add((TOPIC, 0), [Record(0, outcome(0)), Record(1, b"{"), Record(2, outcome(1))])

    assert offsets(buffer) == [0, 2]
    assert len(reported) == 1


def test_record_of_a_revoked_partition_is_dropped(buffer: WriteBuffer):
    buffer.add((TOPIC, 0), [Record(0, outcome(0))])
    buffer.stop((TOPIC, 0))
    buffer.add((TOPIC, 0), [Record(1, outcome(1))])

    assert offsets(buffer) == []
    assert not buffer.uncommitted


def test_commit_is_due_by_number(buffer: WriteBuffer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(write_buffer, "ROWS_MAX", 2)
    buffer.add((TOPIC, 0), [Record(0, outcome(0))])
    assert not buffer.due()
    buffer.add((TOPIC, 0), [Record(1, outcome(1))])
    assert buffer.due()


def test_commit_is_due_by_size(buffer: WriteBuffer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(write_buffer, "BYTES_MAX", 10)
    buffer.add((TOPIC, 0), [Record(0, outcome(0))])
    assert buffer.due()


def test_commit_is_due_by_age_of_the_oldest_record(buffer: WriteBuffer, clock: Clock):
    buffer.add((TOPIC, 0), [Record(0, outcome(0))])
    clock.now += write_buffer.COMMIT_SECONDS - 1
    buffer.add((TOPIC, 0), [Record(1, outcome(1))])
    assert not buffer.due()
    clock.now += 1
    assert buffer.due()
    buffer.committed()
    assert not buffer.due()
    assert not buffer.uncommitted


def test_the_highest_of_consecutive_heartbeats_is_archived(clock: Clock):
    buffer = WriteBuffer(row_schemas.EVENTS, lambda record, reason: None, clock)
    buffer.start(("orders", 0), 0, {})
    values = [None, None, None, b"event", None]
    watermarks_ms = [7, 9, 8, 0, 10]
    buffer.add(
        ("orders", 0),
        [
            Record(n, v, headers=codec.heartbeat(ms))
            for n, (v, ms) in enumerate(zip(values, watermarks_ms, strict=True))
        ],
    )
    batch = row_schemas.EVENTS.batch(buffer.rows).to_pydict()
    assert batch["offset"] == [1, 3, 4]
    assert batch["watermark_ms"] == [9, None, 10]
    assert batch["value"] == [None, b"event", None]


def test_a_tombstone_without_a_watermark_is_not_archived(clock: Clock):
    buffer = WriteBuffer(row_schemas.EVENTS, lambda record, reason: None, clock)
    buffer.start(("orders", 0), 0, {})
    buffer.add(("orders", 0), [Record(0, None)])
    assert (buffer.rows, buffer.positions) == ([], {("orders", 0): 1})


def test_a_heartbeat_that_is_no_time_is_reported_and_not_archived(reported: list[str], clock: Clock):
    buffer = WriteBuffer(row_schemas.EVENTS, lambda record, error: reported.append(str(error)), clock)
    buffer.start(("orders", 0), 0, {})
    good, bad = codec.heartbeat(7), [(codec.HEARTBEAT_HEADER, b"9" * 5000)]
    buffer.add(("orders", 0), [Record(0, None, headers=good), Record(1, None, headers=bad)])
    assert [row.decoded for row in buffer.rows] == [7]
    assert buffer.positions == {("orders", 0): 2}
    assert codec.HEARTBEAT_HEADER in reported[0]

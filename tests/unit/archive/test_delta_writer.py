"""Delta itself, in a folder."""

import dataclasses
from pathlib import Path

import pytest
from deltalake.exceptions import CommitFailedError

from services.archive import delta_writer, row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord
from services.monitoring import inference_log
from services.runtime.settings import Settings
from tests.unit.archive.test_write_buffer import TOPIC, Record, outcome


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def rows(*offsets: int) -> list[DecodedRecord]:
    return [DecodedRecord(Record(n, outcome(n)), row_schemas.OUTCOMES.decode(outcome(n))) for n in offsets]


def held(settings: Settings) -> list[int]:
    with inference_log.connect(settings) as log:
        return [offset for (offset,) in log.execute('SELECT "offset" FROM outcomes ORDER BY ALL').fetchall()]


def test_rows_and_positions_are_committed_together(settings: Settings):
    DeltaWriter(settings, row_schemas.OUTCOMES).append(rows(0, 1), {(TOPIC, 0): 2, (TOPIC, 1): 7})

    assert held(settings) == [0, 1]
    assert inference_log.positions(settings, "outcomes", {TOPIC: range(3)}) == {TOPIC: {0: 2, 1: 7, 2: 0}}


def test_rows_below_the_recorded_position_are_not_written_again(settings: Settings):
    DeltaWriter(settings, row_schemas.OUTCOMES).append(rows(0, 1), {(TOPIC, 0): 2})
    restarted = DeltaWriter(settings, row_schemas.OUTCOMES)

    assert restarted.position((TOPIC, 0)) == 2
    assert restarted.last_source_offsets(TOPIC) == {0: {0: 1}}
    restarted.append(rows(1, 2), {(TOPIC, 0): 3})
    assert held(settings) == [0, 1, 2]


def test_writer_that_lost_its_partition_unawares_writes_nothing(settings: Settings):
    slow, fast = DeltaWriter(settings, row_schemas.OUTCOMES), DeltaWriter(settings, row_schemas.OUTCOMES)
    fast.append(rows(0, 1, 2), {(TOPIC, 0): 3})
    slow.append(rows(0, 1), {(TOPIC, 0): 2})

    assert held(settings) == [0, 1, 2]
    assert slow.position((TOPIC, 0)) == 3


def test_two_commits_of_one_partition_at_the_same_moment_conflict(settings: Settings):
    first, second = DeltaWriter(settings, row_schemas.OUTCOMES), DeltaWriter(settings, row_schemas.OUTCOMES)
    first._write(rows(0), {(TOPIC, 0): 1})

    with pytest.raises(CommitFailedError):
        second._write(rows(0), {(TOPIC, 0): 1})
    assert held(settings) == [0]


def test_positions_without_rows_are_committed(settings: Settings):
    writer = DeltaWriter(settings, row_schemas.OUTCOMES)
    writer.append([], {(TOPIC, 0): 5})

    assert writer.position((TOPIC, 0)) == 5
    assert writer.last_source_offsets(TOPIC) == {}


def test_compaction_keeps_rows_and_positions(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(delta_writer, "COMPACT_COMMITS", 3)
    writer = DeltaWriter(settings, row_schemas.OUTCOMES)
    for offset in range(3):
        writer.append(rows(offset), {(TOPIC, 0): offset + 1})

    assert len(inference_log.tables(settings)["outcomes"].file_uris()) == 1
    assert held(settings) == [0, 1, 2]
    assert writer.position((TOPIC, 0)) == 3


def test_a_table_of_an_earlier_version_gains_the_new_column(settings: Settings):
    earlier = dataclasses.replace(
        row_schemas.OUTCOMES,
        schema=row_schemas.OUTCOMES.schema.remove(row_schemas.OUTCOMES.schema.get_field_index("loss")),
    )
    DeltaWriter(settings, earlier)
    DeltaWriter(settings, row_schemas.OUTCOMES).append(rows(0), {(TOPIC, 0): 1})

    assert held(settings) == [0]

"""Paths, positions and queries of the archive's tables."""

from pathlib import Path

import pytest

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord
from services.monitoring import inference_log
from services.runtime.settings import Settings
from tests.unit.archive.kafka_records import OUTCOME, TOPIC, Record


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def append(settings: Settings, *offsets: int) -> None:
    rows = [DecodedRecord(Record(offset, b""), OUTCOME) for offset in offsets]
    DeltaWriter(settings, row_schemas.OUTCOMES).append(rows, {(TOPIC, 0): offsets[-1] + 1})


def test_a_table_is_below_the_root_of_the_archive(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, archive_uri="s3://bucket/archive/")
    assert inference_log.path(settings, "events") == "s3://bucket/archive/events"


def test_without_a_table_every_position_is_zero(settings: Settings) -> None:
    assert inference_log.tables(settings) == {}
    assert inference_log.positions(settings, "outcomes", {TOPIC: range(2)}) == {TOPIC: {0: 0, 1: 0}}


def test_a_position_is_the_next_offset_and_zero_for_an_unknown_partition(settings: Settings) -> None:
    append(settings, 0, 1)
    assert inference_log.positions(settings, "outcomes", {TOPIC: range(2), "other": [0]}) == {
        TOPIC: {0: 2, 1: 0},
        "other": {0: 0},
    }


def test_a_query_sees_the_version_that_was_opened(settings: Settings) -> None:
    append(settings, 0)
    opened = inference_log.tables(settings)
    append(settings, 1)
    for tables, expected in ((opened, 1), (None, 2)):
        with inference_log.connect(settings, tables) as log:
            assert log.execute("SELECT count(*) FROM outcomes").fetchall() == [(expected,)]


def test_an_earlier_version_can_be_opened(settings: Settings) -> None:
    append(settings, 0)
    version = inference_log.tables(settings)["outcomes"].version()
    append(settings, 1)
    assert inference_log.tables(settings, {"outcomes": version})["outcomes"].version() == version

"""The archive read again: lateness and watermarks as in the stream, ranges, and its errors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from services.features.decoder import SourceDecoder
from services.features.offline.archived_events import ArchiveError, EventArchive
from services.features.offline.watermark_index import IndexEntry, OffsetRange
from services.monitoring import inference_log
from services.runtime.settings import Settings
from tests.unit.features.offline.archived_orders import (
    SOURCE,
    START_MS,
    TOPIC,
    OrderRecord,
    archive,
    heartbeat,
    order,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def decoder(settings: Settings) -> SourceDecoder:
    return SourceDecoder(SOURCE, settings.record_bytes_max)


@pytest.fixture
def orders(settings: Settings, tmp_path: Path) -> Iterator[EventArchive]:
    """An archive of six records: a heartbeat, an invalid record and a late order among them."""
    archive(
        settings,
        order(0, 10),
        order(1, 20),
        heartbeat(2, 40),
        OrderRecord(3, b"{"),
        order(4, 30),
        order(5, 50),
    )
    opened = EventArchive(settings, tmp_path)
    yield opened
    opened.close()


def test_events_late_and_invalid_records_are_those_of_the_stream(
    orders: EventArchive, decoder: SourceDecoder
) -> None:
    (batch,) = orders.decode(decoder)
    decoded = batch.decoded
    assert [event.source_offset for _, event in decoded.events] == [0, 1, 5]
    assert [record.offset for record in decoded.late] == [4]
    assert [letter.offset for letter in decoded.dead_letters] == [3]
    assert (batch.partition, batch.records) == (0, 6)
    assert batch.end == IndexEntry(6, START_MS + 50_000 - 1)


def test_range_continues_with_the_watermark_of_its_start(
    orders: EventArchive, decoder: SourceDecoder
) -> None:
    (before,) = orders.decode(decoder, {0: OffsetRange(IndexEntry(), 3)})
    (after,) = orders.decode(decoder, {0: OffsetRange(before.end, None)})
    assert [record.offset for record in after.decoded.late] == [4], "the heartbeat is in the first range"
    (alone,) = orders.decode(decoder, {0: OffsetRange(IndexEntry(3), None)})
    assert alone.decoded.late == []


def test_no_ranges_and_other_partitions_read_nothing(orders: EventArchive, decoder: SourceDecoder) -> None:
    assert list(orders.decode(decoder, {})) == []
    assert list(orders.decode(decoder, {1: OffsetRange(IndexEntry(), None)})) == []


def test_positions_and_counts_are_those_of_the_tables(orders: EventArchive) -> None:
    assert (orders.count(TOPIC), orders.count("other")) == (6, 0)
    assert (orders.partitions(TOPIC), orders.partitions("other")) == ([0], [])
    assert orders.position(inference_log.EVENTS, TOPIC, 0) == 6
    assert orders.position(inference_log.EVENTS, TOPIC, 1) == 0
    assert orders.position(inference_log.PREDICTIONS, "p", 0) == 0, "there is no such table yet"
    assert orders.prediction_partitions("m") == []


def test_archive_without_events_is_an_error(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no archived events; start the archive process"):
        EventArchive(settings, tmp_path)


def test_archive_of_an_early_version_without_heartbeats_is_an_error(
    settings: Settings, tmp_path: Path
) -> None:
    archive(settings, order(0, 10))
    path = inference_log.path(settings, inference_log.EVENTS)
    rows = DeltaTable(path).to_pyarrow_table().drop_columns(["watermark_ms"])
    write_deltalake(path, rows, mode="overwrite", schema_mode="overwrite")
    with pytest.raises(ArchiveError, match="has no heartbeats; start the archive process once"):
        EventArchive(settings, tmp_path)

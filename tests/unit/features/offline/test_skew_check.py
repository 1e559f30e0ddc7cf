"""The skew check over an archive that grows: which records a pass reads, and what it finds."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord
from services.features.decoder import SourceDecoder
from services.features.offline.archived_events import DecodedBatch, EventArchive
from services.features.offline.skew_check import SkewCheck, SkewLimits
from services.features.offline.skew_report import report_lines
from services.features.offline.watermark_index import IndexSpacing, OffsetRange
from services.runtime.settings import Settings
from streams import records, topics
from tests.shop import stamp
from tests.unit.features.offline.archived_orders import START_MS, TOPIC, OrderRecord, order
from tests.unit.features.offline.shop_model import MODEL, PLAN


def append(settings: Settings, table: row_schemas.Table, topic: str, found: list[OrderRecord]) -> None:
    """Append records to a table after those of the topic that it holds."""
    rows = [
        DecodedRecord(dataclasses.replace(record, topic=topic), table.decode(record.value or b""))
        for record in found
    ]
    DeltaWriter(settings, table).append(rows, {(topic, 0): found[-1].offset + 1})


def archive_prediction(
    settings: Settings, number: int, second: int, shop: str, served: list[float | None]
) -> None:
    """Archive one request and the features that were served for it."""
    at_ms = START_MS + second * 1000
    request = json.dumps({"id": f"r{number}", "at": stamp(at_ms), "shop": shop}).encode()
    prediction = records.Prediction(
        prediction_id=f"r{number}",
        model="m",
        version=0,
        arm="collecting",
        arm_weight=1,
        event_time_ms=at_ms,
        scored_time_ms=0,
        source_partition=0,
        source_offset=number,
        features=[*served],
        features_lag_ms=0,
        score=None,
        prediction=None,
    )
    append(settings, row_schemas.EVENTS, "asked", [OrderRecord(number, request)])
    append(
        settings,
        row_schemas.PREDICTIONS,
        topics.predictions("m"),
        [OrderRecord(number, records.encode(prediction))],
    )


def served_at(second: int) -> list[float | None]:
    """Return the features of a shop that orders every second, for an amount equal to the second."""
    first = (second - 60) // 10 * 10
    return [float(sum(range(first, second + 1))), float(second + 1 - first), float(second)]


@pytest.fixture
def records_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of records that each scan of the archive has decoded."""
    found: list[int] = []
    decode = EventArchive.decode

    def counted(
        self: EventArchive, decoder: SourceDecoder, ranges: Mapping[int, OffsetRange] | None = None
    ) -> Iterator[DecodedBatch]:
        found.append(0)
        for batch in decode(self, decoder, ranges):
            found[-1] += batch.records
            yield batch

    monkeypatch.setattr(EventArchive, "decode", counted)
    return found


def test_pass_reads_only_recent_records_and_still_knows_old_entities(
    tmp_path: Path, records_read: list[int]
) -> None:
    """The mill orders every second; the dock ordered once, long ago: its window is empty, not unknown."""
    settings = Settings(home=tmp_path, skew_share=1.0)
    limits = SkewLimits(disorder_ms=10_000, spacing=IndexSpacing(records=50))
    check = SkewCheck(settings, PLAN, MODEL, {TOPIC: 1}, limits)
    append(settings, row_schemas.EVENTS, TOPIC, [order(0, 0, amount=5.0, shop="dock")])
    for number in range(10):
        seconds = range(number * 100, number * 100 + 100)
        append(settings, row_schemas.EVENTS, TOPIC, [order(n + 1, n, amount=n, shop="mill") for n in seconds])
        if number:
            second = seconds[50]
            archive_prediction(settings, 2 * number - 2, second, "mill", served_at(second))
            archive_prediction(settings, 2 * number - 1, second, "dock", [None, 0.0, 5.0])
            report = check.run()
            assert (report.checked, report.different) == (2 * number, 0), report_lines(report)
    assert records_read[-2:][0] == 100, "the new records, to index them"
    assert records_read[-1] <= 400, "the compared time, and a little before it"

    archive_prediction(settings, 18, 120, "dock", [None, 0.0, 5.0])
    report = check.run()
    assert (report.checked, report.different) == (19, 0), (
        "an old request is compared; the source is read from its start"
    )

"""The sparse index of the archive: its entries, and the offset ranges that it yields."""

import itertools
from pathlib import Path

from services.features.decoder import SourceDecoder
from services.features.offline.archived_events import EventArchive
from services.features.offline.watermark_index import (
    IndexEntry,
    IndexSpacing,
    OffsetRange,
    add_entry,
    offset_ranges,
)
from services.runtime.settings import Settings
from tests.unit.features.offline.archived_orders import SOURCE, START_MS, archive, order


def test_range_between_entries_holds_the_same_events_as_the_whole_partition(tmp_path: Path):
    settings = Settings(home=tmp_path / "home")
    archive(settings, *(order(n, second) for n, second in enumerate([0, 9, 3, 5, 30, 24, 26, 50, 44, 46])))
    decoder = SourceDecoder(SOURCE, settings.record_bytes_max)
    source = EventArchive(settings, tmp_path)
    (whole,) = source.decode(decoder)
    entries = [IndexEntry()]
    for stop in range(1, 11):
        (batch,) = source.decode(decoder, {0: OffsetRange(entries[-1], stop)})
        entries.append(batch.end)
    assert entries[-1] == whole.end
    for first in range(0, 50, 4):
        for last in range(first, 51, 5):
            limits = START_MS + first * 1000, START_MS + last * 1000
            ranges = offset_ranges({0: entries}, *limits, SOURCE.lateness_ms)
            found = [event for batch in source.decode(decoder, ranges) for _, event in batch.decoded.events]
            within = [event for event in found if limits[0] <= event.time_ms <= limits[1]]
            assert within == [e for _, e in whole.decoded.events if limits[0] <= e.time_ms <= limits[1]]
    narrow = offset_ranges({0: entries}, START_MS + 40_000, START_MS + 44_000, SOURCE.lateness_ms)
    assert narrow == {0: (entries[7], 8)}, "one record of ten is read"
    source.close()


def test_new_entries_are_close_and_old_entries_never_far_apart():
    """So a pass reads few records that it does not need, and a long topic has few entries."""
    spacing = IndexSpacing()
    entries = [IndexEntry()]
    for number in range(1, 10_001):
        add_entry(entries, IndexEntry(number * 700, number), spacing)
    offsets = [entry.next_offset for entry in entries]
    gaps = [after - before for before, after in itertools.pairwise(offsets)]
    assert offsets[-1] == 7_000_000
    assert max(gaps[-spacing.fine_entries + 2 :]) <= spacing.records + 700
    assert max(gaps) <= spacing.coarse_records
    assert len(entries) < spacing.fine_entries + 2 * 7_000_000 / spacing.coarse_records


def test_without_a_watermark_that_is_high_enough_the_range_has_no_stop():
    entries = [IndexEntry(), IndexEntry(10, 1000)]
    assert offset_ranges({3: entries}, 2000, 3000, lateness_ms=0) == {3: (entries[1], None)}

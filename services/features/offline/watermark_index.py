"""A sparse index of a source partition: offsets with watermarks, to find event times in the archive. Pure.

What was accepted before an entry has at most its watermark plus 1 ms as event time. What comes after an entry
is late if its event time is at most its watermark less the lateness. So two entries bound the offsets that
hold all accepted events between two times.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from services.runtime.watermarks import NEVER


class IndexEntry(msgspec.Struct, frozen=True, array_like=True):
    """A place between two records of a source partition, with its watermark."""

    next_offset: int = 0
    watermark_ms: int = NEVER


class OffsetRange(NamedTuple):
    """A range of a partition's records; the watermark at its start is known."""

    start: IndexEntry
    stop: int | None
    """The offset after the last record; None for the end of the partition."""


@dataclasses.dataclass(frozen=True)
class IndexSpacing:
    """The distance between entries, in records: new entries are close, old ones are thinned out."""

    records: int = 2000
    """Distance of the newest entries: a pass reads at most this many records that it does not need."""
    fine_entries: int = 50
    """Number of the newest entries; they are not thinned out."""
    coarse_records: int = 50_000
    """Maximum distance of two older entries."""


def add_entry(entries: list[IndexEntry], entry: IndexEntry, spacing: IndexSpacing) -> None:
    """Append the end of what was read; thin out the entries before the newest ones."""
    if len(entries) > 1 and entries[-1].next_offset - entries[-2].next_offset < spacing.records:
        entries.pop()
    entries.append(entry)
    old = len(entries) - spacing.fine_entries
    if old > 1 and entries[old].next_offset - entries[old - 2].next_offset <= spacing.coarse_records:
        del entries[old - 1]


def offset_ranges(
    index: Mapping[int, Sequence[IndexEntry]], start_ms: int, last_ms: int, lateness_ms: int
) -> dict[int, OffsetRange]:
    """Return the range of each partition that holds all accepted events from ``start_ms`` to ``last_ms``."""
    ranges = {}
    for partition, entries in index.items():
        start = next((entry for entry in reversed(entries) if entry.watermark_ms + 1 < start_ms), entries[0])
        stop = next(
            (entry.next_offset for entry in entries if entry.watermark_ms - lateness_ms >= last_ms), None
        )
        ranges[partition] = OffsetRange(start, stop)
    return ranges

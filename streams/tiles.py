"""The tiles of one entity, for adding events. See `streams.tile_layout` for the rules they follow."""

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from typing import Self

from streams import spans
from streams.partials import Partials
from streams.resolutions import Resolutions
from streams.sessions import Extents
from streams.spans import AggregationSpec
from streams.stored_arrays import integer_array, is_rising
from streams.stored_tiles import StoredTiles, TileRange, evaluate
from streams.tile_layout import FORMAT, HEADER, NEVER, TileLayout


class Tiles:
    """The state of one entity."""

    __slots__ = ("_columns", "_extents", "_is_compact", "_layout", "_resolutions", "_sequences", "_starts_ms")

    def __init__(
        self, layout: TileLayout, stored: StoredTiles | None = None, before_ms: int | None = None
    ) -> None:
        """Start without events, or with those of a stored state.

        ``before_ms``: only with those before this time, which must be within the retention; then an event at
        this time may be added, and is the newest.
        """
        self._layout = layout
        self._resolutions = Resolutions(layout.hop_ms)
        self._starts_ms: list[int] = []
        self._columns = [Partials(parts) for parts in layout.parts]
        self._extents = Extents() if layout.has_sessions else None
        if stored is not None:
            self._resolutions = stored.resolutions
            self._starts_ms = stored.starts_ms.tolist()
            self._columns = [
                column.to_partials(parts) for column, parts in zip(stored.columns, layout.parts, strict=True)
            ]
            self._extents = stored.extents.to_cells() if stored.extents is not None else None
        self._sequences: list[Extents | Partials] = [
            *([self._extents] if self._extents is not None else []),
            *self._columns,
        ]
        """What has one entry per tile beside the starts, in the order in which it is written."""
        self._is_compact = False
        if stored is not None and before_ms is not None:
            kept = stored.tiles_before(before_ms)
            if kept < len(self._starts_ms):
                self._regroup(kept, len(self._starts_ms), [], [])
            if before_ms < self._resolutions.instants_from_ms:
                self._resolutions = Resolutions(layout.hop_ms)

    def __len__(self) -> int:
        return len(self._starts_ms)

    @property
    def newest_ms(self) -> int:
        """Event time of the newest event; only if there is one."""
        return self._starts_ms[-1]

    def add(self, event_time_ms: int, values: Sequence[float | str | None]) -> None:
        """Add an event with the values of the layout's columns: finite numbers, None for null.

        Strings and bools only in columns of which just the count, distinct values, first or last are needed.
        """
        self._is_compact = False
        index = self._tile(self._resolutions.start_of(event_time_ms))
        if self._extents is not None:
            self._extents.add(index, event_time_ms)
        for column, value in zip(self._columns, values, strict=True):
            if value is not None:
                column.add(index, value, event_time_ms)

    def add_all(self, times_ms: Sequence[int], rows: Sequence[Sequence[float | str | None]]) -> None:
        """Add many events; in order and after all others they cost a fraction of single ones."""
        last_ms = self._starts_ms[-1] if self._starts_ms else NEVER
        is_instant = times_ms[0] >= self._resolutions.instants_from_ms
        if self._extents is None and is_instant and is_rising(last_ms, times_ms):
            # Each event becomes a separate tile, after all present ones.
            self._is_compact = False
            self._starts_ms += times_ms
            for column, entries in zip(self._columns, zip(*rows, strict=True), strict=True):
                column.append_all(entries, times_ms)
        else:
            for time_ms, values in zip(times_ms, rows, strict=True):
                self.add(time_ms, values)

    def merge(self, other: Self) -> None:
        """Add all events of another state of the same layout."""
        self._is_compact = False
        self._resolutions = self._resolutions.merged(other._resolutions)
        self._starts_ms += other._starts_ms
        for ours, theirs in zip(self._columns, other._columns, strict=True):
            ours.extend(theirs)
        if self._extents is not None and other._extents is not None:
            self._extents.extend(other._extents)
        self._sort_and_merge(0, len(self._starts_ms))

    def newest_values(self) -> list[float | str]:
        """Return the aggregations' values as of the newest event, nan for null."""
        self._compact()
        ranges = [self._newest_range(item) for item in self._layout.windows]
        return evaluate(self._layout, self._starts_ms, self._columns, ranges)

    def to_bytes(self) -> bytes:
        """Write the state; equal sets of events give equal bytes."""
        self._compact()
        limits = self._resolutions
        header = HEADER.pack(FORMAT, limits.instants_from_ms, limits.seconds_from_ms, len(self._starts_ms))
        sequences = [sequence.to_bytes() for sequence in self._sequences]
        return b"".join([header, integer_array(self._starts_ms), *sequences])

    @classmethod
    def from_bytes(cls, layout: TileLayout, raw: bytes) -> Self:
        """Read a state; raise `StoredStateError` if it is not of this layout."""
        return cls(layout, StoredTiles(layout, raw))

    def _newest_range(self, item: AggregationSpec) -> TileRange:
        """Return what the window as of the newest event covers."""
        starts = self._starts_ms
        first_ms, end_ms = spans.covered(item, self._layout.hop_ms, starts[-1])
        start = bisect_left(starts, first_ms) if starts[0] < first_ms else 0
        stop = bisect_left(starts, end_ms) if starts[-1] >= end_ms else len(starts)
        if item.gap_ms and self._extents is not None:
            start = max(start, self._extents.newest_session_start(item.gap_ms))
        return first_ms, start, stop

    def _tile(self, start_ms: int) -> int:
        """Return the index of the tile with this start; insert it if it is missing."""
        starts = self._starts_ms
        if starts and starts[-1] == start_ms:
            return len(starts) - 1
        index = len(starts) if not starts or start_ms > starts[-1] else bisect_left(starts, start_ms)
        if index == len(starts) or starts[index] != start_ms:
            starts.insert(index, start_ms)
            for sequence in self._sequences:
                sequence.insert(index)
        return index

    def _compact(self) -> None:
        """Drop what is too old, then merge older tiles as the number of newer ones requires."""
        if self._is_compact or not self._starts_ms:
            return
        self._is_compact = True
        self._drop_old()
        before, now = self._resolutions, self._resolutions.raised(self._starts_ms)
        self._resolutions = now
        for before_ms, now_ms in (
            (before.seconds_from_ms, now.seconds_from_ms),
            (before.instants_from_ms, now.instants_from_ms),
        ):
            if before_ms != now_ms:
                self._sort_and_merge(
                    bisect_left(self._starts_ms, before_ms), bisect_left(self._starts_ms, now_ms)
                )

    def _drop_old(self) -> None:
        """Merge tiles that are too old into the base; without lifetime aggregations remove them.

        The base begins with the hop of its newest event: that does not depend on the order of the events
        either.
        """
        oldest_ms = self._layout.oldest_ms(self.newest_ms)
        too_old = bisect_left(self._starts_ms, oldest_ms)
        lifetime_parts = self._layout.lifetime_parts
        if too_old and lifetime_parts is not None:
            start_ms = spans.floor(self._starts_ms[too_old - 1], self._layout.hop_ms)
            self._regroup(0, too_old, [start_ms], [range(too_old)])
            for column, parts in zip(self._columns, lifetime_parts, strict=True):
                column.keep_only(0, parts)
        elif too_old:
            del self._starts_ms[:too_old]
            for sequence in self._sequences:
                sequence.drop(too_old)
        self._resolutions = self._resolutions.without_limits_before(oldest_ms)

    def _sort_and_merge(self, start: int, stop: int) -> None:
        """Sort the tiles from ``start`` to ``stop`` (exclusive); merge those finer than the limits allow."""
        if start == stop:
            return
        by_start = sorted(
            (self._resolutions.start_of(self._starts_ms[index]), index) for index in range(start, stop)
        )
        groups = [list(group) for _, group in itertools.groupby(by_start, key=lambda pair: pair[0])]
        self._regroup(
            start,
            stop,
            [group[0][0] for group in groups],
            [[index for _, index in group] for group in groups],
        )

    def _regroup(self, start: int, stop: int, starts_ms: list[int], groups: Sequence[Sequence[int]]) -> None:
        self._starts_ms[start:stop] = starts_ms
        for sequence in self._sequences:
            sequence.regroup(start, stop, groups)

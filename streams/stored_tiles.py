"""The tiles of one entity as they were written, for reading values of it; decoded only when needed.

There are two ways to the same bits, because each is several times as fast as the other where it is used.
`StoredTiles.at` evaluates one time in plain Python. Scoring reads most entities once per slice, and then `at`
takes a third of the time of numpy's many small calls. `StoredTiles.values` evaluates many times of one entity
at once, as training sets need, and slices in which one entity is frequent.
"""

import dataclasses
import math
import struct
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams import spans, tile_layout
from streams.aggregates import ColumnPartials
from streams.resolutions import Resolutions
from streams.sessions import StoredExtents
from streams.spans import AggregationSpec, WindowChange
from streams.stored_arrays import AnyArray, ArrayReader, Int64s, StoredStateError
from streams.stored_partials import StoredPartials
from streams.tile_layout import FORMAT, HEADER, NEVER, SECOND_MS, TileLayout

TileRange = tuple[int, int, int]
"""The time in milliseconds at which a window begins, its first tile, and its last tile plus one."""


class Moment(NamedTuple):
    """One entity at one time."""

    values: list[float | str]
    """The value of each aggregation, nan for null."""
    newest_ms: int
    """See `StoredTiles.newest_ms`."""
    is_beyond: bool
    """Whether the time is beyond the retention."""


@dataclasses.dataclass(frozen=True)
class TileRanges:
    """The tiles that one window covers at each of (n,) times."""

    first_ms: Int64s
    """The time at which each begins."""
    starts: Int64s
    stops: Int64s
    """Exclusive."""


class StoredTiles:
    """The state of one entity, read-only."""

    def __init__(self, layout: TileLayout, raw: bytes) -> None:
        """Parse; raise `StoredStateError` if the bytes are not of this layout."""
        self._layout = layout
        try:
            version, instants_from_ms, seconds_from_ms, self._size = HEADER.unpack_from(raw)
            if version != FORMAT:
                raise StoredStateError(f"the tiles have format {version}; only format {FORMAT} can be read")
            self.resolutions = Resolutions(layout.hop_ms, instants_from_ms, seconds_from_ms)
            reader = ArrayReader(raw, HEADER.size, self._size)
            self._starts = reader.integers_view()
            self.extents = StoredExtents.read(reader) if layout.has_sessions else None
            self.columns = [StoredPartials(parts, reader) for parts in layout.parts]
        except (struct.error, ValueError) as error:
            raise StoredStateError(f"{len(raw)} bytes are not tiles of this layout: {error}") from error
        if reader.position != len(raw):
            raise StoredStateError(
                f"{len(raw)} bytes are not tiles of this layout: {len(raw) - reader.position} too many"
            )

    def __len__(self) -> int:
        return int(self._size)

    @cached_property
    def starts_ms(self) -> Int64s:
        """(tiles,): where each tile begins."""
        return np.frombuffer(self._starts, dtype="<i8")

    def is_beyond(self, time_ms: int) -> bool:
        """Return whether a time is beyond the retention."""
        return bool(self._size) and time_ms < self._starts[-1] - tile_layout.SLACK_MS

    def tiles_before(self, time_ms: int) -> int:
        """Return the number of tiles that end before a time."""
        return self._completed(bisect_left(self._starts, time_ms), time_ms)

    def at(self, time_ms: int) -> Moment:
        """Return what `values` and `newest_ms` return for one time; for few times this is faster."""
        if self.is_beyond(time_ms):
            return Moment([math.nan] * len(self._layout.aggregations), NEVER, is_beyond=True)
        ranges = [self._range_at(item, time_ms) for item in self._layout.windows]
        newest = self._completed(bisect_left(self._starts, time_ms + 1), time_ms + 1) - 1
        newest_ms = self._last_of(newest) if newest >= 0 else NEVER
        return Moment(evaluate(self._layout, self._starts, self.columns, ranges), newest_ms, is_beyond=False)

    def _range_at(self, item: AggregationSpec, time_ms: int) -> TileRange:
        first_ms, end_ms = spans.covered(item, self._layout.hop_ms, time_ms)
        start = bisect_left(self._starts, first_ms)
        stop = self._completed(bisect_left(self._starts, end_ms), end_ms)
        if item.gap_ms and self.extents is not None:
            (session_start,) = self.extents.session_starts(np.array([stop]), np.array([time_ms]), item.gap_ms)
            start = max(start, int(session_start))
        return first_ms, start, stop

    def _completed(self, tiles: int, end_ms: int) -> int:
        """Return how many tiles end before a time, given how many begin before it."""
        return tiles - 1 if tiles and self._last_of(tiles - 1) >= end_ms else tiles

    def _last_of(self, tile: int) -> int:
        """Return the latest instant of which a tile may hold an event; see `_last_ms`."""
        start_ms = self._starts[tile]
        if tile < self._base_tiles:
            return start_ms + self._layout.hop_ms - 1
        return self.resolutions.last_of(start_ms)

    def newest_ms(self, times_ms: Int64s) -> Int64s:
        """Return for (n,) times the time of the newest event that is not later; -2**63 if none is kept.

        If that event is already merged into a second or a hop, it is the end of that tile.
        """
        if not self._size:
            return np.full(len(times_ms), NEVER)
        index = np.searchsorted(self._last_ms, times_ms, side="right") - 1
        beyond = times_ms < self.starts_ms[-1] - tile_layout.SLACK_MS
        return np.where(beyond | (index < 0), NEVER, self._last_ms[index])

    def values(self, times_ms: Int64s) -> tuple[list[AnyArray], npt.NDArray[np.bool_]]:
        """Return each aggregation (n,) at (n,) times, and (n,) whether the time is beyond the retention.

        Values beyond the retention are nan.
        """
        beyond = times_ms < (self.starts_ms[-1] - tile_layout.SLACK_MS if self._size else NEVER)
        ranges = [self._ranges(item, times_ms) for item in self._layout.windows]
        results = []
        for column, window, item in self._layout.evaluations:
            values = self._evaluate(self.columns[column], item, ranges[window])
            results.append(np.where(beyond, np.nan, values) if beyond.any() else values)
        return results, beyond

    def _ranges(self, item: AggregationSpec, times_ms: Int64s) -> TileRanges:
        first_ms, end_ms = spans.covered(item, self._layout.hop_ms, times_ms)
        starts = np.searchsorted(self.starts_ms, first_ms, side="left")
        stops = np.searchsorted(self._last_ms, end_ms, side="left")
        if item.gap_ms and self.extents is not None:
            starts = np.maximum(starts, self.extents.session_starts(stops, times_ms, item.gap_ms))
        return TileRanges(first_ms, starts, stops)

    def _evaluate(self, column: StoredPartials, item: AggregationSpec, tiles: TileRanges) -> AnyArray:
        values = column.values(item, tiles.starts, tiles.stops)
        if item.change is WindowChange.NONE:
            return values
        before_ms = spans.floor(tiles.first_ms - item.window_ms, self._layout.hop_ms)
        before_starts = np.searchsorted(self.starts_ms, before_ms, side="left")
        return spans.changed(item.change, values, column.values(item, before_starts, tiles.starts))

    @cached_property
    def _last_ms(self) -> Int64s:
        """(tiles,): the latest instant of which each tile may hold an event.

        For the base it is the end of its last hop.
        """
        base = self._base_tiles
        if self.resolutions.instants_from_ms == NEVER and not base:
            return self.starts_ms
        hops = max(base, int(np.searchsorted(self.starts_ms, self.resolutions.seconds_from_ms)))
        seconds = np.searchsorted(self.starts_ms, self.resolutions.instants_from_ms)
        last = self.starts_ms.copy()
        last[:hops] += self._layout.hop_ms - 1
        last[hops:seconds] += SECOND_MS - 1
        return last

    @cached_property
    def _base_tiles(self) -> int:
        """The number of tiles that are the base: 1 or 0."""
        if self._layout.lifetime_parts is None or not self._size:
            return 0
        return int(self._starts[0] < self._layout.oldest_ms(self._starts[-1]))


def evaluate(
    layout: TileLayout,
    starts_ms: Sequence[int],
    columns: Sequence[ColumnPartials],
    ranges: Sequence[TileRange],
) -> list[float | str]:
    """Return each aggregation of one entity, nan for null, given what each of the layout's windows covers."""
    values = []
    for number, window, item in layout.evaluations:
        column, (first_ms, start, stop) = columns[number], ranges[window]
        value = column.value(item, start, stop)
        if item.change is not WindowChange.NONE:
            before_start = bisect_left(starts_ms, spans.floor(first_ms - item.window_ms, layout.hop_ms))
            before = column.value(item, before_start, start)
            value = float(spans.changed(item.change, np.array([value]), np.array([before]))[0])
        values.append(value)
    return values

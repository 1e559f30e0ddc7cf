"""Event-time windows over one entity's events, as exact, mergeable tiles.

What a value at time t covers is told in `streams.spans`: a sliding window's tail is rounded down to a
tile of the declared hop (so it is at most one hop longer than declared), its head is exact; tumbling and
hopping windows are made of whole tiles, hence exact at every age. Tiles are kept at three
resolutions: an entity's newest `INSTANTS_MAX` distinct instants to the millisecond, the newest
`SECONDS_MAX` distinct seconds to the second, everything older to the hop. A value never holds an event
later than t: where t falls into a second or a hop that is already merged, that one is left out whole,
of sliding windows and sessions.

State is bounded. Tiles reach `SLACK_MS` behind the newest event plus the longest window (with its slide,
or the window before it), so a reader that is further behind than `SLACK_MS` gets no value (and is
counted); a state has at most about ``INSTANTS_MAX + SECONDS_MAX + (reach + slack) / hop`` tiles. For
aggregations over the whole life everything older is one tile more, the *base*: every value that is
served holds all of it, and it keeps nothing that only the windows need.

All of it is a function of the set of events, not of their order: sums are exact integers scaled by a
power of two (see `streams.partials`), the limits between the resolutions only ever rise, and each
is found from tiles that no other order could have merged. So the bytes of a state are equal after
every interleaving and every replay, and merging two states equals one state of all their events.
"""

import dataclasses
import itertools
import math
import struct
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from streams import spans
from streams.cells import AnyArray, ArrayReader, Int64s, integer_array, rise
from streams.partials import Partials, Parts, StoredPartials, StoredStateError
from streams.sessions import Extents, StoredExtents
from streams.spans import AggregationSpec, WindowChange

SECOND_MS = 1000
INSTANTS_MAX = 1024
"""Of distinct instants kept exactly: three days of departures from a large airport."""
SECONDS_MAX = 2048
"""Of distinct seconds behind the instants: half an hour of an entity with an event every second."""
SLACK_MS = 2 * 86_400_000
"""How far a reader may be behind the newest event of its entity, in event time."""

_NEVER = -(2**63)
_HEADER = struct.Struct("<BqqI")
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class TileLayout:
    """Which partial aggregates the tiles of a view hold."""

    aggregations: tuple[AggregationSpec, ...]
    hop_ms: int

    def __post_init__(self) -> None:
        if self.hop_ms <= 0 or self.hop_ms % SECOND_MS:
            raise ValueError(f"the hop must be whole seconds, not {self.hop_ms} ms")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values `Tiles.add` expects, in this order."""
        return tuple(dict.fromkeys(item.column for item in self.aggregations))

    @cached_property
    def windows(self) -> tuple[AggregationSpec, ...]:
        """One aggregation of each window that there is."""
        return tuple({_window(item): item for item in self.aggregations}.values())

    @cached_property
    def evaluations(self) -> tuple[tuple[int, int, AggregationSpec], ...]:
        """Each aggregation behind the number of its column and that of its window."""
        windows = [_window(item) for item in self.windows]
        return tuple(
            (self.columns.index(item.column), windows.index(_window(item)), item)
            for item in self.aggregations
        )

    @cached_property
    def reach_ms(self) -> int:
        """How far behind its time a value may need events."""
        return max(spans.reach_ms(item, self.hop_ms) for item in self.aggregations)

    @cached_property
    def lifetime_parts(self) -> tuple[Parts, ...] | None:
        """What of each column is kept for ever; None without an aggregation over the whole life."""
        lifelong = [item for item in self.aggregations if not item.window_ms]
        if not lifelong:
            return None
        return tuple(
            Parts.of(item.function for item in lifelong if item.column == name) for name in self.columns
        )

    @cached_property
    def has_sessions(self) -> bool:
        """Tell whether the tiles must say when their first and last events were."""
        return any(item.gap_ms for item in self.aggregations)

    def oldest_ms(self, newest_ms: int) -> int:
        """Return from when on tiles are kept, given the newest event's time."""
        return spans.floor(newest_ms - SLACK_MS - self.reach_ms, self.hop_ms)

    @cached_property
    def parts(self) -> tuple[Parts, ...]:
        """What is kept of each column."""
        return tuple(
            Parts.of(item.function for item in self.aggregations if item.column == name)
            for name in self.columns
        )


def _window(item: AggregationSpec) -> tuple[int, int, int]:
    return item.window_ms, item.slide_ms, item.gap_ms


class Tiles:
    """The state of one entity."""

    __slots__ = (
        "_columns",
        "_extents",
        "_instants_from_ms",
        "_is_settled",
        "_layout",
        "_seconds_from_ms",
        "_starts_ms",
    )

    def __init__(self, layout: TileLayout) -> None:
        """Start without events."""
        self._layout = layout
        self._starts_ms: list[int] = []
        self._columns = [Partials(parts) for parts in layout.parts]
        self._extents = Extents() if layout.has_sessions else None
        self._instants_from_ms = _NEVER
        """From here on a tile is an instant; a multiple of a second."""
        self._seconds_from_ms = _NEVER
        """From here on a tile is at most a second, before it a hop; a multiple of the hop."""
        self._is_settled = False

    def __len__(self) -> int:
        return len(self._starts_ms)

    @property
    def newest_ms(self) -> int:
        """Event time of the newest event; only where there is one."""
        return self._starts_ms[-1]

    def add(self, event_time_ms: int, values: Sequence[float | str | None]) -> None:
        """Count an event, with the values of the layout's columns: finite numbers, None for null.

        Strings and bools only where a column is just counted, or its distinct, first or last values are.
        """
        self._is_settled = False
        index = self._tile(self._start_of(event_time_ms))
        if self._extents is not None:
            self._extents.add(index, event_time_ms)
        for column, value in zip(self._columns, values, strict=True):
            if value is not None:
                column.add(index, value, event_time_ms)

    def add_all(self, times_ms: Sequence[int], rows: Sequence[Sequence[float | str | None]]) -> None:
        """Count many events; where they come in order, behind all others, at a fraction of the cost."""
        if self._continues(times_ms):
            self._is_settled = False
            self._starts_ms += times_ms
            for column, entries in zip(self._columns, zip(*rows, strict=True), strict=True):
                column.append_all(entries, times_ms)
        else:
            for time_ms, values in zip(times_ms, rows, strict=True):
                self.add(time_ms, values)

    def _continues(self, times_ms: Sequence[int]) -> bool:
        """Tell whether each of these becomes a tile of its own, in order, behind all that there are."""
        last_ms = self._starts_ms[-1] if self._starts_ms else _NEVER
        return self._extents is None and times_ms[0] >= self._instants_from_ms and rise(last_ms, times_ms)

    def merge(self, other: Self) -> None:
        """Add all events of another state of the same layout."""
        self._is_settled = False
        self._instants_from_ms = max(self._instants_from_ms, other._instants_from_ms)
        self._seconds_from_ms = max(self._seconds_from_ms, other._seconds_from_ms)
        self._starts_ms += other._starts_ms
        for column, theirs in zip(self._columns, other._columns, strict=True):
            column.extend(theirs)
        if self._extents is not None and other._extents is not None:
            self._extents.extend(other._extents)
        self._place(0, len(self._starts_ms))

    def newest_values(self) -> list[float | str]:
        """Return the aggregations' values as of the newest event."""
        self._settle()
        ranges = [self._newest_range(item) for item in self._layout.windows]
        return _values(self._layout, self._starts_ms, self._columns, ranges)

    def to_bytes(self) -> bytes:
        """Write the state; equal sets of events give equal bytes."""
        self._settle()
        header = _HEADER.pack(_FORMAT, self._instants_from_ms, self._seconds_from_ms, len(self._starts_ms))
        extents = self._extents.to_bytes() if self._extents is not None else b""
        columns = [column.to_bytes() for column in self._columns]
        return b"".join([header, integer_array(self._starts_ms), extents, *columns])

    @classmethod
    def from_bytes(cls, layout: TileLayout, raw: bytes) -> Self:
        """Read a state back; raise `StoredStateError` if it is not of this layout."""
        stored = StoredTiles(layout, raw)
        tiles = cls(layout)
        tiles._instants_from_ms, tiles._seconds_from_ms = stored.instants_from_ms, stored.seconds_from_ms
        tiles._starts_ms = stored.starts_ms.tolist()
        tiles._extents = stored.extents.to_cells() if stored.extents is not None else None
        tiles._columns = [
            column.to_partials(parts) for column, parts in zip(stored.columns, layout.parts, strict=True)
        ]
        return tiles

    def _newest_range(self, item: AggregationSpec) -> "_Range":
        """Return what the newest window covers."""
        starts = self._starts_ms
        first_ms, end_ms = spans.covered(item, self._layout.hop_ms, starts[-1])
        low = bisect_left(starts, first_ms) if starts[0] < first_ms else 0
        high = bisect_left(starts, end_ms) if starts[-1] >= end_ms else len(starts)
        if item.gap_ms and self._extents is not None:
            low = max(low, self._extents.newest_from(item.gap_ms))
        return first_ms, low, high

    def _start_of(self, time_ms: int) -> int:
        if time_ms >= self._instants_from_ms:
            return time_ms
        return time_ms - time_ms % (SECOND_MS if time_ms >= self._seconds_from_ms else self._layout.hop_ms)

    def _tile(self, start_ms: int) -> int:
        """Return the index of a tile, made if need be."""
        starts = self._starts_ms
        if starts and starts[-1] == start_ms:
            return len(starts) - 1
        index = len(starts) if not starts or start_ms > starts[-1] else bisect_left(starts, start_ms)
        if index == len(starts) or starts[index] != start_ms:
            starts.insert(index, start_ms)
            for column in self._columns:
                column.insert(index)
            if self._extents is not None:
                self._extents.insert(index)
        return index

    def _settle(self) -> None:
        """Let go of what is too old, then raise the limits between the resolutions as new events demand.

        Each limit is that of the n-th newest distinct instant (second) kept. Later events can only
        raise it, and everything from it on is still apart: so it does not matter when this is done.
        """
        if self._is_settled or not self._starts_ms:
            return
        self._is_settled = True
        self._let_go()
        starts = self._starts_ms
        if len(starts) < min(INSTANTS_MAX, SECONDS_MAX):
            return  # nothing has to be merged yet
        instants_from_ms, seconds_from_ms = self._instants_from_ms, self._seconds_from_ms
        if len(starts) - bisect_left(starts, instants_from_ms) >= INSTANTS_MAX:
            instants_from_ms = starts[-INSTANTS_MAX] - starts[-INSTANTS_MAX] % SECOND_MS
        first = bisect_left(starts, seconds_from_ms)
        if len(starts) - first >= SECONDS_MAX:
            seconds = sorted({start - start % SECOND_MS for start in starts[first:]})
            if len(seconds) >= SECONDS_MAX:
                seconds_from_ms = seconds[-SECONDS_MAX] - seconds[-SECONDS_MAX] % self._layout.hop_ms
        raised = (
            (self._seconds_from_ms, seconds_from_ms),
            (self._instants_from_ms, instants_from_ms),
        )
        self._instants_from_ms, self._seconds_from_ms = instants_from_ms, seconds_from_ms
        for before_ms, now_ms in raised:
            self._place(bisect_left(self._starts_ms, before_ms), bisect_left(self._starts_ms, now_ms))

    def _place(self, first: int, end: int) -> None:
        """Bring tiles that are out of order, or finer than the limits allow, into place."""
        if first == end:
            return
        placed = sorted((self._start_of(self._starts_ms[index]), index) for index in range(first, end))
        groups = [list(group) for _, group in itertools.groupby(placed, key=lambda pair: pair[0])]
        self._regroup(
            first,
            end,
            [group[0][0] for group in groups],
            [[index for _, index in group] for group in groups],
        )

    def _regroup(self, first: int, end: int, starts_ms: list[int], groups: Sequence[Sequence[int]]) -> None:
        self._starts_ms[first:end] = starts_ms
        for column in self._columns:
            column.regroup(first, end, groups)
        if self._extents is not None:
            self._extents.regroup(first, end, groups)

    def _let_go(self) -> None:
        """Merge tiles that are too old into the base, or drop them.

        The base begins with the hop of its newest event: that, too, does not depend on the order.
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
            for column in self._columns:
                column.drop(too_old)
            if self._extents is not None:
                self._extents.drop(too_old)
        # A limit below which nothing is left says nothing, and another order may never have set it.
        if self._instants_from_ms < oldest_ms:
            self._instants_from_ms = _NEVER
        if self._seconds_from_ms < oldest_ms:
            self._seconds_from_ms = _NEVER


_Range = tuple[int, int, int]
"""When a window begins, and its tiles: the first, and the one behind the last."""


def _values(
    layout: TileLayout,
    starts_ms: Sequence[int],
    columns: Sequence[Partials] | Sequence["StoredPartials"],
    ranges: Sequence[_Range],
) -> list[float | str]:
    """Return each aggregation, given what each of the layout's windows covers."""
    values = []
    for number, window, item in layout.evaluations:
        column, (first_ms, low, high) = columns[number], ranges[window]
        value = column.value(item, low, high)
        if item.change is not WindowChange.NONE:
            before_from = bisect_left(starts_ms, spans.floor(first_ms - item.window_ms, layout.hop_ms))
            before = column.value(item, before_from, low)
            value = float(spans.changed(item.change, np.array([value]), np.array([before]))[0])
        values.append(value)
    return values


class StoredTiles:
    """A state as it was written, for reading values of it; nothing is decoded before it is needed."""

    def __init__(self, layout: TileLayout, raw: bytes) -> None:
        """Parse; raise `StoredStateError` if the bytes are not of this layout."""
        self._layout = layout
        try:
            version, self.instants_from_ms, self.seconds_from_ms, self._size = _HEADER.unpack_from(raw)
            if version != _FORMAT:
                raise StoredStateError(f"tiles of format {version}, known is {_FORMAT}")
            reader = ArrayReader(raw, _HEADER.size, self._size)
            self._starts = reader.look_at_integers()
            self.extents = StoredExtents.read(reader) if layout.has_sessions else None
            self.columns = [StoredPartials(parts, reader) for parts in layout.parts]
        except (struct.error, ValueError) as error:
            raise StoredStateError(f"these {len(raw)} bytes are no tiles of this layout: {error}") from error
        if reader.position != len(raw):
            raise StoredStateError(f"{len(raw) - reader.position} bytes follow the tiles of this layout")

    def __len__(self) -> int:
        return int(self._size)

    @cached_property
    def starts_ms(self) -> Int64s:
        """Where each tile begins."""
        return np.frombuffer(self._starts, dtype="<i8")

    def at(self, time_ms: int) -> "Moment":
        """Return what `values` and `newest_ms` return for one time: for few times this is quicker."""
        if self._size and time_ms < self._starts[-1] - SLACK_MS:
            return Moment([math.nan] * len(self._layout.aggregations), _NEVER, is_beyond=True)
        ranges = [self._range_at(item, time_ms) for item in self._layout.windows]
        newest = self._ended(bisect_left(self._starts, time_ms + 1), time_ms + 1) - 1
        newest_ms = self._last_of(newest) if newest >= 0 else _NEVER
        return Moment(_values(self._layout, self._starts, self.columns, ranges), newest_ms, is_beyond=False)

    def _range_at(self, item: AggregationSpec, time_ms: int) -> _Range:
        first_ms, end_ms = spans.covered(item, self._layout.hop_ms, time_ms)
        low = bisect_left(self._starts, first_ms)
        high = self._ended(bisect_left(self._starts, end_ms), end_ms)
        if item.gap_ms and self.extents is not None:
            (start,) = self.extents.starts(np.array([high]), np.array([time_ms]), item.gap_ms)
            low = max(low, int(start))
        return first_ms, low, high

    def _ended(self, tiles: int, end_ms: int) -> int:
        """Return how many tiles are over before a time, given how many begin before it."""
        return tiles - 1 if tiles and self._last_of(tiles - 1) >= end_ms else tiles

    def _last_of(self, tile: int) -> int:
        """Return the latest instant of which a tile may hold an event; see `_last_ms`."""
        start_ms = self._starts[tile]
        if start_ms >= self.instants_from_ms and tile >= self._base_tiles:
            return start_ms
        is_second = start_ms >= self.seconds_from_ms and tile >= self._base_tiles
        return start_ms + (SECOND_MS if is_second else self._layout.hop_ms) - 1

    def newest_ms(self, times_ms: Int64s) -> Int64s:
        """Return for (n,) times the event time of the newest event not later; -2**63 for none that is kept.

        Where that event is already merged into a second or a hop, it is the end of that tile.
        """
        if not self._size:
            return np.full(len(times_ms), _NEVER)
        index = np.searchsorted(self._last_ms, times_ms, side="right") - 1
        beyond = times_ms < self.starts_ms[-1] - SLACK_MS
        return np.where(beyond | (index < 0), _NEVER, self._last_ms[index])

    def values(self, times_ms: Int64s) -> tuple[list[AnyArray], npt.NDArray[np.bool_]]:
        """Return each aggregation at (n,) times, and whether the time is beyond the retention (then nan)."""
        beyond = times_ms < (self.starts_ms[-1] - SLACK_MS if self._size else _NEVER)
        ranges = [self._range(item, times_ms) for item in self._layout.windows]
        results = []
        for column, window, item in self._layout.evaluations:
            values = self._evaluate(self.columns[column], item, ranges[window])
            results.append(np.where(beyond, np.nan, values) if beyond.any() else values)
        return results, beyond

    def _range(self, item: AggregationSpec, times_ms: Int64s) -> "_Ranges":
        first_ms, end_ms = spans.covered(item, self._layout.hop_ms, times_ms)
        low = np.searchsorted(self.starts_ms, first_ms, side="left")
        high = np.searchsorted(self._last_ms, end_ms, side="left")
        if item.gap_ms and self.extents is not None:
            low = np.maximum(low, self.extents.starts(high, times_ms, item.gap_ms))
        return _Ranges(first_ms, low, high)

    def _evaluate(self, column: StoredPartials, item: AggregationSpec, tiles: "_Ranges") -> AnyArray:
        values = column.values(item, tiles.low, tiles.high)
        if item.change is WindowChange.NONE:
            return values
        before_ms = spans.floor(tiles.first_ms - item.window_ms, self._layout.hop_ms)
        before_from = np.searchsorted(self.starts_ms, before_ms, side="left")
        return spans.changed(item.change, values, column.values(item, before_from, tiles.low))

    @cached_property
    def _last_ms(self) -> Int64s:
        """The latest instant that each tile may hold an event of; of the base the end of its last hop."""
        base = self._base_tiles
        if self.instants_from_ms == _NEVER and not base:
            return self.starts_ms
        hops = max(base, int(np.searchsorted(self.starts_ms, self.seconds_from_ms)))
        seconds = np.searchsorted(self.starts_ms, self.instants_from_ms)
        last = self.starts_ms.copy()
        last[:hops] += self._layout.hop_ms - 1
        last[hops:seconds] += SECOND_MS - 1
        return last

    @cached_property
    def _base_tiles(self) -> int:
        """How many tiles are the base: one or none."""
        if self._layout.lifetime_parts is None or not self._size:
            return 0
        return int(self._starts[0] < self._layout.oldest_ms(self._starts[-1]))


class Moment(NamedTuple):
    """One entity at one time."""

    values: list[float | str]
    """Of each aggregation, nan for null."""
    newest_ms: int
    """See `StoredTiles.newest_ms`."""
    is_beyond: bool
    """Whether the time is beyond the retention."""


@dataclasses.dataclass(frozen=True)
class _Ranges:
    """Which tiles the windows of (n,) values cover."""

    first_ms: Int64s
    """Where each begins in time."""
    low: Int64s
    high: Int64s

"""What the tiles of a view hold, how fine they are, and how long they are kept.

`streams.spans` defines which time a value covers. A sliding window's tail is rounded down to a tile of the
declared hop, so the window is at most one hop longer than declared; its head is exact. Tumbling and hopping
windows consist of whole tiles, hence they are exact at every age. Tiles have three resolutions: the newest
`INSTANTS_MAX` distinct instants of an entity are kept to the millisecond, the newest `SECONDS_MAX` distinct
seconds to the second, everything older to the hop. A value never holds an event later than its time t: if t
falls into a second or a hop that is already merged, sliding windows and sessions leave that tile out.

State is bounded. Tiles go back from the newest event by `SLACK_MS` plus the longest window (with its slide,
or with the window before it), so a reader whose event time is more than `SLACK_MS` before the newest event
gets no value, and is counted. A state has at most about ``INSTANTS_MAX + SECONDS_MAX + (reach + slack) /
hop`` tiles. For aggregations over the whole life, everything older is one more tile, the *base*: every value
that is served includes all of it, and it holds nothing that only windows need.

All of this is a function of the set of events, not of their order. Sums are exact integers scaled by a power
of two (see `streams.aggregates`), and the limits between the resolutions only ever rise, each found from
tiles that no other order could have merged. So the bytes of a state are equal after every interleaving and
every replay, and merging two states equals one state of all their events.
"""

import dataclasses
import struct
from functools import cached_property

from streams import spans
from streams.aggregates import Parts
from streams.spans import AggregationSpec

SECOND_MS = 1000
INSTANTS_MAX = 1024
"""Distinct instants that are kept exactly: three days of departures from a large airport."""
SECONDS_MAX = 2048
"""Distinct seconds that are kept before the instants: half an hour with an event every second."""
SLACK_MS = 2 * 86_400_000
"""Maximum time by which a reader's event time may be before the newest event of its entity."""

NEVER = -(2**63)
"""A limit, or the time of an event, that does not exist."""
HEADER = struct.Struct("<BqqI")
"""The header of a stored state: format, start of the instants, start of the seconds, number of tiles."""
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class TileLayout:
    """Which partial aggregates the tiles of a view hold."""

    aggregations: tuple[AggregationSpec, ...]
    hop_ms: int

    def __post_init__(self) -> None:
        if self.hop_ms <= 0 or self.hop_ms % SECOND_MS:
            raise ValueError(f"the hop must be whole seconds, at least 1, not {self.hop_ms} ms")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values `streams.tiles.Tiles.add` expects, in this order."""
        return tuple(dict.fromkeys(item.column for item in self.aggregations))

    @cached_property
    def windows(self) -> tuple[AggregationSpec, ...]:
        """The distinct windows, each as one aggregation that has it."""
        return tuple({_window(item): item for item in self.aggregations}.values())

    @cached_property
    def evaluations(self) -> tuple[tuple[int, int, AggregationSpec], ...]:
        """Each aggregation, with the index of its column and that of its window before it."""
        windows = [_window(item) for item in self.windows]
        return tuple(
            (self.columns.index(item.column), windows.index(_window(item)), item)
            for item in self.aggregations
        )

    @cached_property
    def reach_ms(self) -> int:
        """How long before its own time a value may need events, before rounding."""
        return max(spans.reach_ms(item, self.hop_ms) for item in self.aggregations)

    @cached_property
    def parts(self) -> tuple[Parts, ...]:
        """What is kept of each column."""
        return tuple(
            Parts.of(item.function for item in self.aggregations if item.column == name)
            for name in self.columns
        )

    @cached_property
    def lifetime_parts(self) -> tuple[Parts, ...] | None:
        """What the base keeps of each column; None without an aggregation over the whole life."""
        lifelong = [item for item in self.aggregations if not item.window_ms]
        if not lifelong:
            return None
        return tuple(
            Parts.of(item.function for item in lifelong if item.column == name) for name in self.columns
        )

    @cached_property
    def has_sessions(self) -> bool:
        """Whether the tiles must hold when their first and last events were."""
        return any(item.gap_ms for item in self.aggregations)

    def oldest_ms(self, newest_ms: int) -> int:
        """Return the start of the oldest tile that is kept, given the newest event's time."""
        return spans.floor(newest_ms - SLACK_MS - self.reach_ms, self.hop_ms)


def _window(item: AggregationSpec) -> tuple[int, int, int]:
    return item.window_ms, item.slide_ms, item.gap_ms

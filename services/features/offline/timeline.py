"""The feature values of one entity over event time, from its events sorted by time. Pure.

The value that a stream view serves is a step function of event time. It changes

- at the time of an event, because the head of a window is exact;
- when the tail of a window, rounded down to the hop, passes a tile that holds an event;
- just after the time to live since the newest event has passed: then it becomes null.

`changes` finds these times; `values` evaluates the same states as the online store at any time. The events
are processed in spans, so that an entity with any number of events needs little memory: within a span every
instant is kept separately, and a span is shorter than the retention of a state.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.feature_store import feast_layout
from services.feature_store.plan import ValueType, View, ViewKind
from services.feature_store.window_values import WindowValues
from services.features.view_state import Entity, Event, ViewLogic
from streams import spans, tile_layout
from streams.observations import StoredObservations
from streams.stored_tiles import StoredTiles

SPAN_INSTANTS_MAX = 512
"""Maximum distinct instants per span: below the 1,024 that both kinds of states keep exactly."""
SPAN_MS_MAX = tile_layout.SLACK_MS
"""Maximum length of a span: what a state keeps beyond its windows."""

Int64s = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]

END_MS = 2**62
"""An event time after all others."""


@dataclasses.dataclass(frozen=True)
class StateSpan:
    """An entity's time from one event to before another, with the state that serves it."""

    instants_ms: Int64s
    """The distinct times of its events, at least one."""
    end_ms: int
    """Time of the next event after the span; `END_MS` after the last event."""
    state: bytes
    """The encoded state of all events up to the end of the span."""


@dataclasses.dataclass(frozen=True)
class FeatureValues:
    """The features at n times, in order."""

    times_ms: Int64s
    columns: Sequence[AnyArray]
    """One (n,) array per feature: float64 with nan for null; integers, bools and text as object with None."""


class ViewTimeline:
    """Evaluates one stream view over event time."""

    def __init__(self, logic: ViewLogic) -> None:
        """Compile the view's evaluator once."""
        self.logic = logic
        self._view = logic.view
        self._evaluate = _EVALUATORS[logic.view.kind](logic.view)

    def spans(self, events: Iterable[Event]) -> Iterator[StateSpan]:
        """Divide the events of one entity, sorted by event time, into spans."""
        state = self.logic.load(None)
        instants: list[int] = []
        for event in events:
            if instants and event.time_ms != instants[-1]:
                if len(instants) == SPAN_INSTANTS_MAX or event.time_ms - instants[0] > SPAN_MS_MAX:
                    yield StateSpan(np.array(instants), event.time_ms, state.history.to_bytes())
                    instants = []
                instants.append(event.time_ms)
            elif not instants:
                instants.append(event.time_ms)
            state.offsets.clear()  # the archive has no repeats, and sorted by time the offsets do not rise
            self.logic.apply(state, event)
        if instants:
            yield StateSpan(np.array(instants), END_MS, state.history.to_bytes())

    def values(self, span: StateSpan, times_ms: Int64s) -> FeatureValues:
        """Evaluate at (n,) times within a span."""
        columns = self._evaluate(span.state, times_ms)
        if self._view.ttl_ms:
            newest = np.searchsorted(span.instants_ms, times_ms, side="right") - 1
            stale = times_ms - span.instants_ms[newest] > self._view.ttl_ms
            for column in columns:
                column[stale] = None if column.dtype == object else math.nan
        return FeatureValues(times_ms, columns)

    def changes(self, events: Iterable[Event]) -> Iterator[FeatureValues]:
        """Yield, in order, the values of one entity at every time at which they change.

        With a time to live, the time of every event is included even if no value changes, because Feast's
        join compares the age of the row with the time to live.
        """
        candidates = _ChangeTimes(self._view)
        last: list[bytes] = []
        for span in self.spans(events):
            values = self.values(span, candidates.within(span))
            changed = np.zeros(len(values.times_ms), dtype=np.bool_)
            for index, column in enumerate(values.columns):
                bits = _bits(column)
                changed[1:] |= bits[1:] != bits[:-1]
                changed[0] |= not last or bits[0] != last[index]
            last = [_bits(column)[-1] for column in values.columns]
            if self._view.ttl_ms:
                changed |= np.isin(values.times_ms, span.instants_ms)
            yield FeatureValues(values.times_ms[changed], [column[changed] for column in values.columns])


def reach_ms(view: View) -> int:
    """Return how old an event may be that a value depends on; `END_MS` for lifetime aggregates.

    Without a time to live, a value also depends on the newest event before that, and on no other.
    """
    if not all(item.window_ms for item in view.aggregations):
        return END_MS
    longest_ms = max((spans.reach_ms(item, view.hop_ms) for item in view.aggregations), default=0)
    return max(view.ttl_ms, longest_ms + view.hop_ms)


class _ChangeTimes:
    """The times at which values may change, span by span."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._later = np.empty(0, dtype=np.int64)
        """Times after the end of the last span: at most the tiles of the windows and the events of a gap."""

    def within(self, span: StateSpan) -> Int64s:
        """Return the sorted times in a span; the first is its start."""
        instants = span.instants_ms
        found = [instants, self._later]
        found += [spans.moments_ms(item, self._view.hop_ms, instants) for item in self._view.aggregations]
        if self._view.ttl_ms:
            stale_from = instants + self._view.ttl_ms + 1
            found.append(stale_from[stale_from < np.append(instants[1:], span.end_ms)])
        times_ms = np.unique(np.concatenate(found))
        self._later = times_ms[times_ms >= span.end_ms]
        return times_ms[times_ms < span.end_ms]


def _windowed(view: View) -> Callable[[bytes, Int64s], list[AnyArray]]:
    windowed = WindowValues(view)
    return lambda state, times_ms: windowed.fit(StoredTiles(windowed.layout, state).values(times_ms)[0])


def _latest(view: View) -> Callable[[bytes, Int64s], list[AnyArray]]:
    def evaluate(state: bytes, times_ms: Int64s) -> list[AnyArray]:
        observations = StoredObservations(state)
        indexes, _ = observations.find(times_ms, view.ttl_ms)
        distinct, inverse = np.unique(indexes, return_inverse=True)
        empty = [b""] * len(view.features)
        rows = [
            feast_layout.split_row(observations.row(int(index))) if index >= 0 else empty
            for index in distinct
        ]
        return [
            _column(feature.type, raws)[inverse]
            for feature, raws in zip(view.features, zip(*rows, strict=True), strict=True)
        ]

    return evaluate


_EVALUATORS = {ViewKind.WINDOWED: _windowed, ViewKind.LATEST: _latest}


def _column(kind: ValueType, raws: Iterable[bytes]) -> AnyArray:
    values = [feast_layout.decode_value(raw) for raw in raws]
    if kind in (ValueType.DOUBLE, ValueType.FLOAT):
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    return np.array(values, dtype=object)


def _bits(column: AnyArray) -> AnyArray:
    """Return an array that is equal where the bits are equal; all nan are equal."""
    return column if column.dtype == object else np.where(np.isnan(column), np.nan, column).view(np.int64)


def by_entity(logic: ViewLogic, events: Iterable[Event]) -> Iterator[tuple[Entity, Iterator[Event]]]:
    """Group the events of one view, which are sorted by entity."""
    return itertools.groupby(events, key=lambda event: logic.entity(event.value) or ())

"""The values of one entity over event time, from its events in order of their time. Pure.

What a stream view serves is a step function of event time. It changes

- where an event happens, because the head of a window is exact;
- where the tail of a window, rounded down to the hop, passes a tile that holds an event;
- just after the time to live since the newest event has run out: from there on it is null.

`changes` finds these moments, `values` evaluates the same states that the online store holds at any
moment. The events pass through in spans, so that an entity of any length needs little memory: within a
span every instant is kept apart, and it is shorter than what a state remembers.
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
from streams import spans, windows
from streams.observations import StoredObservations
from streams.windows import StoredTiles

SPAN_INSTANTS_MAX = 512
"""Less than what both kinds of states keep exactly: 1,024 distinct instants."""
SPAN_MS_MAX = windows.SLACK_MS

Int64s = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]

END_MS = 2**62
"""After everything."""


@dataclasses.dataclass(frozen=True)
class Span:
    """A stretch of an entity's time, from one event to before another, with the state that serves it."""

    instants_ms: Int64s
    """The distinct times of its events, at least one."""
    end_ms: int
    """Time of the next event behind it, `END_MS` behind the last."""
    state: bytes
    """Of all events so far."""


@dataclasses.dataclass(frozen=True)
class Values:
    """The features of n moments, in order."""

    times_ms: Int64s
    columns: Sequence[AnyArray]
    """By feature, each (n,): float64 with nan for null; integers, bools and text as object with None."""


class Timeline:
    """Evaluates one stream view."""

    def __init__(self, logic: ViewLogic) -> None:
        """Compile what is the same for every entity."""
        self.logic = logic
        self._view = logic.view
        self._evaluate = _EVALUATORS[logic.view.kind](logic.view)

    def spans(self, events: Iterable[Event]) -> Iterator[Span]:
        """Divide the events of one entity, sorted by event time, into spans."""
        state = self.logic.load(None)
        instants: list[int] = []
        for event in events:
            if instants and event.time_ms != instants[-1]:
                if len(instants) == SPAN_INSTANTS_MAX or event.time_ms - instants[0] > SPAN_MS_MAX:
                    yield Span(np.array(instants), event.time_ms, state.history.to_bytes())
                    instants = []
                instants.append(event.time_ms)
            elif not instants:
                instants.append(event.time_ms)
            state.offsets.clear()  # the archive holds each offset once, and by time they do not rise
            self.logic.apply(state, event)
        if instants:
            yield Span(np.array(instants), END_MS, state.history.to_bytes())

    def values(self, span: Span, times_ms: Int64s) -> Values:
        """Evaluate at (n,) times within a span."""
        columns = self._evaluate(span.state, times_ms)
        if self._view.ttl_ms:
            newest = np.searchsorted(span.instants_ms, times_ms, side="right") - 1
            stale = times_ms - span.instants_ms[newest] > self._view.ttl_ms
            for column in columns:
                column[stale] = None if column.dtype == object else math.nan
        return Values(times_ms, columns)

    def changes(self, events: Iterable[Event]) -> Iterator[Values]:
        """Yield, in order, the values of one entity at every moment at which they change.

        With a time to live, every event is a moment, also if it changes nothing: Feast's join asks for the
        age of the row.
        """
        candidates = _Candidates(self._view)
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
            yield Values(values.times_ms[changed], [column[changed] for column in values.columns])


def reach_ms(view: View) -> int:
    """Return how far behind its time a value may need events: of a whole life, all of them.

    Without a time to live it also needs the newest one before that, and no other.
    """
    if not all(item.window_ms for item in view.aggregations):
        return END_MS
    longest_ms = max((spans.reach_ms(item, view.hop_ms) for item in view.aggregations), default=0)
    return max(view.ttl_ms, longest_ms + view.hop_ms)


class _Candidates:
    """The moments at which values may change, span by span."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._waiting = np.empty(0, dtype=np.int64)
        """Beyond the end of the last span: at most the tiles of the windows and the events within a gap."""

    def within(self, span: Span) -> Int64s:
        """Return the sorted moments of a span; it begins with one."""
        instants = span.instants_ms
        found = [instants, self._waiting]
        found += [spans.moments_ms(item, self._view.hop_ms, instants) for item in self._view.aggregations]
        if self._view.ttl_ms:
            stale_from = instants + self._view.ttl_ms + 1
            found.append(stale_from[stale_from < np.append(instants[1:], span.end_ms)])
        moments = np.unique(np.concatenate(found))
        self._waiting = moments[moments >= span.end_ms]
        return moments[moments < span.end_ms]


def _windowed(view: View) -> Callable[[bytes, Int64s], list[AnyArray]]:
    windowed = WindowValues(view)
    return lambda state, times_ms: windowed.fit(StoredTiles(windowed.layout, state).values(times_ms)[0])


def _latest(view: View) -> Callable[[bytes, Int64s], list[AnyArray]]:
    def evaluate(state: bytes, times_ms: Int64s) -> list[AnyArray]:
        observations = StoredObservations(state)
        places, _ = observations.find(times_ms, view.ttl_ms)
        distinct, inverse = np.unique(places, return_inverse=True)
        empty = [b""] * len(view.features)
        rows = [
            feast_layout.split_row(observations.row(int(place))) if place >= 0 else empty
            for place in distinct
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
    """Return something that is equal where the bits are; all nan count as one."""
    return column if column.dtype == object else np.where(np.isnan(column), np.nan, column).view(np.int64)


def by_entity(logic: ViewLogic, events: Iterable[Event]) -> Iterator[tuple[Entity, Iterator[Event]]]:
    """Group events that are sorted by entity."""
    return itertools.groupby(events, key=lambda event: logic.entity(event.value) or ())

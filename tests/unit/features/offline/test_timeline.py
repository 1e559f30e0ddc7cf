"""The past of an entity, change by change: read as-of any time, it is what the online state serves then."""

import math
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.feature_store.plan import Column, FeatureAggregation, ValueType, View, ViewKind
from services.feature_store.window_values import WindowValues
from services.features.offline import timeline
from services.features.offline.timeline import FeatureValues, ViewTimeline
from services.features.view_state import Event, ViewLogic
from streams import tile_layout
from streams.aggregates import FUNCTIONS
from streams.spans import WindowChange
from streams.stored_tiles import StoredTiles

HOP_MS = 10_000
WINDOWS: tuple[dict[str, Any], ...] = ({"window_ms": 10_000}, {"window_ms": 25_000}, {"window_ms": 60_000})
OTHER_WINDOWS: tuple[dict[str, Any], ...] = (
    {"window_ms": 10_000, "slide_ms": 10_000},
    {"window_ms": 60_000, "slide_ms": 20_000},
    {"window_ms": 60_000, "slide_ms": 20_000, "change": WindowChange.DIFFERENCE},
    {"window_ms": 25_000, "change": WindowChange.DIFFERENCE},
    {"window_ms": 60_000, "change": WindowChange.RATIO},
    {"window_ms": 60_000, "gap_ms": 10_000},
    {"window_ms": 25_000, "gap_ms": 17_000},
    {"window_ms": 0},
    {"window_ms": 0, "slide_ms": 20_000},
)
KEY = (Column("shop", ValueType.STRING),)


def windowed(ttl_ms: int, *windows: Mapping[str, Any]) -> ViewLogic:
    aggregations = tuple(
        FeatureAggregation(f"{name}_{number}", "amount", name, **window)
        for name in FUNCTIONS
        for number, window in enumerate(windows)
    )
    features = tuple(Column(item.feature, ValueType.DOUBLE) for item in aggregations)
    return ViewLogic("p", View("v", ViewKind.WINDOWED, KEY, features, ttl_ms, None, aggregations, HOP_MS))


def typed(ttl_ms: int) -> ViewLogic:
    """Return a view with features of other types than doubles, over windows and the whole life."""
    declared = (
        ("note", "last", 25_000, ValueType.STRING),
        ("note", "first", 0, ValueType.STRING),
        ("open", "last", 10_000, ValueType.BOOL),
        ("open", "first", 0, ValueType.BOOL),
        ("amount", "sum", 25_000, ValueType.FLOAT),
        ("amount", "mean", 0, ValueType.FLOAT),
        ("note", "count_distinct", 0, ValueType.INT32),
    )
    features = tuple(Column(f"feature_{number}", item[-1]) for number, item in enumerate(declared))
    aggregations = tuple(
        FeatureAggregation(feature.name, column, function, window_ms)
        for feature, (column, function, window_ms, _) in zip(features, declared, strict=True)
    )
    return ViewLogic("p", View("v", ViewKind.WINDOWED, KEY, features, ttl_ms, None, aggregations, HOP_MS))


def latest(ttl_ms: int) -> ViewLogic:
    features = (Column("amount", ValueType.DOUBLE), Column("note", ValueType.STRING))
    return ViewLogic("p", View("v", ViewKind.LATEST, KEY, features, ttl_ms))


def make_events(rows: Sequence[tuple[int, float | None]]) -> list[Event]:
    """Return events of two source partitions, sorted by event time."""
    created = [
        Event(
            types.SimpleNamespace(
                shop="mill",
                amount=amount,
                note=None if offset % 3 == 0 else f"n{offset}",
                open=(True, False, None)[time_ms % 3],
            ),
            time_ms,
            offset % 2,
            offset,
        )
        for offset, (time_ms, amount) in enumerate(rows)
    ]
    return sorted(created, key=lambda event: (event.time_ms, event.source_partition, event.source_offset))


def as_of(changes: Sequence[FeatureValues], times_ms: Sequence[int]) -> list[list[object]]:
    """Join as Feast does: the newest row that is not later; None before the first."""
    moments = np.concatenate([values.times_ms for values in changes])
    columns = [np.concatenate(columns) for columns in zip(*(v.columns for v in changes), strict=True)]
    assert (np.diff(moments) > 0).all()
    index = np.searchsorted(moments, times_ms, side="right") - 1
    return [
        [None if place < 0 or column[place] != column[place] else column[place] for place in index]
        for column in columns
    ]


def online(logic: ViewLogic, events: Sequence[Event], times_ms: Sequence[int]) -> list[list[object]]:
    """Evaluate the definition itself: at each time, a state of the events until then."""
    served: list[list[object]] = []
    for time_ms in times_ms:
        known = [event for event in events if event.time_ms <= time_ms]
        stale = logic.view.ttl_ms and known and time_ms - known[-1].time_ms > logic.view.ttl_ms
        if not known or stale:
            served.append([None] * len(logic.view.features))
            continue
        state = logic.load(None)
        for event in sorted(known, key=lambda event: event.source_offset):
            logic.apply(state, event)
        if logic.view.kind is ViewKind.LATEST:
            served.append(list(logic.row(state).values))
        else:
            values = WindowValues(logic.view)
            tiles = StoredTiles(values.layout, state.history.to_bytes())
            row = [column[0] for column in values.fit(tiles.values(np.array([time_ms]))[0])]
            served.append(
                [None if isinstance(value, float) and math.isnan(value) else value for value in row]
            )
    return [list(column) for column in zip(*served, strict=True)]


moments = st.integers(0, 300_000)
amounts = st.none() | st.sampled_from([0.1, -0.0, 1e16, 3.0]) | st.floats(-1e6, 1e6)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(moments, amounts), min_size=1, max_size=25),
    st.lists(st.integers(-10_000, 500_000), min_size=1, max_size=12),
    st.sampled_from([0, 7_500, 40_000]),
    st.sampled_from([*WINDOWS, *OTHER_WINDOWS, typed, latest]),
    st.sampled_from([3, timeline.SPAN_INSTANTS_MAX]),
)
def test_history_has_at_any_time_the_values_of_the_online_state(
    rows, times_ms, ttl_ms, window, span_instants
):
    """One window at a time, so that change times of another window do not hide missing ones."""
    logic = window(ttl_ms) if callable(window) else windowed(ttl_ms, window)
    events = make_events(rows)
    asked = sorted({*times_ms, *(t + d for t, _ in rows for d in (-1, 0, 1, ttl_ms, ttl_ms + 1))})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeline, "SPAN_INSTANTS_MAX", span_instants)
        changes = list(ViewTimeline(logic).changes(events))
    assert as_of(changes, asked) == online(logic, events, asked)


def test_long_history_is_exact_though_a_state_merges_old_instants():
    """5,000 instants, of which a state keeps 1,024 separately, and a gap longer than its retention."""
    rng = np.random.default_rng(1)
    gaps = rng.integers(1, 400, 5000)
    gaps[2500] = 2 * tile_layout.SLACK_MS
    times = np.cumsum(gaps)
    events = make_events([(int(time_ms), float(rng.integers(100))) for time_ms in times])
    logic = windowed(0, *WINDOWS, {"window_ms": 0})
    asked = np.unique(np.concatenate([times, times - 1, rng.integers(times[0], times[-1] + 90_000, 3000)]))[
        1:
    ]
    found = as_of(list(ViewTimeline(logic).changes(events)), asked.tolist())
    by_feature = dict(zip(logic.view.feature_names, found, strict=True))
    values = np.array([event.value.amount for event in events])
    running = np.concatenate([[0.0], np.cumsum(values)])
    for number, window in enumerate(WINDOWS):
        window_ms = window["window_ms"]
        tails = (asked - window_ms) // HOP_MS * HOP_MS
        low, high = np.searchsorted(times, tails), np.searchsorted(times, asked, side="right")
        assert by_feature[f"count_{number}"] == (high - low).astype(float).tolist()
        sums = [
            float(total) if n else None
            for total, n in zip(running[high] - running[low], high - low, strict=True)
        ]
        assert by_feature[f"sum_{number}"] == sums
    seen = np.searchsorted(times, asked, side="right")
    assert by_feature[f"count_{len(WINDOWS)}"] == seen.astype(float).tolist()
    assert by_feature[f"sum_{len(WINDOWS)}"] == running[seen].tolist()
    assert by_feature[f"max_{len(WINDOWS)}"] == np.maximum.accumulate(values)[seen - 1].tolist()
    assert by_feature[f"last_{len(WINDOWS)}"] == values[seen - 1].tolist()


def test_with_a_time_to_live_every_event_is_a_row():
    rows = [(0, 3.0), (1000, 3.0), (2000, 3.0)]
    changes = list(ViewTimeline(latest(5000)).changes(make_events(rows)))
    assert np.concatenate([values.times_ms for values in changes]).tolist() == [0, 1000, 2000, 7001]


def test_without_a_time_to_live_only_changes_are_rows():
    view = View("v", ViewKind.LATEST, KEY, (Column("amount", ValueType.DOUBLE),), 0)
    changes = list(
        ViewTimeline(ViewLogic("p", view)).changes(make_events([(0, 3.0), (1000, 3.0), (2000, 4.0)]))
    )
    assert np.concatenate([values.times_ms for values in changes]).tolist() == [0, 2000]

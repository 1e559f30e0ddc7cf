"""Laws of the windows: equal to the definition, independent of the order, never an event of the future."""

import contextlib
import math
import random
from collections.abc import Iterator, Sequence
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import spans, tile_layout
from streams.aggregates import FUNCTIONS
from streams.spans import WindowChange
from streams.stored_tiles import StoredTiles
from streams.tile_layout import TileLayout
from streams.tiles import Tiles
from tests.property.definition import (
    Aggregation,
    aggregate,
    assert_merge_equals_concatenation,
    assert_order_and_restarts_change_no_byte,
    small_sketches,
    state_of,
)

HOP_MS = 10_000
CHANGES = (WindowChange.DIFFERENCE, WindowChange.RATIO)
SLACK_MS = 200_000


AGGREGATIONS = (
    *(Aggregation("x", function, window_ms) for function in FUNCTIONS for window_ms in (20_000, 60_000)),
    *(Aggregation("x", function, 40_000, slide_ms=20_000) for function in FUNCTIONS),
    *(Aggregation("x", function, 60_000, gap_ms=15_000) for function in FUNCTIONS),
    *(Aggregation("x", "approx_percentile", 60_000, percentile=share) for share in (0.5, 0.95, 1.0)),
    Aggregation("x", "approx_percentile", 60_000, gap_ms=15_000, percentile=0.75),
    *(Aggregation("x", function, 0) for function in FUNCTIONS),
    *(Aggregation("x", function, 0, slide_ms=20_000) for function in ("sum", "last", "count_distinct")),
    Aggregation("x", "approx_percentile", 0, percentile=0.75),
    Aggregation("y", "last", 0),
    Aggregation("y", "sum", 30_000),
    Aggregation("y", "count", 30_000),
    Aggregation("y", "mean", 30_000, slide_ms=30_000),
    Aggregation("y", "count", 60_000, gap_ms=10_000),
    *(Aggregation("y", "sum", 35_000, change=change) for change in CHANGES),
    *(Aggregation("y", "count", 30_000, slide_ms=10_000, change=change) for change in CHANGES),
)
LAYOUT = TileLayout(AGGREGATIONS, HOP_MS)
INSTANTS_MAX, SECONDS_MAX = 4, 6
Event = tuple[int, tuple[float | None, float | None]]

numbers = st.one_of(
    st.none(),
    st.integers(-1000, 1000).map(float),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(allow_nan=False, allow_infinity=False),
    st.just(-0.0),
)
times = st.one_of(st.integers(0, 600_000), st.integers(0, 600).map(lambda second: second * 1000))
events_lists = st.lists(st.tuples(times, st.tuples(numbers, numbers)), max_size=30)
few_events = st.lists(st.tuples(times, st.tuples(numbers, numbers)), max_size=12)


@contextlib.contextmanager
def small_limits() -> Iterator[None]:
    """Make limits so small that a few events reach them."""
    with (
        mock.patch.object(tile_layout, "INSTANTS_MAX", INSTANTS_MAX),
        mock.patch.object(tile_layout, "SECONDS_MAX", SECONDS_MAX),
        mock.patch.object(tile_layout, "SLACK_MS", SLACK_MS),
    ):
        yield


def sorted_by_time(events: list[Event]) -> list[Event]:
    return sorted(events, key=lambda event: event[0])


def oracle(events: Sequence[Event], aggregation: Aggregation, time_ms: int) -> float:
    """Evaluate one aggregation by its definition, in rational numbers, from the plain list of events."""
    if aggregation.slide_ms:
        end_ms = time_ms // aggregation.slide_ms * aggregation.slide_ms
        first_ms, last_ms = end_ms - (aggregation.window_ms or 2**60), end_ms - 1
    elif not aggregation.window_ms:
        first_ms, last_ms = -(2**60), time_ms
    else:
        first_ms, last_ms = (time_ms - aggregation.window_ms) // HOP_MS * HOP_MS, time_ms
    since_ms = (
        max(first_ms, session_start(events, aggregation.gap_ms, time_ms)) if aggregation.gap_ms else first_ms
    )
    now = aggregate_between(events, aggregation, since_ms, last_ms)
    if aggregation.change is WindowChange.NONE:
        return now
    before_ms = (first_ms - aggregation.window_ms) // HOP_MS * HOP_MS
    before = aggregate_between(events, aggregation, before_ms, first_ms - 1)
    if aggregation.change is WindowChange.DIFFERENCE:
        return now - before
    return math.nan if before == 0 else float(np.float64(now) / before)


def session_start(events: Sequence[Event], gap_ms: int, time_ms: int) -> int:
    """Return when the session began that is open at a time; later than that time if none is."""
    start_ms = time_ms + 1
    reached_ms = time_ms
    for at in sorted((at for at, _ in events if at <= time_ms), reverse=True):
        if reached_ms - at > gap_ms:
            break
        start_ms = reached_ms = at
    return start_ms


def aggregate_between(
    events: Sequence[Event], aggregation: Aggregation, first_ms: int, last_ms: int
) -> float:
    index = LAYOUT.columns.index(aggregation.column)
    values = [(at, values[index]) for at, values in events if first_ms <= at <= last_ms]
    known = sorted((at, value) for at, value in values if value is not None)
    return aggregate(aggregation.function, [value for _, value in known], aggregation.percentile)


def values_at(raw: bytes, query_times_ms: Sequence[int]) -> np.ndarray:
    """Return the values at all these times, after a check that the first 8 are equal one by one."""
    tiles, times_ms = StoredTiles(LAYOUT, raw), np.array(query_times_ms, dtype=np.int64)
    columns, beyond = tiles.values(times_ms)
    moments = [StoredTiles(LAYOUT, raw).at(time_ms) for time_ms in query_times_ms[:8]]
    together = np.array(columns).T
    np.testing.assert_array_equal(np.array([moment.values for moment in moments]), together[:8])
    assert [moment.newest_ms for moment in moments] == tiles.newest_ms(times_ms)[:8].tolist()
    assert [moment.is_beyond for moment in moments] == beyond[:8].tolist()
    return together


@given(events_lists, st.lists(st.integers(-100_000, 900_000), min_size=1, max_size=8))
@settings(max_examples=150)
def test_value_at_any_time_equals_the_definition(events: list[Event], query_times_ms: list[int]) -> None:
    served = values_at(state_of(LAYOUT, events).to_bytes(), query_times_ms)
    expected = [[oracle(events, item, at) for item in AGGREGATIONS] for at in query_times_ms]
    np.testing.assert_array_equal(served, np.array(expected))


@given(events_lists, st.lists(st.integers(-100_000, 900_000), min_size=1, max_size=8))
@settings(max_examples=60)
def test_newest_event_at_any_time_is_exact_or_the_end_of_its_tile(
    events: list[Event], query_times_ms: list[int]
) -> None:
    never = -(2**63)
    times_ms = [time_ms for time_ms, _ in events]
    known = [max((at for at in times_ms if at <= time_ms), default=never) for time_ms in query_times_ms]
    found = StoredTiles(LAYOUT, state_of(LAYOUT, events).to_bytes()).newest_ms(
        np.array(query_times_ms, dtype=np.int64)
    )
    assert found.tolist() == known
    with small_limits():
        few = StoredTiles(LAYOUT, state_of(LAYOUT, events).to_bytes())
        merged = few.newest_ms(np.array(query_times_ms, dtype=np.int64)).tolist()
    for time_ms, exact, coarse in zip(query_times_ms, known, merged, strict=True):
        kept = time_ms >= max(times_ms, default=never)
        assert coarse == exact if kept else coarse <= time_ms


@given(events_lists.filter(bool))
@settings(max_examples=60)
def test_newest_values_equal_those_read_at_the_time_of_the_newest_event(events: list[Event]) -> None:
    with small_sketches():
        tiles = state_of(LAYOUT, events)
        at_newest = tiles.newest_values()
        np.testing.assert_array_equal(values_at(tiles.to_bytes(), [tiles.newest_ms])[0], at_newest)


@given(events_lists, st.randoms(use_true_random=False), st.integers(1, 7))
@settings(max_examples=150)
def test_order_never_changes_a_byte(events: list[Event], rng: random.Random, written_every: int) -> None:
    with small_limits(), small_sketches():
        assert_order_and_restarts_change_no_byte(LAYOUT, events, rng, written_every)


@given(events_lists | events_lists.map(sorted_by_time), st.integers(1, 9))
@settings(max_examples=100)
def test_many_at_once_equal_one_after_the_other(events: list[Event], at_once: int) -> None:
    layout = TileLayout(tuple(item for item in LAYOUT.aggregations if not item.gap_ms), LAYOUT.hop_ms)
    assert layout.columns == LAYOUT.columns
    with small_limits(), small_sketches():
        one_by_one, together = Tiles(layout), Tiles(layout)
        for start in range(0, len(events), at_once):
            part = events[start : start + at_once]
            together.add_all([time_ms for time_ms, _ in part], [values for _, values in part])
            for event in part:
                one_by_one.add(*event)
            assert together.to_bytes() == one_by_one.to_bytes()


@given(few_events, few_events)
@settings(max_examples=120)
def test_merge_equals_concatenation(left: list[Event], right: list[Event]) -> None:
    with small_limits(), small_sketches():
        assert_merge_equals_concatenation(LAYOUT, left, right)


@given(events_lists)
@settings(max_examples=100)
def test_reading_what_was_written_is_the_identity(events: list[Event]) -> None:
    with small_limits(), small_sketches():
        raw = state_of(LAYOUT, events).to_bytes()
        assert Tiles.from_bytes(LAYOUT, raw).to_bytes() == raw


@given(events_lists.filter(bool), st.lists(st.integers(0, 700_000), min_size=1, max_size=8))
@settings(max_examples=100)
def test_merged_tiles_never_hold_an_event_later_than_asked_and_miss_less_than_a_hop(
    events: list[Event], query_times_ms: list[int]
) -> None:
    with small_limits():
        stored = StoredTiles(LAYOUT, state_of(LAYOUT, events).to_bytes())
        columns, beyond = stored.values(np.array(query_times_ms, dtype=np.int64))
    counts = columns[0]
    newest_ms = max(at for at, _ in events)
    for time_ms, count, too_old in zip(query_times_ms, counts, beyond, strict=True):
        assert too_old == (time_ms < newest_ms - SLACK_MS)
        first_ms = (time_ms - 20_000) // HOP_MS * HOP_MS
        known = [at for at, (x, _) in events if first_ms <= at <= time_ms and x is not None]
        if not too_old:
            assert count <= len(known)
            assert count >= len([at for at in known if at <= time_ms - HOP_MS])
            if time_ms >= stored.resolutions.instants_from_ms:
                assert count == len(known)


@given(few_events.filter(bool), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_values_change_only_at_their_moments(events: list[Event], rng: random.Random) -> None:
    instants = np.array([at for at, _ in events])
    moments = [spans.moments_ms(item, HOP_MS, instants) for item in AGGREGATIONS]
    every = np.unique(np.concatenate(moments)).tolist()
    (before,) = values_at(Tiles(LAYOUT).to_bytes(), [0])
    query_times_ms = [
        time_ms - back_ms for time_ms in rng.sample(every, min(len(every), 6)) for back_ms in (0, 1)
    ]
    served = values_at(state_of(LAYOUT, events).to_bytes(), [*every, *query_times_ms])
    at = dict(zip([*every, *query_times_ms], served, strict=True))
    for index, moments_of_one in enumerate(moments):
        for time_ms in query_times_ms:
            last = int(np.searchsorted(moments_of_one, time_ms, side="right")) - 1
            in_force = before[index] if last < 0 else at[int(moments_of_one[last])][index]
            np.testing.assert_array_equal(at[time_ms][index], in_force)


def test_values_need_no_event_older_than_the_retention() -> None:
    events: list[Event] = [(at, (float(at % 7), float(at % 5))) for at in range(3, 300_000, 997)]
    newest_ms = events[-1][0]
    query_times_ms = list(range(newest_ms - 20_000, newest_ms + 20_000, 3_001))
    for item in AGGREGATIONS:
        layout = TileLayout((item,), HOP_MS)
        with mock.patch.object(tile_layout, "SLACK_MS", 20_000):
            tiles = Tiles(layout)
            for at, values in events:
                tiles.add(at, (values[LAYOUT.columns.index(item.column)],))
            (served,), _ = StoredTiles(layout, tiles.to_bytes()).values(np.array(query_times_ms))
        assert len(tiles) <= (20_000 + layout.reach_ms + HOP_MS) // 997 + 1
        np.testing.assert_array_equal(
            served, [oracle(events, item, at) for at in query_times_ms], err_msg=str(item)
        )


@given(events_lists.filter(bool), st.lists(st.integers(0, 900_000), min_size=1, max_size=8))
@settings(max_examples=100)
def test_hopping_windows_are_exact_in_merged_tiles_too(
    events: list[Event], query_times_ms: list[int]
) -> None:
    with small_limits():
        columns, beyond = StoredTiles(LAYOUT, state_of(LAYOUT, events).to_bytes()).values(
            np.array(query_times_ms)
        )
    for item, served in zip(AGGREGATIONS, columns, strict=True):
        if item.slide_ms:
            expected = [oracle(events, item, at) for at in query_times_ms]
            np.testing.assert_array_equal(served, np.where(beyond, np.nan, expected))


@given(st.lists(st.tuples(times, st.tuples(numbers, numbers)), min_size=20, max_size=60))
@settings(max_examples=50)
def test_state_stays_bounded(events: list[Event]) -> None:
    with small_limits():
        tiles = state_of(LAYOUT, events)
        raw = tiles.to_bytes()
    second_in_hop, hops_kept = HOP_MS // 1000, (SLACK_MS + LAYOUT.reach_ms) // HOP_MS + 2
    # Within the second (hop) of a limit, several instants (seconds) may be kept separately.
    instants = [at for at, _ in events]
    crowded = max(
        len({at for at in instants if at // 1000 == second}) for second in {at // 1000 for at in instants}
    )
    assert len(tiles) <= INSTANTS_MAX + crowded + SECONDS_MAX + second_in_hop + hops_kept
    assert len(raw) < 100_000

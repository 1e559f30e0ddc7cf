"""Laws of lifetime aggregates: they include every event, in bounded space and in any order."""

import contextlib
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import tile_layout
from streams.aggregates import FUNCTIONS
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
SLACK_MS = 50_000
WINDOW_MS = 30_000
TEXT_FUNCTIONS = ("first", "last", "count", "count_distinct")
AGGREGATIONS = (
    *(Aggregation("x", function, 0, percentile=0.5) for function in FUNCTIONS),
    *(Aggregation("x", function, 0, slide_ms=20_000, percentile=0.5) for function in FUNCTIONS),
    *(Aggregation("text", function, 0) for function in TEXT_FUNCTIONS),
    *(Aggregation("text", function, WINDOW_MS) for function in TEXT_FUNCTIONS),
    *(Aggregation("y", function, WINDOW_MS, percentile=0.5) for function in FUNCTIONS),
    Aggregation("y", "count", WINDOW_MS, gap_ms=15_000),
    Aggregation("y", "last", 0),
)
LAYOUT = TileLayout(AGGREGATIONS, HOP_MS)
Event = tuple[int, tuple[float | None, str | None, float | None]]

times = st.builds(
    lambda day, time_ms: day * 90_000 + time_ms, st.integers(0, 5), st.integers(0, 30_000) | st.just(HOP_MS)
)
"""Close together, so that instants and seconds are merged; with pauses, so that there is a base."""
numbers = st.none() | st.integers(-5, 5).map(float) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.none() | st.sampled_from(["", "mill", "dock", "é", "dock\0"])
events_lists = st.lists(st.tuples(times, st.tuples(numbers, texts, numbers)), min_size=1, max_size=40)


@contextlib.contextmanager
def short_memory() -> Iterator[None]:
    """Make limits so small that most events are older than what is kept outside the base."""
    with (
        mock.patch.object(tile_layout, "INSTANTS_MAX", 4),
        mock.patch.object(tile_layout, "SECONDS_MAX", 6),
        mock.patch.object(tile_layout, "SLACK_MS", SLACK_MS),
    ):
        yield


def defined(events: Sequence[Event], item: Aggregation, time_ms: int) -> float | str:
    """Evaluate by the definition; not for sessions."""
    end_ms = time_ms // item.slide_ms * item.slide_ms if item.slide_ms else time_ms + 1
    first_ms = (time_ms - item.window_ms) // HOP_MS * HOP_MS if item.window_ms else 0
    column_index = LAYOUT.columns.index(item.column)
    known: list[tuple[int, Any]] = sorted(
        (at, values[column_index])
        for at, values in events
        if first_ms <= at < end_ms and values[column_index] is not None
    )
    if item.function in ("first", "last"):
        if not known:
            return math.nan
        value = known[0 if item.function == "first" else -1][1]
        return value if isinstance(value, str) else value + 0.0
    return aggregate(item.function, [value for _, value in known], item.percentile)


@given(events_lists)
@settings(max_examples=150)
def test_as_of_the_newest_event_everything_is_in_the_value_however_old(events: list[Event]) -> None:
    with short_memory():
        tiles = state_of(LAYOUT, events)
        newest = tiles.newest_values()
        (at_newest,) = zip(
            *StoredTiles(LAYOUT, tiles.to_bytes()).values(np.array([tiles.newest_ms]))[0], strict=True
        )
    for item, value, stored in zip(AGGREGATIONS, newest, at_newest, strict=True):
        np.testing.assert_array_equal(value, stored)
        if not item.gap_ms:
            np.testing.assert_array_equal(value, defined(events, item, tiles.newest_ms), err_msg=str(item))


@given(events_lists, st.lists(st.integers(-SLACK_MS, 100_000), min_size=1, max_size=5))
@settings(max_examples=150)
def test_a_value_holds_all_up_to_its_time_and_nothing_later(
    events: list[Event], after_newest_ms: list[int]
) -> None:
    newest_ms = max(at for at, _ in events)
    query_times_ms = [newest_ms + distance for distance in after_newest_ms]
    with short_memory():
        stored = StoredTiles(LAYOUT, state_of(LAYOUT, events).to_bytes())
        columns, beyond = stored.values(np.array(query_times_ms))
        past, is_past = stored.values(newest_ms - SLACK_MS - np.array([1, 2000, HOP_MS, 45_000, 10**7]))
        newest_seen = stored.newest_ms(np.array(query_times_ms)).tolist()
    assert not beyond.any()
    assert is_past.all()
    assert np.isnan(np.array(past, dtype=float)).all()
    for time_ms, seen in zip(query_times_ms, newest_seen, strict=True):
        known_ms = max((at for at, _ in events if at <= time_ms), default=-(2**63))
        if time_ms >= stored.resolutions.instants_from_ms:
            hop_end_ms = known_ms // HOP_MS * HOP_MS + HOP_MS - 1
            assert seen in (known_ms, known_ms // 1000 * 1000 + 999, hop_end_ms)
    for item, column in zip(AGGREGATIONS, columns, strict=True):
        for time_ms, value in zip(query_times_ms, column, strict=True):
            if item.slide_ms or time_ms >= stored.resolutions.instants_from_ms:
                if not item.gap_ms:
                    np.testing.assert_array_equal(value, defined(events, item, time_ms), err_msg=str(item))
            elif item.function == "count" and not item.window_ms:
                assert defined(events, item, time_ms - HOP_MS) <= value <= defined(events, item, time_ms)


@given(events_lists, st.randoms(use_true_random=False), st.integers(1, 7))
@settings(max_examples=150)
def test_order_and_restarts_never_change_a_byte(
    events: list[Event], rng: random.Random, written_every: int
) -> None:
    with short_memory(), small_sketches():
        assert_order_and_restarts_change_no_byte(LAYOUT, events, rng, written_every)


@given(events_lists, events_lists)
@settings(max_examples=120)
def test_merge_equals_concatenation(left: list[Event], right: list[Event]) -> None:
    with short_memory(), small_sketches():
        assert_merge_equals_concatenation(LAYOUT, left, right)


def test_an_hour_of_events_or_a_year_of_them_takes_the_same_space() -> None:
    """What only windows need is not kept for longer: here every value of y is distinct."""
    layout = TileLayout((Aggregation("x", "sum", 0), Aggregation("y", "count_distinct", WINDOW_MS)), HOP_MS)
    sizes = []
    for seconds in (3600, 3600 * 24):
        tiles = Tiles(layout)
        with mock.patch.object(tile_layout, "SLACK_MS", 600_000):
            for second in range(0, seconds, 20):
                tiles.add(second * 1000, (1.0, float(second)))
                if second % 400 == 0:
                    tiles = Tiles.from_bytes(layout, tiles.to_bytes())
            sizes.append(len(tiles.to_bytes()))
            assert tiles.newest_values()[0] == seconds / 20
    assert sizes[0] == sizes[1]

"""Laws of the windows: equal to the definition, whatever the order, and never a look into the future."""

import contextlib
import dataclasses
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from fractions import Fraction
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import windows
from streams.partials import FUNCTIONS
from streams.windows import Layout, StoredTiles, Tiles

HOP_MS = 10_000
SLACK_MS = 200_000


@dataclasses.dataclass(frozen=True)
class Aggregation:
    column: str
    function: str
    window_ms: int


LAYOUT = Layout(
    (
        *(Aggregation("x", function, window_ms) for function in FUNCTIONS for window_ms in (20_000, 60_000)),
        Aggregation("y", "sum", 30_000),
        Aggregation("y", "count", 30_000),
    ),
    HOP_MS,
)
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
    """Make the resolutions and the retention matter for a handful of events."""
    with (
        mock.patch.object(windows, "INSTANTS_MAX", INSTANTS_MAX),
        mock.patch.object(windows, "SECONDS_MAX", SECONDS_MAX),
        mock.patch.object(windows, "SLACK_MS", SLACK_MS),
    ):
        yield


def state_of(events: Sequence[Event]) -> Tiles:
    tiles = Tiles(LAYOUT)
    for time_ms, values in events:
        tiles.add(time_ms, values)
    return tiles


def oracle(events: Sequence[Event], aggregation: windows.Aggregation, time_ms: int) -> float:
    """Evaluate one aggregation by its definition, in rational numbers."""
    first_ms = (time_ms - aggregation.window_ms) // HOP_MS * HOP_MS
    index = LAYOUT.columns.index(aggregation.column)
    values = [values[index] for at, values in events if first_ms <= at <= time_ms]
    return aggregate(aggregation.function, [value for value in values if value is not None])


def aggregate(function: str, values: Sequence[float]) -> float:
    if function == "count":
        return float(len(values))
    if not values or (function.startswith(("std", "var")) and len(values) < 2):
        return math.nan
    exact = [Fraction(value) for value in values]
    result = {
        "sum": lambda: sum(exact),
        "mean": lambda: sum(exact) / len(exact),
        "avg": lambda: sum(exact) / len(exact),
        "min": lambda: min(exact),
        "max": lambda: max(exact),
    }.get(function, lambda: statistics.variance(exact))()
    try:
        rounded = float(result)
    except OverflowError:
        rounded = math.inf if result > 0 else -math.inf
    return math.sqrt(rounded) if function.startswith("std") else rounded


def values_at(raw: bytes, asked: Sequence[int]) -> np.ndarray:
    columns, _ = StoredTiles(LAYOUT, raw).values(np.array(asked, dtype=np.int64))
    return np.array(columns).T


@given(events_lists, st.lists(st.integers(-100_000, 900_000), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_value_at_any_time_equals_the_definition(events: list[Event], asked: list[int]) -> None:
    served = values_at(state_of(events).to_bytes(), asked)
    expected = [[oracle(events, item, at) for item in LAYOUT.aggregations] for at in asked]
    np.testing.assert_array_equal(served, np.array(expected))


@given(events_lists, st.lists(st.integers(-100_000, 900_000), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_newest_event_at_any_time_is_exact_or_the_end_of_its_tile(
    events: list[Event], asked: list[int]
) -> None:
    never = -(2**63)
    times_ms = [time_ms for time_ms, _ in events]
    known = [max((at for at in times_ms if at <= time_ms), default=never) for time_ms in asked]
    found = StoredTiles(LAYOUT, state_of(events).to_bytes()).newest_ms(np.array(asked, dtype=np.int64))
    assert found.tolist() == known
    with small_limits():
        few = StoredTiles(LAYOUT, state_of(events).to_bytes())
        merged = few.newest_ms(np.array(asked, dtype=np.int64)).tolist()
    for time_ms, exact, coarse in zip(asked, known, merged, strict=True):
        kept = time_ms >= max(times_ms, default=never)
        assert coarse == exact if kept else coarse <= time_ms


@given(events_lists.filter(bool))
@settings(max_examples=60, deadline=None)
def test_values_as_of_the_newest_event_equal_those_that_are_read_at_its_time(events: list[Event]) -> None:
    tiles = state_of(events)
    at_newest = tiles.newest_values()
    np.testing.assert_array_equal(values_at(tiles.to_bytes(), [tiles.newest_ms])[0], at_newest)


@given(events_lists, st.randoms(use_true_random=False), st.integers(1, 7))
@settings(max_examples=300, deadline=None)
def test_order_never_changes_a_byte(events: list[Event], rng: random.Random, written_every: int) -> None:
    with small_limits():
        expected = state_of(sorted(events, key=lambda event: event[0])).to_bytes()
        shuffled = rng.sample(events, len(events))
        tiles = Tiles(LAYOUT)
        for number, (time_ms, values) in enumerate(shuffled):
            tiles.add(time_ms, values)
            if number % written_every == 0:  # a restart in between: the state goes through its bytes
                tiles = Tiles.from_bytes(LAYOUT, tiles.to_bytes())
        assert tiles.to_bytes() == expected


@given(few_events, few_events)
@settings(max_examples=300, deadline=None)
def test_merge_equals_concatenation(left: list[Event], right: list[Event]) -> None:
    with small_limits():
        merged = Tiles.from_bytes(LAYOUT, state_of(left).to_bytes())
        merged.merge(Tiles.from_bytes(LAYOUT, state_of(right).to_bytes()))
        assert merged.to_bytes() == state_of(left + right).to_bytes()


@given(events_lists)
@settings(max_examples=100, deadline=None)
def test_reading_what_was_written_is_the_identity(events: list[Event]) -> None:
    with small_limits():
        raw = state_of(events).to_bytes()
        assert Tiles.from_bytes(LAYOUT, raw).to_bytes() == raw


@given(events_lists.filter(bool), st.lists(st.integers(0, 700_000), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_merged_tiles_never_hold_an_event_later_than_asked_and_miss_less_than_a_hop(
    events: list[Event], asked: list[int]
) -> None:
    with small_limits():
        stored = StoredTiles(LAYOUT, state_of(events).to_bytes())
        columns, beyond = stored.values(np.array(asked, dtype=np.int64))
    counts = columns[0]
    newest_ms = max(at for at, _ in events)
    for time_ms, count, too_old in zip(asked, counts, beyond, strict=True):
        assert too_old == (time_ms < newest_ms - SLACK_MS)
        first_ms = (time_ms - 20_000) // HOP_MS * HOP_MS
        known = [at for at, (x, _) in events if first_ms <= at <= time_ms and x is not None]
        if not too_old:
            assert count <= len(known)
            assert count >= len([at for at in known if at <= time_ms - HOP_MS])
            if time_ms >= stored.instants_from_ms:
                assert count == len(known)


@given(st.lists(st.tuples(times, st.tuples(numbers, numbers)), min_size=20, max_size=60))
@settings(max_examples=50, deadline=None)
def test_state_stays_bounded(events: list[Event]) -> None:
    with small_limits():
        tiles = state_of(events)
        raw = tiles.to_bytes()
    second_in_hop, hops_kept = HOP_MS // 1000, (SLACK_MS + 60_000) // HOP_MS + 2
    # Within the second (hop) of a limit, instants (seconds) may stand beside each other.
    instants = [at for at, _ in events]
    crowded = max(
        len({at for at in instants if at // 1000 == second}) for second in {at // 1000 for at in instants}
    )
    assert len(tiles) <= INSTANTS_MAX + crowded + SECONDS_MAX + second_in_hop + hops_kept
    assert len(raw) < 100_000

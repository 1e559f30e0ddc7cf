"""Where instants, seconds and hops begin."""

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import tile_layout
from streams.resolutions import Resolutions
from streams.tile_layout import NEVER

HOP_MS = 10_000
LIMITS = Resolutions(HOP_MS, instants_from_ms=65_000, seconds_from_ms=30_000)
times = st.integers(0, 200_000)


@pytest.mark.parametrize(
    ("time_ms", "start_ms", "last_ms"),
    [
        (29_999, 20_000, 29_999),
        (30_000, 30_000, 30_999),
        (64_321, 64_000, 64_999),
        (65_000, 65_000, 65_000),
        (70_123, 70_123, 70_123),
    ],
)
def test_a_tile_is_a_hop_then_a_second_then_an_instant(time_ms: int, start_ms: int, last_ms: int) -> None:
    assert LIMITS.start_of(time_ms) == start_ms
    assert LIMITS.last_of(start_ms) == last_ms


@given(times)
def test_an_event_lies_in_its_tile(time_ms: int) -> None:
    start_ms = LIMITS.start_of(time_ms)
    assert start_ms <= time_ms <= LIMITS.last_of(start_ms)


def test_without_limits_every_tile_is_an_instant() -> None:
    assert Resolutions(HOP_MS).start_of(12_345) == 12_345


@given(st.sets(times, min_size=1, max_size=30))
def test_limits_leave_at_least_the_declared_numbers_of_instants_and_seconds(starts: set[int]) -> None:
    """And without tiles to merge they do not change."""
    ordered = sorted(starts)
    with mock.patch.object(tile_layout, "INSTANTS_MAX", 4), mock.patch.object(tile_layout, "SECONDS_MAX", 6):
        raised = Resolutions(HOP_MS).raised(ordered)
    if len(ordered) < 4:
        assert raised == Resolutions(HOP_MS)
        return
    assert raised.instants_from_ms % 1000 == 0
    assert len([start for start in ordered if start >= raised.instants_from_ms]) >= 4
    if raised.seconds_from_ms != NEVER:
        assert raised.seconds_from_ms % HOP_MS == 0
        assert len({start // 1000 for start in ordered if start >= raised.seconds_from_ms}) >= 6


@given(st.sets(times, min_size=1, max_size=20), st.sets(times, min_size=1, max_size=20))
def test_more_tiles_only_raise_the_limits(first: set[int], more: set[int]) -> None:
    with mock.patch.object(tile_layout, "INSTANTS_MAX", 4), mock.patch.object(tile_layout, "SECONDS_MAX", 6):
        before = Resolutions(HOP_MS).raised(sorted(first))
        after = before.raised(sorted(first | more))
    assert after.instants_from_ms >= before.instants_from_ms
    assert after.seconds_from_ms >= before.seconds_from_ms


def test_the_coarser_limits_count_where_two_states_are_merged() -> None:
    other = Resolutions(HOP_MS, instants_from_ms=60_000, seconds_from_ms=40_000)
    merged = LIMITS.merged(other)
    assert merged == other.merged(LIMITS) == Resolutions(HOP_MS, 65_000, 40_000)


def test_limits_before_the_oldest_tile_are_forgotten() -> None:
    assert LIMITS.without_limits_before(30_000) is LIMITS
    assert LIMITS.without_limits_before(30_001) == Resolutions(HOP_MS, instants_from_ms=65_000)
    assert LIMITS.without_limits_before(70_000) == Resolutions(HOP_MS)

"""Which time each kind of window covers."""

import math

import numpy as np
import pytest

from streams import spans
from streams.spans import WindowChange
from tests.property.definition import Aggregation

HOP_MS = 10_000


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Aggregation("x", "sum", 60_000), (40_000, 105_001)),
        (Aggregation("x", "sum", 60_000, slide_ms=20_000), (40_000, 100_000)),
        (Aggregation("x", "sum", 60_000, slide_ms=60_000), (0, 60_000)),
        (Aggregation("x", "sum", 60_000, gap_ms=15_000), (40_000, 105_001)),
    ],
    ids=["sliding", "hopping", "tumbling", "session"],
)
def test_a_window_covers_a_half_open_range(window: Aggregation, expected: tuple[int, int]) -> None:
    """A sliding window includes its own time, and its tail is rounded down to a tile."""
    assert spans.covered(window, HOP_MS, 105_000) == expected
    first_ms, end_ms = spans.covered(window, HOP_MS, np.array([105_000, 105_000]))
    assert list(zip(first_ms.tolist(), end_ms.tolist(), strict=True)) == [expected] * 2


def test_a_whole_life_begins_before_every_event_and_ends_with_the_value_or_the_last_slide() -> None:
    first_ms, end_ms = spans.covered(Aggregation("x", "sum", 0), HOP_MS, 105_000)
    assert first_ms < -(2**61)
    assert end_ms == 105_001
    assert spans.covered(Aggregation("x", "sum", 0, slide_ms=20_000), HOP_MS, 105_000)[1] == 100_000


def test_a_slide_and_a_previous_window_reach_further_back() -> None:
    assert spans.reach_ms(Aggregation("x", "sum", 60_000), HOP_MS) == 60_000
    assert spans.reach_ms(Aggregation("x", "sum", 60_000, slide_ms=20_000), HOP_MS) == 80_000
    faster = Aggregation("x", "sum", 60_000, change=WindowChange.RATIO)
    assert spans.reach_ms(faster, HOP_MS) == 130_000


def test_a_change_needs_both_windows_and_a_ratio_a_divisor() -> None:
    now, previous = np.array([3.0, 3.0, math.nan, 3.0]), np.array([2.0, 0.0, 2.0, math.nan])
    difference = spans.changed(WindowChange.DIFFERENCE, now, previous)
    np.testing.assert_array_equal(difference, [1, 3, math.nan, math.nan])
    ratio = spans.changed(WindowChange.RATIO, now, previous)
    np.testing.assert_array_equal(ratio, [1.5, math.nan, math.nan, math.nan])


@pytest.mark.parametrize(("time_ms", "floor_ms"), [(19_999, 10_000), (20_000, 20_000), (-1, -10_000)])
def test_times_are_rounded_down_also_before_the_epoch(time_ms: int, floor_ms: int) -> None:
    assert spans.floor(time_ms, HOP_MS) == floor_ms


def test_an_event_enters_a_sliding_window_at_once_and_leaves_it_with_its_tile() -> None:
    window = Aggregation("x", "sum", 60_000)
    assert spans.moments_ms(window, HOP_MS, np.array([12_345])).tolist() == [12_345, 80_000]

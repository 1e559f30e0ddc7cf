"""When a source partition is idle, and the heartbeats that are due."""

import pytest

from services.features.idle_partitions import IdleDetector, heartbeats_due
from services.runtime.watermarks import NEVER


def test_partition_is_idle_if_its_log_has_not_grown_for_the_idle_time() -> None:
    detector = IdleDetector(5_000)
    assert detector.idle({0: 10, 1: 0}, 100_000) == set()
    assert detector.idle({0: 11, 1: 0}, 104_999) == set()
    assert detector.idle({0: 11, 1: 0}, 105_000) == {1}
    assert detector.idle({0: 11, 1: 0}, 109_999) == {0, 1}
    assert detector.idle({0: 11, 1: 1}, 110_000) == {0}


def test_own_heartbeat_is_not_growth_but_another_record_is() -> None:
    detector = IdleDetector(5_000)
    detector.idle({0: 7}, 0)
    detector.expect_heartbeat(0)
    assert detector.idle({0: 8}, 5_000) == {0}
    detector.expect_heartbeat(0)
    assert detector.idle({0: 10}, 6_000) == set()


@pytest.mark.parametrize(
    ("watermarks_ms", "idle", "expected"),
    [
        ({0: 50, 1: 10, 2: 40}, set(), {}),
        ({0: 50, 1: 10, 2: 40}, {1}, {1: 40}),
        ({0: 50, 2: 40}, {1}, {1: 40}),
        ({0: 50, 1: 60, 2: 40}, {1}, {}),
        ({0: 50, 1: 10}, {1}, {}),
        ({0: 50, 1: 10}, {0, 1, 2}, {1: 50, 2: 50}),
        ({}, {0, 1, 2}, {}),
        ({0: NEVER, 1: 20, 2: 20}, {1, 2}, {}),
    ],
)
def test_heartbeat_follows_the_lowest_active_watermark_or_the_highest_if_all_are_idle(
    watermarks_ms: dict[int, int], idle: set[int], expected: dict[int, int]
) -> None:
    assert heartbeats_due(watermarks_ms, idle, 3, idle_ms=5, now_ms=1_000) == expected


def test_fast_clock_moves_no_idle_partition_ahead_of_the_wall_time() -> None:
    """One event of a device whose clock is 59 s ahead, then silence in all partitions for 5 s."""
    fast, now_ms = {0: 100_000, 1: 159_000}, 105_000
    assert heartbeats_due(fast, {0, 1}, 2, idle_ms=5_000, now_ms=now_ms) == {}
    assert heartbeats_due(fast, {0, 1}, 2, idle_ms=5_000, now_ms=now_ms + 1_000) == {0: 101_000}
    assert heartbeats_due(fast, {0}, 2, idle_ms=5_000, now_ms=now_ms) == {0: now_ms}

import pytest

from services.demo import pace
from services.demo.pace import HOUR_MS, MINUTE_MS, Permission, SpeedClock


def test_tick_is_permitted_up_to_the_lead_ahead_of_the_watermark() -> None:
    permission = Permission(watermark_ms=10 * HOUR_MS)
    assert permission.allows(16 * HOUR_MS, lead_ms=6 * HOUR_MS)
    assert not permission.allows(16 * HOUR_MS + 1, lead_ms=6 * HOUR_MS)


def test_event_time_is_stopped_while_a_retraining_is_open() -> None:
    permission = Permission(watermark_ms=10 * HOUR_MS, retrainings_open=1)
    assert not permission.allows(10 * HOUR_MS, lead_ms=6 * HOUR_MS)


@pytest.mark.parametrize(
    ("wanted_hours", "effective_after_hours", "expected_hours"),
    [(None, 6, 6), (None, 72, 48), (2, 6, 2), (12, 6, 6), (None, 0, 0.5)],
)
def test_lead_never_exceeds_the_delay_of_new_models(
    wanted_hours: float | None, effective_after_hours: float, expected_hours: float
) -> None:
    assert pace.lead_ms(wanted_hours, effective_after_hours) == expected_hours * HOUR_MS


@pytest.mark.parametrize(
    ("speed", "expected_ms"),
    [(None, 12 * HOUR_MS), (1.0, 1000), (3600.0, 3 * MINUTE_MS), (86_400.0, 30 * MINUTE_MS)],
)
def test_ticks_are_small_at_low_speed_and_bounded_at_high_speed(speed: float, expected_ms: int) -> None:
    assert pace.tick_ms(speed, pace.DAY_MS) == expected_ms


def test_ticks_are_aligned_and_stop_at_the_milestone() -> None:
    assert pace.tick_end_ms(5, 100, milestone_ms=1000) == 100
    assert pace.tick_end_ms(100, 100, milestone_ms=1000) == 200
    assert pace.tick_end_ms(100, 100, milestone_ms=150) == 150


def test_closing_ends_one_window_after_the_last_label_horizon() -> None:
    day = pace.DAY_MS
    end_ms = pace.closing_end_ms(until_ms=10 * day + 5 * HOUR_MS, horizon_ms=2 * day, window_ms=day)
    assert end_ms == 14 * day


def test_speed_clock_waits_until_an_event_time_is_due() -> None:
    clock = SpeedClock(speed=3600.0, anchor_event_ms=0, anchor_wall_seconds=100.0)
    assert clock.wait_seconds(2 * HOUR_MS, wall_seconds=100.5) == pytest.approx(1.5)
    assert clock.wait_seconds(2 * HOUR_MS, wall_seconds=103.0) == 0.0
    assert clock.overdue_seconds(2 * HOUR_MS, wall_seconds=103.0) == pytest.approx(1.0)

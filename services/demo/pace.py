"""How far event time may advance: decisions only, no clock and no client.

Three rules, each of which can only delay:

1. **Lead.** A tick is played only when its end is at most the lead ahead of what drift has fully processed.
   The lead is at most the declared delay before a new version takes effect, so no request is sent too early
   for the version that must answer it.
2. **Hold.** While a requested retraining has not finished, event time is stopped: in reality a retraining
   takes minutes, not months.
3. **Speed.** With a given speed, a tick is played when the wall clock has reached its end.
"""

import dataclasses

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
DAY_MS = 24 * HOUR_MS

LEAD_MS_MAX = 2 * DAY_MS
"""Maximum lead; a feature's state reaches back two days (`streams.tile_layout.SLACK_MS`)."""
TICK_MS_MAX = 30 * MINUTE_MS
"""Maximum tick at a given speed. Heartbeats are sent once per tick, so watermarks lag by this at most."""
_TICK_MS_MIN = 1000
_TICKS_A_SECOND = 20
"""Ticks per second at a given speed: enough for a smooth page, and few enough to cost nothing."""


@dataclasses.dataclass(frozen=True)
class Permission:
    """The state when the watermark was last read."""

    watermark_ms: int
    """Drift has processed everything up to this time, and its retraining requests were read."""
    retrainings_open: int = 0

    def allows(self, tick_end_ms: int, lead_ms: int) -> bool:
        """Tell whether a tick with this end may be played."""
        return self.retrainings_open == 0 and tick_end_ms <= self.watermark_ms + lead_ms


@dataclasses.dataclass(frozen=True)
class SpeedClock:
    """Event time by wall time, from an anchor on.

    After a hold it is replaced by a clock with a new anchor, so that event time does not jump.
    """

    speed: float
    """Event seconds per second."""
    anchor_event_ms: int
    anchor_wall_seconds: float

    def overdue_seconds(self, event_ms: int, wall_seconds: float) -> float:
        """Return how long ago an event time was due; negative if it is not due yet."""
        return wall_seconds - self.anchor_wall_seconds - (event_ms - self.anchor_event_ms) / 1000 / self.speed

    def wait_seconds(self, event_ms: int, wall_seconds: float) -> float:
        """Return how long to wait until an event time is due; 0 if it is overdue."""
        return max(0.0, -self.overdue_seconds(event_ms, wall_seconds))


def lead_ms(wanted_hours: float | None, effective_after_hours: float) -> int:
    """Return the lead: the wanted one, but at most the delay after which new versions take effect.

    A model without a delay takes effect at once. A replay could follow this only with no lead. It then gets
    one tick, and the result may differ by the requests of that tick.
    """
    lead = LEAD_MS_MAX if wanted_hours is None else round(wanted_hours * HOUR_MS)
    return max(min(lead, round(effective_after_hours * HOUR_MS), LEAD_MS_MAX), TICK_MS_MAX)


def tick_ms(speed: float | None, lead: int) -> int:
    """Return the length of a tick in event time.

    Without a speed it is half the lead, so that one tick is processed while the next is sent. Each tick costs
    every process one slice per partition, for ten events as for a thousand.

    >>> tick_ms(None, DAY_MS) // HOUR_MS, tick_ms(3600.0, DAY_MS) // MINUTE_MS
    (12, 3)
    """
    if speed is None:
        return max(lead // 2, TICK_MS_MAX)
    return min(max(round(speed * 1000 / _TICKS_A_SECOND), _TICK_MS_MIN), TICK_MS_MAX)


def tick_end_ms(position_ms: int, length_ms: int, milestone_ms: int) -> int:
    """Return the end of the tick that starts here: a multiple of its length, or an earlier milestone."""
    return min((position_ms // length_ms + 1) * length_ms, milestone_ms)


def closing_end_ms(until_ms: int, horizon_ms: int, window_ms: int) -> int:
    """Return up to when heartbeats must be sent so that every window closes and every label horizon passes.

    Windows are aligned to multiples of their length; one more window follows the last horizon.
    """
    horizon_end = until_ms + horizon_ms
    return (horizon_end // window_ms + 2) * window_ms

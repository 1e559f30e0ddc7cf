"""How far event time may run: decisions only, no clock and no client.

Three rules, each of which only ever delays:

1. **Lead.** A tick is played only when its end is at most the lead ahead of what drift has fully
   processed. The lead is at most the declared delay before a new model takes effect, so no request was
   played that should have met the new model.
2. **Hold.** While a retraining was requested and has not finished, event time stands still: in life
   it takes minutes, not months.
3. **Speed.** With a speed, a tick's end is played when the wall clock has come to it.
"""

import dataclasses

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
DAY_MS = 24 * HOUR_MS

LEAD_MS_MAX = 2 * DAY_MS
"""The state of a feature reaches two days behind its newest event (`streams.tile_layout.SLACK_MS`)."""
TICK_MS_MAX = 30 * MINUTE_MS
"""At a given speed. Heartbeats come once a tick: watermarks are at most this far behind what was sent."""
_TICK_MS_MIN = 1000
_TICKS_A_SECOND = 20
"""At a given speed: enough that the page looks smooth, few enough that ticks cost nothing."""


@dataclasses.dataclass(frozen=True)
class Permission:
    """What was known when the watermark was last read."""

    watermark_ms: int
    """Drift has fully processed everything up to here, and its requests for retraining were read."""
    retrainings_open: int = 0

    def allows(self, tick_end_ms: int, lead_ms: int) -> bool:
        """Tell whether a tick with this end may be played."""
        return self.retrainings_open == 0 and tick_end_ms <= self.watermark_ms + lead_ms


@dataclasses.dataclass(frozen=True)
class SpeedClock:
    """Event time against wall time from an anchor on.

    After a hold it is replaced by one with a new anchor, so that nothing is caught up in a leap.
    """

    speed: float
    """Event seconds in a second."""
    anchor_event_ms: int
    anchor_wall_seconds: float

    def overdue_seconds(self, event_ms: int, wall_seconds: float) -> float:
        """Return how long ago an event time was due; negative while it is not."""
        return wall_seconds - self.anchor_wall_seconds - (event_ms - self.anchor_event_ms) / 1000 / self.speed

    def wait_seconds(self, event_ms: int, wall_seconds: float) -> float:
        """Return how long to wait until an event time is due; 0 when it is overdue."""
        return max(0.0, -self.overdue_seconds(event_ms, wall_seconds))


def lead_ms(wanted_hours: float | None, effective_after_hours: float) -> int:
    """Return the lead: what was wanted, but never beyond the delay with which new models take effect.

    A model that declares no delay takes effect at once, which a replay can only follow with no lead:
    it then gets one tick, and the outcome may differ by the requests of that tick.
    """
    lead = LEAD_MS_MAX if wanted_hours is None else round(wanted_hours * HOUR_MS)
    return max(min(lead, round(effective_after_hours * HOUR_MS), LEAD_MS_MAX), TICK_MS_MAX)


def tick_ms(speed: float | None, lead: int) -> int:
    """Return the length of a tick in event time.

    Without a speed it is half the lead, so that one tick is processed while the next is sent: each tick
    costs every process a slice for each partition, whether it holds ten events or a thousand.

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
    """Return how far heartbeats must go so that every window closes and every label horizon passes.

    Windows are aligned to multiples of their length; one more lies behind the last horizon.
    """
    horizon_end = until_ms + horizon_ms
    return (horizon_end // window_ms + 2) * window_ms

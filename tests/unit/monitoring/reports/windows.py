"""Windows of an hour, from the drift engine: no drift at first, then a shift that raises the loss."""

import functools

from services.monitoring.reports.history import WindowHistory, WindowReport
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS


@functools.cache
def history() -> WindowHistory:
    """Return 20 hours without drift, then 10 hours with a shift that raises the loss."""
    outputs = scenario.play(scenario.new_engine(partitions=2), scenario.traffic(30, shift_at=20, a_hour=200))
    windows = WindowHistory()
    for record in outputs.drift:
        windows.add(record)
    return windows


def at(hour: int) -> WindowReport:
    """Return the window of an hour."""
    return history().window(START_MS + hour * HOUR_MS)

"""Measured durations of model calls: a model that is fast enough is called in the event loop itself.

A thread costs two hand-overs of Python's lock (GIL) and the wake-up of another core, which is more than a
linear model takes for a row. But while the event loop calls a model, the process serves nothing else. So a
model must first prove on a thread that it is fast, for each magnitude of rows. On a thread, the time it waits
for the GIL would count against it, and other threads hold the GIL longer the busier the process is. So CPU
time counts there, unless the whole call is slow. In the event loop, elapsed time counts.

The bound on any model: at most one call in `SLOW_CALLS` blocks the event loop longer than `SLOW_SECONDS`, and
at most one in `LATE_CALLS` longer than `QUICK_SECONDS`.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator

QUICK_SECONDS = 0.001
"""Maximum duration of a call in the event loop; less than the loop spends on a slice anyway."""
SLOW_SECONDS = 0.01
"""A call that takes longer is slow."""
TRIALS, LATE_CALLS, SLOW_CALLS = 20, 5, 200
"""Quick calls required before a model is called in the event loop: at first, after a call longer than
`QUICK_SECONDS`, and after one longer than `SLOW_SECONDS`. Any call may be late on an overloaded machine, so a
single late call must not decide."""


class CallTiming:
    """The measured calls of one loaded version."""

    def __init__(
        self,
        elapsed_clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """Start with all trials due. Both clocks return seconds, ``cpu_clock`` those of its thread."""
        self._elapsed_clock = elapsed_clock
        self._cpu_clock = cpu_clock
        self._trials_left: collections.defaultdict[int, int] = collections.defaultdict(lambda: TRIALS)
        """Quick calls still required, by magnitude of rows; there are some twenty magnitudes."""

    def is_quick(self, rows: int) -> bool:
        """Return whether a call with this number of rows may run in the event loop."""
        return self._trials_left[rows.bit_length()] <= 0

    @contextlib.contextmanager
    def measured(self, rows: int, *, in_loop: bool) -> Iterator[None]:
        """Measure and record the call made in this block."""
        start, cpu_start = self._elapsed_clock(), 0.0 if in_loop else self._cpu_clock()
        try:
            yield
        finally:
            seconds = self._elapsed_clock() - start
            if not in_loop and seconds <= SLOW_SECONDS:
                seconds = self._cpu_clock() - cpu_start
            self.record(rows, seconds)

    def record(self, rows: int, seconds: float) -> None:
        """Record the duration of a call."""
        magnitude = rows.bit_length()
        left = self._trials_left[magnitude]
        if seconds > SLOW_SECONDS:
            self._trials_left[magnitude] = SLOW_CALLS
        elif seconds > QUICK_SECONDS:
            self._trials_left[magnitude] = max(left, min(left + LATE_CALLS, TRIALS))
        elif left > 0:
            self._trials_left[magnitude] = left - 1

"""How quick a model is, as measured: a call that ends at once may be made in the event loop itself.

A thread costs two hand-overs of Python's lock and the waking of another core: more than a linear model takes
for a row. But while the loop calls a model, nothing else of the process is answered, so a model has to
prove itself first, on a thread, for each magnitude of rows. There the time that it waits for Python's lock
would count against it, which others hold the more the busier the process is; so what counts is the
processor's time, as long as the whole call is not slow. In the loop every moment counts.
The bound, whatever it does: one call in `SLOW_CALLS` holds up others for longer than `SLOW_SECONDS`, one in
`LATE_CALLS` for longer than `QUICK_SECONDS`.
"""

import collections
import contextlib
import time
from collections.abc import Iterator

QUICK_SECONDS = 0.001
"""What a call may take in the event loop: below what a slice takes there anyway."""
SLOW_SECONDS = 0.01
TRIALS, LATE_CALLS, SLOW_CALLS = 20, 5, 200
"""Quick calls that are due before one is trusted: at first, after one that was not quick, after a slow one.
On a machine that does too much at once any call may be late, so one alone must not decide."""


class Pace:
    """The measured calls of one loaded version."""

    def __init__(self) -> None:
        """Trust nothing yet."""
        self._trials_left: collections.defaultdict[int, int] = collections.defaultdict(lambda: TRIALS)
        """By the magnitude of rows: quick calls that are due; there are some twenty magnitudes."""

    def is_quick(self, rows: int) -> bool:
        """Tell whether a call with so many rows may be made in the event loop."""
        return self._trials_left[rows.bit_length()] <= 0

    @contextlib.contextmanager
    def noted(self, rows: int, *, in_loop: bool) -> Iterator[None]:
        """Take note of the call made in this block."""
        began, worked = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            if not in_loop and seconds <= SLOW_SECONDS:
                seconds = time.thread_time() - worked
            self.note(rows, seconds)

    def note(self, rows: int, seconds: float) -> None:
        """Take note of a call."""
        magnitude = rows.bit_length()
        left = self._trials_left[magnitude]
        if seconds > SLOW_SECONDS:
            self._trials_left[magnitude] = SLOW_CALLS
        elif seconds > QUICK_SECONDS:
            self._trials_left[magnitude] = max(left, min(left + LATE_CALLS, TRIALS))
        elif left > 0:
            self._trials_left[magnitude] = left - 1

"""How quick a model is, as measured: a call that ends at once may be made in the event loop itself.

A thread costs two hand-overs of Python's lock and the waking of another core: more than a linear model takes
for a row. But while the loop calls a model, nothing else of the process is answered, so a model has to
prove itself first, on a thread, for each magnitude of rows. The bound: a call longer than `SLOW_SECONDS`
holds up others at most once in `BANNED_CALLS` calls, whatever the model does.
"""

import collections
import contextlib
import time
from collections.abc import Iterator

QUICK_SECONDS = 0.001
"""What a call may take in the event loop: below what a slice takes there anyway."""
TRIALS = 20
"""Quick calls in a row after which the next one is trusted to be as quick."""
SLOW_SECONDS = 0.01
BANNED_CALLS = 2000


class Pace:
    """The measured calls of one loaded version."""

    def __init__(self) -> None:
        """Trust nothing yet."""
        self._trials_left: collections.defaultdict[int, int] = collections.defaultdict(lambda: TRIALS)
        """By the magnitude of rows: quick calls until one is trusted; there are some twenty magnitudes."""

    def is_quick(self, rows: int) -> bool:
        """Tell whether a call with so many rows may be made in the event loop."""
        return self._trials_left[rows.bit_length()] <= 0

    @contextlib.contextmanager
    def noted(self, rows: int) -> Iterator[None]:
        """Take note of the call made in this block, wherever that is."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.note(rows, time.perf_counter() - began)

    def note(self, rows: int, seconds: float) -> None:
        """Take note of a call."""
        magnitude = rows.bit_length()
        if seconds > SLOW_SECONDS:
            self._trials_left[magnitude] = BANNED_CALLS
        elif seconds > QUICK_SECONDS:
            self._trials_left[magnitude] = max(TRIALS, self._trials_left[magnitude])
        elif self._trials_left[magnitude] > 0:
            self._trials_left[magnitude] -= 1

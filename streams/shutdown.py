"""The maximum time that a process takes to stop."""

import os
import threading

STOP_SECONDS = 8.0
"""Time after which a stop is forced, within the promised 10 s; uncommitted work is repeated, not lost."""


def exit_within_bounds(code: int = 0, seconds: float = STOP_SECONDS + 1) -> None:
    """End this process after a bounded time: clients may wait for a broker without a limit."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()

"""How long a process takes to end at most."""

import os
import threading

STOP_SECONDS = 8.0
"""After this, a stop is forced: within the 10 s that we promise, and nothing uncommitted is lost by it."""


def exit_within_bounds(code: int = 0, seconds: float = STOP_SECONDS + 1) -> None:
    """End this process soon, whatever it still waits for: clients have waited for ever for a broker."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()

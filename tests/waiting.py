"""How tests wait for what happens elsewhere: they look until it is so, and fail when it takes too long."""

import time
from collections.abc import Callable

LOOK_SECONDS = 0.05


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait for a condition of another process or server; ``what`` says in a few words what it is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(LOOK_SECONDS)

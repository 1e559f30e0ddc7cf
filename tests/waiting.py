"""How tests wait for what another process or server does: they look until it has happened."""

import time
from collections.abc import Callable

LOOK_SECONDS = 0.05
LIVENESS_SECONDS = 420.0
"""Maximum wait for anything that must happen. It finds what hangs and says nothing about speed, which depends
on the machine and its load, and which bench/ measures."""


def until(
    condition: Callable[[], bool],
    what: str,
    seconds: float = LIVENESS_SECONDS,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Wait until a condition holds; fail after ``seconds``.

    ``what`` names the condition; ``check`` raises as soon as it can no longer hold.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        check()
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(LOOK_SECONDS)

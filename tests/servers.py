"""A server that a test may kill and start again in its place."""

import signal
from collections.abc import Callable

from services.embedded.supervisor import Child, Supervisor


class Server:
    """One server with its data; ready when this is made.

    Args:
        supervisor: Watches the server.
        launch: Starts it, each time with the same data and the same port.
        ready_seconds_max: After which it must be ready.
    """

    def __init__(
        self, supervisor: Supervisor, launch: Callable[[], Child], *, ready_seconds_max: float
    ) -> None:
        self._supervisor = supervisor
        self._launch = launch
        self._ready_seconds_max = ready_seconds_max
        self.start()

    def start(self) -> None:
        self._child = self._launch()
        self._supervisor.wait_ready(self._child, seconds=self._ready_seconds_max)

    def kill(self) -> None:
        """End it with SIGKILL, now."""
        self._supervisor.forget(self._child)
        self._child.signal(signal.SIGKILL)
        self._child.wait(10)

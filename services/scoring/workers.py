"""Several workers behind one port: a parent that starts them, replaces those that end, and ends with them.

Each worker is the whole scoring process: it listens on the port with ``SO_REUSEPORT``, so that the kernel
divides new connections among the workers, and is a member of the models' consumer groups. A worker listens
once its models are ready; so while one is replaced, the others get all connections.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import structlog
from prometheus_client import multiprocess

log = structlog.get_logger()

LOOK_SECONDS = 0.2
RESTART_SECONDS = 1.0
"""Least time between two starts of a worker: one that ends at once must not keep the machine busy."""
END_SECONDS_MAX = 9.5
"""Between SIGTERM and SIGKILL; each worker ends within less (`services.runtime.async_process`)."""


def run(count: int) -> None:
    """Keep so many workers running until SIGINT or SIGTERM."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopping.set())
    with tempfile.TemporaryDirectory(prefix="driftline-metrics-") as folder:
        workers = [Worker(number, count, Path(folder)) for number in range(count)]
        log.info("workers.started", count=count)
        while not stopping.wait(LOOK_SECONDS):
            for worker in workers:
                worker.look()
        stop(workers)


def stop(workers: "list[Worker]") -> None:
    """End all workers: ask, wait, kill."""
    deadline = time.monotonic() + END_SECONDS_MAX
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


class Worker:
    """One of them, and whatever takes its place."""

    def __init__(self, number: int, count: int, metrics: Path) -> None:
        """Start one of so many; its metrics are files in a folder of all."""
        self._number = number
        self._count = count
        self._metrics = metrics
        self.process = self._start()

    def look(self) -> None:
        """Start it again if it has ended."""
        code = self.process.poll()
        if code is None or time.monotonic() - self._started_seconds < RESTART_SECONDS:
            return
        log.error("worker.ended", worker=self._number, pid=self.process.pid, code=code)
        multiprocess.mark_process_dead(self.process.pid, str(self._metrics))  # type: ignore[no-untyped-call]  # has no types
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_seconds = time.monotonic()
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._metrics)}
        place = [str(os.getpid()), str(self._count)]
        command = [sys.executable, "-m", "services.scoring.process", *place]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)  # noqa: S603  # our own

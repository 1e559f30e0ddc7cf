"""Several worker processes on one port, and a parent that starts, replaces and stops them.

Each worker is the whole scoring process: it listens on the port with ``SO_REUSEPORT``, so that the kernel
divides new connections among the workers, and it is a member of the models' consumer groups. A worker listens
when its models are ready, so the others get all connections while one is replaced.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from prometheus_client import multiprocess

from services.runtime import blocking_process

log = structlog.get_logger()

CHECK_SECONDS = 0.2
"""Time between two checks for workers that have exited."""
RESTART_SECONDS = 1.0
"""Minimum time between two starts of a worker: one that exits at once must not keep the machine busy."""
STOP_SECONDS_MAX = 9.5
"""Time between SIGTERM and SIGKILL; a worker shuts down in less (`services.runtime.async_process`)."""


def run(count: int) -> None:
    """Keep ``count`` workers running until SIGINT or SIGTERM."""
    stopping = blocking_process.stop_event()
    with tempfile.TemporaryDirectory(prefix="driftline-metrics-") as folder:
        workers = [Worker(number, count, Path(folder)) for number in range(count)]
        log.info("workers.started", count=count)
        while not stopping.wait(CHECK_SECONDS):
            for worker in workers:
                worker.restart_if_ended()
        stop(workers)


def stop(workers: "Sequence[Worker]") -> None:
    """Stop all workers: by SIGTERM, and after `STOP_SECONDS_MAX` by SIGKILL."""
    deadline = time.monotonic() + STOP_SECONDS_MAX
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


class Worker:
    """One worker process and its replacements."""

    def __init__(
        self,
        number: int,
        count: int,
        metrics: Path,
        *,
        start: Callable[..., "subprocess.Popen[bytes]"] = subprocess.Popen,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start worker ``number`` of ``count``; all write their metrics to files in one folder."""
        self._number = number
        self._count = count
        self._metrics = metrics
        self._start_process = start
        self._clock = clock
        self.process = self._start()

    def restart_if_ended(self) -> None:
        """Start the worker again if its process has exited."""
        code = self.process.poll()
        if code is None or self._clock() - self._started_seconds < RESTART_SECONDS:
            return
        log.error("worker.ended", worker=self._number, pid=self.process.pid, code=code)
        multiprocess.mark_process_dead(self.process.pid, str(self._metrics))
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_seconds = self._clock()
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._metrics)}
        arguments = [str(os.getpid()), str(self._count)]
        # Not with -m: the process that loads versions would import the worker's main module again.
        code = "from services.scoring import process; process.serve_as_worker()"
        command = [sys.executable, "-c", code, *arguments]
        return self._start_process(command, stdin=subprocess.DEVNULL, env=environment)

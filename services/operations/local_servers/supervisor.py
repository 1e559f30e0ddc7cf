"""Child processes: start, wait for readiness, notice a death, stop all of them and their descendants."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Self

from services.operations.local_servers import guard

POLL_SECONDS = 0.05
GUARD_SECONDS_MAX = 4.0
"""Maximum time of a guard to kill remaining processes: ten times its need, for a machine that swaps."""
LOG_TAIL_BYTES = 3000


def inherited() -> dict[str, str]:
    """Return the environment for a child: this process's own, without what Feast adds to it when imported.

    That is a folder in which prometheus_client keeps the metrics of many processes: each would tell those of
    all.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("PROMETHEUS_MULTIPROC")}


class SupervisorError(Exception):
    """A child process failed. The message has the end of its log."""


class ChildDiedError(SupervisorError):
    """A child ended by itself."""


class NotReadyError(SupervisorError):
    """A child was not ready within its time."""


@dataclass(frozen=True)
class Launch:
    """A command to start, and a check whether it is ready."""

    name: str
    command: Sequence[str]
    log: Path
    """File for standard output and standard error; emptied at the start."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables added to the environment of the calling process."""
    ready: Callable[[], bool] = lambda: True
    """Called often; returns within a second and raises nothing."""


class Child:
    """One process that a `Supervisor` started."""

    def __init__(self, launch: Launch, process: subprocess.Popen[bytes]) -> None:
        self.launch = launch
        self.process = process

    @property
    def name(self) -> str:
        """The name under which it was started."""
        return self.launch.name

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the number of the signal that ended it."""
        return self.process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the process itself; nothing happens if it has ended."""
        self.process.send_signal(number)

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; return the exit code, or None if it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(seconds, 0))
        return self.exit_code

    def log_tail(self) -> str:
        """Return the end of its log, for people."""
        try:
            with self.launch.log.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(log.tell() - LOG_TAIL_BYTES, 0))
                text = log.read().decode(errors="replace").strip()
        except OSError as error:
            text = f"(no log: {error})"
        return f"--- the end of {self.launch.log}\n{text or '(empty)'}\n---"


class Supervisor:
    """Processes that are stopped together. To stop some before others, nest two supervisors.

    The children are stopped with the block. If this process dies without stopping them, even by
    ``kill -9``, their guard kills them and all their descendants. To be used from one thread. A process
    that uses ``multiprocessing`` with fork keeps the guard waiting until the forked ones have ended.
    """

    def __init__(self, stop_seconds: float = 8.0, hold: Sequence[int] = ()) -> None:
        """Make a supervisor.

        Args:
            stop_seconds: Time for all children together between SIGTERM and SIGKILL.
            hold: File descriptors that stay open until the last descendant is gone, for locks.
        """
        self.children: list[Child] = []
        self._stop_seconds = stop_seconds
        self._hold = tuple(hold)
        self.mark = uuid.uuid4().hex
        """A variable in the environment of all descendants and of no other process, for `guard.marked`."""
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, launch: Launch) -> Child:
        """Start a process in a separate session, so that Ctrl-C reaches it only through us."""
        self._ensure_guard()
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        marks = f"{os.environ.get(guard.VARIABLE, '')} {self.mark}".strip()
        with launch.log.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603  # the commands are our own
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**inherited(), **launch.environment, guard.VARIABLE: marks},
                start_new_session=True,
            )
        child = Child(launch, process)
        self.children.append(child)
        return child

    def run(self, launch: Launch, seconds: float) -> None:
        """Run a process to its end; raise `SupervisorError` if it fails or takes longer."""
        child = self.start(launch)
        code = child.wait(seconds)
        if code is None:
            child.signal(signal.SIGKILL)
            child.wait(GUARD_SECONDS_MAX)
        self.children.remove(child)
        if code is None:
            raise NotReadyError(f"{child.name} did not end within {seconds:.0f} s\n{child.log_tail()}")
        if code != 0:
            raise ChildDiedError(f"{child.name} failed ({_describe(code)})\n{child.log_tail()}")

    def wait_ready(self, *children: Child, seconds: float) -> None:
        """Wait until all given children are ready; raise as soon as one has ended."""
        deadline = time.monotonic() + seconds
        waiting = list(children)
        while waiting:
            self.check()
            waiting = [child for child in waiting if not child.launch.ready()]
            if waiting and time.monotonic() > deadline:
                names = ", ".join(child.name for child in waiting)
                tails = "\n".join(child.log_tail() for child in waiting)
                raise NotReadyError(f"not ready within {seconds:.0f} s: {names}\n{tails}")
            if waiting:
                time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raise `ChildDiedError` if a child has ended by itself. Cheap: call it in every waiting loop."""
        if self.children:
            self._ensure_guard()
        for child in self.children:
            if (code := child.exit_code) is not None:
                raise ChildDiedError(f"{child.name} ended ({_describe(code)})\n{child.log_tail()}")

    def forget(self, child: Child) -> None:
        """Stop watching a child that is expected to end; it is still killed with the others."""
        self.children.remove(child)

    def stop(self) -> None:
        """End all children: SIGTERM in reverse order, a bounded wait for all, SIGKILL, then the descendants.

        Returns within ``stop_seconds`` plus a few seconds at the worst. May be called again.
        """
        deadline = time.monotonic() + self._stop_seconds
        try:
            for child in reversed(self.children):
                child.signal(signal.SIGTERM)
                child.signal(signal.SIGCONT)  # a suspended process could not act on the other
            for child in reversed(self.children):
                child.wait(deadline - time.monotonic())
        finally:  # also when a second Ctrl-C cuts the wait short
            for child in self.children:
                child.signal(signal.SIGKILL)
            for child in self.children:
                child.wait(GUARD_SECONDS_MAX)
            self.children.clear()
            self._dismiss_guard()

    @property
    def guard_pid(self) -> int | None:
        """The process id of the guard, None while nothing has been started or after `stop`."""
        return None if self._guard is None else self._guard.pid

    def _ensure_guard(self) -> None:
        """Start the guard, again if somebody has killed it."""
        if self._guard is not None and self._guard.poll() is None:
            return
        command = [sys.executable, "-P", guard.__file__, self.mark]
        self._guard = subprocess.Popen(  # noqa: S603  # our own interpreter and script
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=self._hold,
            start_new_session=True,  # a kill of our process group must not reach it
        )

    def _dismiss_guard(self) -> None:
        """Close the pipe: the guard kills what is left of the descendants, and ends."""
        if self._guard is None or self._guard.stdin is None:
            return
        self._guard.stdin.close()
        try:
            self._guard.wait(GUARD_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._guard = None


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into KeyboardInterrupt; later ones must not disturb the stopping."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def answers_ok(host: str, port: int, path: str) -> Callable[[], bool]:
    """Make a readiness test: ``GET http://host:port/path`` answers 200."""

    def ready() -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=1)  # urllib would ask a proxy
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name}"

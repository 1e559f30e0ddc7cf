"""One Driftline process in its own right, for tests: started, awaited, suspended, killed, read."""

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from services.operations.local_servers.supervisor import Child, Launch, Supervisor, answers_ok
from services.runtime.settings import Settings
from tests.waiting import LIVENESS_SECONDS, until


class Process:
    """``driftline <name>`` as a child process with given settings, ended with the block.

    Example::

        with Process("scoring", settings, log=tmp_path / "scoring.log") as scoring:
            scoring.wait_ready()
            scoring.kill()      # SIGKILL
            scoring.start()     # again, as an orchestrator would
            scoring.wait_ready()

    Args:
        name: The command, also the prefix of the port in `Settings` (``scoring_port``).
        settings: Handed over as environment variables.
        log: Gets the output; each start empties it.
        arguments: Further command line arguments.
        environment: Further environment variables.
        command: Another command to run, instead of ``driftline <name>``.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        log: Path,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        command: tuple[str, ...] | None = None,
    ) -> None:
        port = getattr(settings, f"{name}_port", None)
        self.name = name
        self.log = log
        self.url = f"http://{settings.host}:{port}"
        self._launch = Launch(
            name=name,
            command=[*(command or (sys.executable, "-m", "services.operations.cli", name)), *arguments],
            log=log,
            environment={**settings.environment(), **(environment or {})},
            ready=answers_ok(settings.host, port, "/health/ready") if port else lambda: True,
        )
        self._supervisor = Supervisor(stop_seconds=LIVENESS_SECONDS)
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._child is not None:
            error.add_note(f"{self.name}: {self._child.log_tail()}")
        self._supervisor.stop()

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.exit_code is None

    def start(self) -> None:
        """Start it; after its end also again."""
        assert not self.alive, f"{self.name} runs already"
        self._child = self._supervisor.start(self._launch)

    def wait_ready(self, seconds: float = LIVENESS_SECONDS) -> None:
        """Wait for ``/health/ready``; raise `SupervisorError` with the end of its log if it does not come."""
        self._supervisor.wait_ready(self._running, seconds=seconds)

    def is_ready(self, seconds: float = 1.0) -> bool:
        """Ask ``/health/ready`` once; False also without a response within ``seconds``."""
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=seconds).is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """End it with SIGKILL, now."""
        self._end(signal.SIGKILL)

    def wait_dead(self, seconds: float = LIVENESS_SECONDS) -> None:
        """Wait until it has ended by itself, as it was told to."""
        child = self._running
        assert child.wait(seconds) is not None, f"{self.name} still runs\n{child.log_tail()}"
        self._supervisor.forget(child)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait until the process has ended by itself, and return its exit code."""
        return self._end(number)

    def suspend(self) -> None:
        """Freeze it with SIGSTOP, as a machine that hangs; return when it stands still."""
        self._running.signal(signal.SIGSTOP)
        until(self.is_suspended, f"{self.name} is suspended")

    def is_suspended(self) -> bool:
        """Tell whether a SIGSTOP has reached it."""
        suspended: bool = psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        return suspended

    def resume(self) -> None:
        """Let it go on after `suspend`."""
        self._running.signal(signal.SIGCONT)

    def check(self) -> None:
        """Raise `ChildDiedError` with the end of its log if it has ended by itself."""
        self._supervisor.check()

    def count(self, name: str, **labels: str) -> float:
        """Ask ``/metrics``; return the sum of a counter over all that has these labels, 0 without any."""
        page = httpx.get(f"{self.url}/metrics", timeout=LIVENESS_SECONDS).text
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == f"{name}_total" and labels.items() <= sample.labels.items()
        )

    def models(self) -> set[str]:
        """Ask ``/health/ready``; return the models that this worker owns, none while it does not answer."""
        try:
            answer = httpx.get(f"{self.url}/health/ready", timeout=1.0)
        except httpx.TransportError:
            return set()
        return set(answer.json().get("models", ()))

    def labelled(self, name: str, label: str) -> set[str]:
        """Ask ``/metrics``; return the values of a label of a gauge."""
        page = httpx.get(f"{self.url}/metrics", timeout=LIVENESS_SECONDS).text
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        return {sample.labels[label] for sample in samples if sample.name == name}

    def output(self) -> str:
        """Return what it has written since its start."""
        return self.log.read_text(errors="replace")

    @property
    def _running(self) -> Child:
        assert self._child is not None, f"{self.name} was not started"
        return self._child

    def _end(self, number: signal.Signals) -> int:
        child = self._running
        self._supervisor.forget(child)
        child.signal(number)
        code = child.wait(LIVENESS_SECONDS)
        if code is None:
            child.signal(signal.SIGKILL)
            child.wait(LIVENESS_SECONDS)
            raise AssertionError(f"{self.name} still runs after {number.name}\n{child.log_tail()}")
        return code

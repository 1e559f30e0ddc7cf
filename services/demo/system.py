"""Everything that the demo starts: three servers, the processes of a world, their topics and features."""

import concurrent.futures
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from services.demo.world import DemoWorld
from services.feature_store import repository
from services.operations.installation_processes import launch
from services.operations.local_servers.cluster import Embedded, choose_port
from services.operations.local_servers.supervisor import (
    Child,
    ChildDiedError,
    Launch,
    NotReadyError,
    Supervisor,
)
from services.runtime import declaration_file, topic_creation
from services.runtime.settings import Settings

T = TypeVar("T")
Say = Callable[[str], None]

_READY_SECONDS_MAX = 300.0
"""Maximum time until all are ready; two free cores need 10 s, and exits are noticed at once."""
_PREPARATION_SECONDS_MAX = 120.0
_STOP_PROCESSES_SECONDS = 5.0
_STOP_SERVERS_SECONDS = 3.0
"""Short, so that the demo ends within 10 s of a signal; the servers' data is not needed afterwards."""


class System:
    """The running servers and processes."""

    def __init__(self, settings: Settings, servers: Embedded, processes: Supervisor) -> None:
        """Take the servers and processes that `started` has started."""
        self.settings = settings
        self._servers = servers
        self._processes = processes

    def check(self) -> None:
        """Raise `SupervisorError`, with the end of its log, if a server or process has ended."""
        self._servers.check()
        self._processes.check()

    @property
    def children(self) -> list[Child]:
        """All servers and processes."""
        return [*self._servers.supervisor.children, *self._processes.children]

    def urls(self) -> list[tuple[str, str]]:
        """Return the name and address of everything."""
        settings = self.settings
        scoring = f"http://{settings.host}:{settings.scoring_port}"
        return [
            ("Dashboard", f"http://{settings.host}:{settings.dashboard_port}"),
            ("MLflow", settings.mlflow_uri),
            ("Scoring", f"{scoring}/predict"),
            ("Metrics", f"{scoring}/metrics"),
            ("Features", f"http://{settings.host}:{settings.features_port}/get-online-features"),
            ("Kafka", settings.broker),
        ]


@contextlib.contextmanager
def started(settings: Settings, lock: int, say: Say, world: DemoWorld) -> Iterator[System]:
    """Start everything, in parallel where possible; stop the processes before the servers that they use.

    Args:
        settings: Settings with the demo's folder as home.
        lock: File descriptor that stays open until the last process has ended.
        say: Prints progress.
        world: Names the processes.

    Raises:
        SupervisorError: Something did not start; the message contains the end of its log.
    """
    ports = [f"{name}_port" for name in world.processes]
    settings = _with_free_ports(settings, ports, say)
    logs = settings.home / "logs"
    with Supervisor(_STOP_PROCESSES_SECONDS, hold=(lock,)) as processes:
        began = time.monotonic()
        environment = _environment(settings, ports)
        preparation = processes.start(_preparation(world.name, environment, logs))
        with Embedded(settings, say=say, stop_seconds=_STOP_SERVERS_SECONDS) as servers:
            try:
                say(f"Kafka, Valkey and MLflow run ({time.monotonic() - began:.0f} s)")
                _finish(processes, preparation)
                _make_topics(settings)
                say(f"topics and features are ready ({time.monotonic() - began:.0f} s)")
                children = [
                    processes.start(launch(name, settings, logs, environment)) for name in world.processes
                ]
                processes.wait_ready(*children, seconds=_READY_SECONDS_MAX)
                say(f"{len(children)} processes run ({time.monotonic() - began:.0f} s)")
                yield System(settings, servers, processes)
            finally:
                processes.stop()


def _with_free_ports(settings: Settings, ports: Sequence[str], say: Say) -> Settings:
    """Choose all addresses before anything starts, so that the first processes know them too."""

    def choose(name: str, address: str) -> int:
        return choose_port(f"DRIFTLINE_{name.upper()}", address, say)

    redis = urlsplit(settings.redis_url)
    changes: dict[str, str | int] = {
        "security_protocol": "PLAINTEXT",
        "broker": f"127.0.0.1:{choose('broker', settings.broker.split(',')[0])}",
        "redis_url": f"redis://127.0.0.1:{choose('redis_url', settings.redis_url)}{redis.path}",
        "mlflow_uri": f"http://127.0.0.1:{choose('mlflow_uri', settings.mlflow_uri)}",
    }
    for name in ports:
        changes[name] = choose(name, f"127.0.0.1:{getattr(settings, name)}")
    return settings.model_copy(update=changes)


def _environment(settings: Settings, ports: Sequence[str]) -> dict[str, str]:
    return {
        "DRIFTLINE_BROKER": settings.broker,
        "DRIFTLINE_SECURITY_PROTOCOL": settings.security_protocol,
        "DRIFTLINE_REDIS_URL": settings.redis_url,
        "DRIFTLINE_MLFLOW_URI": settings.mlflow_uri,
        "DRIFTLINE_HOME": str(settings.home),
        "DRIFTLINE_ARCHIVE_URI": "",
        "DRIFTLINE_MODELS": str(settings.models.resolve()),
        "DRIFTLINE_FEATURE_REPO": str(settings.feature_repo.resolve()),
        **{f"DRIFTLINE_{name.upper()}": str(getattr(settings, name)) for name in ports},
    }


def _preparation(world: str, environment: dict[str, str], logs: Path) -> Launch:
    command = [sys.executable, "-m", "services.demo.preparation", world]
    return Launch("preparation", command, logs / "preparation.log", environment)


def _make_topics(settings: Settings) -> None:
    """Create all topics before a process waits for one."""
    plan = repository.load(settings)
    topic_creation.ensure_topics(
        settings,
        declaration_file.load_all(settings.models),
        applications=list(plan.by_topic()),
        views=[view.name for view in plan.views if view.is_repartitioned],
    )


def _finish(processes: Supervisor, preparation: Child) -> None:
    """Wait for the end of the preparation; raise the errors of `Supervisor.run` if it fails."""
    code = preparation.wait(_PREPARATION_SECONDS_MAX)
    if code is None:
        raise NotReadyError(f"the features were not prepared in time\n{preparation.log_tail()}")
    if code != 0:
        raise ChildDiedError(f"preparing the features failed\n{preparation.log_tail()}")
    processes.forget(preparation)


def in_background(work: Callable[[], T]) -> "concurrent.futures.Future[T]":
    """Run work in a daemon thread, which does not prevent the program from ending."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # passed to the caller that waits for the result
            future.set_exception(error)

    threading.Thread(target=run, name="background", daemon=True).start()
    return future


def cpu_seconds(children: Sequence[Child]) -> dict[str, float]:
    """Return the CPU time of each child with its descendants, and of the demo itself."""
    import psutil

    used = {"demo": time.process_time()}
    for child in children:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(child.pid)
            used[child.name] = sum(
                _processor_seconds(each) for each in (process, *process.children(recursive=True))
            )
    return used


def _processor_seconds(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)

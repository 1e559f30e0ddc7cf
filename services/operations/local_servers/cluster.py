"""Kafka, Valkey and MLflow together: started concurrently, reachable by their addresses, stopped together."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from services.operations.local_servers import kafka, mlflow, ports, valkey
from services.operations.local_servers.supervisor import POLL_SECONDS, Supervisor
from services.runtime.settings import Settings

LOCK_SECONDS_MAX = 5.0
"""Maximum wait for the servers of an earlier run to end, after it was killed with kill -9."""
LOOPBACK = ("127.0.0.1", "localhost")

Say = Callable[[str], None]


class FolderInUseError(Exception):
    """Another run uses the same folder."""


@dataclass(frozen=True)
class Addresses:
    """Where the three servers are, under the names of the settings."""

    broker: str
    redis_url: str
    mlflow_uri: str

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which all processes of Driftline use these servers."""
        return {
            "DRIFTLINE_BROKER": self.broker,
            "DRIFTLINE_SECURITY_PROTOCOL": "PLAINTEXT",  # whatever is set for a cluster elsewhere
            "DRIFTLINE_REDIS_URL": self.redis_url,
            "DRIFTLINE_MLFLOW_URI": self.mlflow_uri,
        }


class Embedded:
    """The three servers, with their data below ``settings.home``.

    They listen on 127.0.0.1, on the ports of the settings' addresses. If a port is taken, or an address is on
    another machine, a free port is used, and ``say`` is called with the reason. Use it as a context manager::

        with Embedded(Settings(), say=print) as servers:
            settings = servers.settings

    Entering raises `FolderInUseError` if another run uses the same home, `SupervisorError` with the end of
    its log if a server does not start, `JarsError` if Kafka cannot be downloaded; no process is left.
    """

    addresses: Addresses
    supervisor: Supervisor

    def __init__(
        self,
        settings: Settings,
        *,
        appendonly: bool = False,
        say: Say | None = None,
        stop_seconds: float = 6.0,
    ) -> None:
        """Take the options; the servers start when the block is entered.

        Args:
            settings: The home folder, and the ports to use if they are free.
            appendonly: See `valkey.start`.
            say: Called with a text for each port that differs from the settings.
            stop_seconds: Maximum time for all three servers to stop.
        """
        self._given = settings
        self._appendonly = appendonly
        self._say = say or (lambda _: None)
        self._stop_seconds = stop_seconds
        self._running = contextlib.ExitStack()

    @property
    def settings(self) -> Settings:
        """The given settings, with the addresses of these servers."""
        changes = {"security_protocol": "PLAINTEXT", **asdict(self.addresses)}
        return self._given.model_copy(update=changes)

    @property
    def environment(self) -> dict[str, str]:
        """See `Addresses.environment`."""
        return self.addresses.environment()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as running:
            self._start(running)
            self._running = running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Raise `ChildDiedError` if a server has ended by itself."""
        self.supervisor.check()

    def stop(self) -> None:
        """Stop the servers. May be called again."""
        self._running.close()

    def _start(self, running: contextlib.ExitStack) -> None:
        """Start all servers and wait for them; Kafka last, as it blocks for download and formatting."""
        home = self._given.home.resolve()
        lock = running.enter_context(locked(home))
        self.supervisor = running.enter_context(Supervisor(self._stop_seconds, hold=[lock]))
        redis_path = urlsplit(self._given.redis_url).path
        broker, redis, registry = (choose_port(*wish, self._say) for wish in _wishes(self._given))
        self.addresses = Addresses(
            broker=f"127.0.0.1:{broker}",
            redis_url=f"redis://127.0.0.1:{redis}{redis_path}",
            mlflow_uri=f"http://127.0.0.1:{registry}",
        )
        children = [
            mlflow.start(self.supervisor, home / "mlflow", registry),
            valkey.start(self.supervisor, home / "valkey", redis, appendonly=self._appendonly),
            kafka.start(self.supervisor, home / "kafka", broker),
        ]
        longest = max(kafka.READY_SECONDS_MAX, valkey.READY_SECONDS_MAX, mlflow.READY_SECONDS_MAX)
        self.supervisor.wait_ready(*children, seconds=longest)


def choose_port(variable: str, address: str, say: Say) -> int:
    """Return the port of an address if it is free on this machine, else a free port with a message."""
    url = urlsplit(address if "//" in address else f"//{address}")
    if url.hostname in LOOPBACK and url.port is not None and ports.is_free(url.port):
        return url.port
    port = ports.free_port()
    reason = "is taken" if url.hostname in LOOPBACK else "is not on this machine"
    say(f"{variable}={address} {reason}; using port {port}")
    return port


def _wishes(settings: Settings) -> list[tuple[str, str]]:
    return [
        ("DRIFTLINE_BROKER", settings.broker.split(",")[0]),
        ("DRIFTLINE_REDIS_URL", settings.redis_url),
        ("DRIFTLINE_MLFLOW_URI", settings.mlflow_uri),
    ]


@contextlib.contextmanager
def locked(home: Path) -> Iterator[int]:
    """Lock the folder; yield the file descriptor of the lock."""
    home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / "servers.lock", os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise FolderInUseError(
                        f"{home} is in use by another run: stop that run, or set another DRIFTLINE_HOME"
                    ) from None
                time.sleep(POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)

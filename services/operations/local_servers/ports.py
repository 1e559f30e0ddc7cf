"""Free TCP ports, without two processes of ours choosing the same one."""

import fcntl
import os
import secrets
import socket
import tempfile
from pathlib import Path

PORT_MIN, PORT_MAX = 20_000, 32_000
"""Below the range from which the kernels of Linux and macOS take the ports of outgoing connections."""
ATTEMPTS_MAX = 500

_reserved: list[int] = []  # file descriptors; the locks last as long as this process


def free_port() -> int:
    """Choose a free port and reserve it, among processes of this user, for the life of this process."""
    for _ in range(ATTEMPTS_MAX):
        port = PORT_MIN + secrets.randbelow(PORT_MAX - PORT_MIN + 1)
        if is_free(port) and _reserve(port):
            return port
    raise OSError(f"no free port found between {PORT_MIN} and {PORT_MAX} after {ATTEMPTS_MAX} attempts")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is free
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def is_open(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _reserve(port: int) -> bool:
    folder = Path(tempfile.gettempdir()) / f"driftline-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    _reserved.append(descriptor)
    return True

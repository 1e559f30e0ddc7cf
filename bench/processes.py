"""The processes that a benchmark starts and ends."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from services.operations.local_servers.supervisor import inherited

STOP_SECONDS_MAX = 12.0


@contextlib.contextmanager
def running(command: list[str], log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process until the block ends, its output in a file."""
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=inherited())
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

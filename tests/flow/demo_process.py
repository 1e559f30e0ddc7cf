"""A running ``driftline demo``, for tests of the whole command."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from services.operations.local_servers import ports
from tests.waiting import LIVENESS_SECONDS, until

MARK = "DRIFTLINE_TEST_DEMO"


class DemoProcess:
    """A running ``driftline demo`` with all that it started."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.home = folder / "home"
        self.summary = folder / "summary.json"
        self.output = folder / "output.txt"
        command = [sys.executable, "-m", "services.operations.cli", "demo", *options]
        command += ["--home", str(self.home), "--summary", str(self.summary)]
        names = ("DASHBOARD", "SCORING", "FEATURES", "DRIFT", "LEARNING", "ARCHIVE", "RETRAINING", "ROLLOUT")
        free = {f"DRIFTLINE_{name}_PORT": str(ports.free_port()) for name in names}
        free |= {
            "DRIFTLINE_BROKER": f"127.0.0.1:{ports.free_port()}",
            "DRIFTLINE_REDIS_URL": f"redis://127.0.0.1:{ports.free_port()}/0",
            "DRIFTLINE_MLFLOW_URI": f"http://127.0.0.1:{ports.free_port()}",
        }
        self.mark = f"{folder.name}-{time.monotonic_ns()}"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **free, MARK: self.mark},
                start_new_session=True,
            )

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        until(lambda: words in self.text() or self.process.poll() is not None, f"the output has {words!r}")
        assert words in self.text()

    def result(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.summary.read_text())
        return content

    def left_behind(self) -> list[str]:
        """Name the processes that carry the mark of this demo, as all its descendants do."""
        found = []
        for process in psutil.process_iter(["environ", "cmdline", "status"]):
            marked = (process.info["environ"] or {}).get(MARK) == self.mark
            if marked and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.info["cmdline"] or []))
        return found

    def interrupt(self, number: int) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=LIVENESS_SECONDS)

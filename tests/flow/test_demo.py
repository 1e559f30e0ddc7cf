"""The whole system in one short demo: the same command that a newcomer types, to its summary."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.operations.local_servers import ports
from tests.flow import leaks
from tests.waiting import LIVENESS_SECONDS, until

MARK = "DRIFTLINE_TEST_DEMO"


class Demo:
    """A running ``driftline demo`` with all that it started."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.home = folder / "home"
        self.summary = folder / "summary.json"
        self.output = folder / "output.txt"
        command = [sys.executable, "-m", "services.operations.cli", "demo", *options]
        command += ["--home", str(self.home), "--summary", str(self.summary)]
        names = ("DASHBOARD", "SCORING", "FEATURES", "DRIFT", "LEARNING", "ARCHIVE", "RETRAINING")
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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []

    def begin(*options: str) -> Demo:
        demos.append(Demo(tmp_path, *options))
        return demos[-1]

    yield begin
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()


@pytest.mark.timeout(1500)
def test_a_short_demo_ends_with_an_exact_account_and_served_no_future(start: Callable[..., Demo]) -> None:
    demo = start("--until", "2013-02-04")
    code = demo.process.wait(timeout=1400)
    assert code == 0, demo.text()
    found = demo.result()
    assert found["complete"]
    assert found["faults"] == []
    assert found["requests_sent"] == found["predicted"] + found["dead_letters"]
    assert found["requests_sent"] > 2000
    assert found["collected"] > 26_000
    assert (found["dead_letters"], found["repeats"], found["labels_orphaned"]) == (0, 0, 0)
    answered = found["predicted"] + found["collected"]
    assert found["labels_joined"] + found["predictions_unlabelled"] == answered
    (first,) = found["retrainings"]
    assert (first["trigger"], first["version"], first["promoted"]) == ("bootstrap", 1, True)
    (february,) = found["months"]
    assert february["month"] == "2013-02"
    assert february["requests"] == found["predicted"]
    assert 0.2 < february["log_loss_live"] < 0.65
    assert february["log_loss_live"] == february["log_loss_frozen"]
    minutes = found["minutes"]
    assert minutes["predicted"] + minutes["collected"] == answered
    assert minutes["repeats"] == 0
    assert minutes["version"] > 25, "a version a day"
    assert all(month["mae_live"] < month["mae_running_mean"] for month in minutes["months"])
    assert {"features", "scoring", "drift", "learning", "archive", "retraining", "kafka"} <= found[
        "cpu_seconds"
    ].keys()
    assert demo.left_behind() == []
    rows, differences = leaks.differences(demo.home)
    assert rows == answered, "the archive has every prediction"
    assert differences == []


def test_ctrl_c_in_mid_stream_ends_it_with_a_summary_and_no_process_left(start: Callable[..., Demo]) -> None:
    demo = start("--speed", "20000x")
    demo.wait_for("Dashboard")
    assert demo.interrupt(signal.SIGINT) == 128 + signal.SIGINT, demo.text()
    assert "Stopped at 2013-01" in demo.text()
    assert not demo.result()["complete"]
    assert demo.left_behind() == []


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, 0.7), (signal.SIGTERM, 4.0)])
def test_a_signal_while_starting_ends_it_and_leaves_no_process(
    start: Callable[..., Demo], number: int, seconds: float
) -> None:
    demo = start()
    demo.wait_for("A year of New York flights")
    time.sleep(seconds)  # somewhere in the start-up; where exactly must not matter
    assert demo.interrupt(number) == 128 + number, demo.text()
    assert "Stopped during the start" in demo.text()
    assert demo.left_behind() == []


def test_a_process_that_dies_ends_the_demo_with_the_end_of_its_log(start: Callable[..., Demo]) -> None:
    demo = start("--speed", "20000x")
    demo.wait_for("Dashboard")
    (drift,) = [
        process
        for process in psutil.Process(demo.process.pid).children()
        if process.cmdline()[-2:] == ["services.operations.cli", "drift"]
    ]
    drift.kill()
    assert demo.process.wait(timeout=LIVENESS_SECONDS) == 1
    assert "drift ended (killed by SIGKILL)" in demo.text()
    assert str(demo.home / "logs" / "drift.log") in demo.text()
    assert demo.left_behind() == []


def test_after_kill_9_of_the_demo_nothing_is_left(start: Callable[..., Demo]) -> None:
    demo = start()
    demo.wait_for("A year of New York flights")
    until(lambda: len(demo.left_behind()) >= 4, "four processes have started")
    demo.process.kill()
    demo.process.wait()
    until(lambda: demo.left_behind() == [], "no process is left")


def test_a_wrong_option_is_refused_at_once(start: Callable[..., Demo]) -> None:
    demo = start("--speed", "fast")
    assert demo.process.wait(timeout=LIVENESS_SECONDS) == 2
    assert "86400x is one day per second" in demo.text()
    assert not demo.home.exists()

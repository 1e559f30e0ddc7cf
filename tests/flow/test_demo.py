"""The whole system in one short demo: the same command that a newcomer types, to its summary."""

import signal
import time
from collections.abc import Callable

import psutil
import pytest

from tests.flow import leaks
from tests.flow.demo_process import DemoProcess
from tests.waiting import LIVENESS_SECONDS, until


@pytest.mark.timeout(1500)
def test_a_short_demo_ends_with_an_exact_account_and_served_no_future(
    start_demo: Callable[..., DemoProcess],
) -> None:
    demo = start_demo("--until", "2013-02-04")
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


def test_ctrl_c_in_mid_stream_ends_it_with_a_summary_and_no_process_left(
    start_demo: Callable[..., DemoProcess],
) -> None:
    demo = start_demo("--speed", "20000x")
    demo.wait_for("Dashboard")
    assert demo.interrupt(signal.SIGINT) == 128 + signal.SIGINT, demo.text()
    assert "Stopped at 2013-01" in demo.text()
    assert not demo.result()["complete"]
    assert demo.left_behind() == []


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGINT, 0.7), (signal.SIGTERM, 4.0)])
def test_a_signal_while_starting_ends_it_and_leaves_no_process(
    start_demo: Callable[..., DemoProcess], number: int, seconds: float
) -> None:
    demo = start_demo()
    demo.wait_for("A year of New York flights")
    time.sleep(seconds)  # somewhere in the start-up; where exactly must not matter
    assert demo.interrupt(number) == 128 + number, demo.text()
    assert "Stopped during the start" in demo.text()
    assert demo.left_behind() == []


def test_a_process_that_dies_ends_the_demo_with_the_end_of_its_log(
    start_demo: Callable[..., DemoProcess],
) -> None:
    demo = start_demo("--speed", "20000x")
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


def test_after_kill_9_of_the_demo_nothing_is_left(start_demo: Callable[..., DemoProcess]) -> None:
    demo = start_demo()
    demo.wait_for("A year of New York flights")
    until(lambda: len(demo.left_behind()) >= 4, "four processes have started")
    demo.process.kill()
    demo.process.wait()
    until(lambda: demo.left_behind() == [], "no process is left")


def test_a_wrong_option_is_refused_at_once(start_demo: Callable[..., DemoProcess]) -> None:
    demo = start_demo("--speed", "fast")
    assert demo.process.wait(timeout=LIVENESS_SECONDS) == 2
    assert "86400x is one day per second" in demo.text()
    assert not demo.home.exists()

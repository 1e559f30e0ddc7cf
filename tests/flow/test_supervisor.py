"""Child processes, with real ones: tiny Python programs."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from services.operations.local_servers import guard
from services.operations.local_servers.supervisor import (
    Child,
    ChildDiedError,
    Launch,
    NotReadyError,
    Supervisor,
)
from tests.waiting import LIVENESS_SECONDS, until

SLEEP = "import time; time.sleep(600)"
GRANDCHILD = f"""
    import subprocess, sys
    subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
"""
DEAF = """
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def supervisor():
    with Supervisor(stop_seconds=LIVENESS_SECONDS) as supervisor:
        yield supervisor


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Launch]:
    def make(script: str, name: str = "child", **more: object) -> Launch:
        command = [sys.executable, "-c", textwrap.dedent(script)]
        return Launch(name, command, tmp_path / f"{name}.log", **more)  # type: ignore[arg-type]  # by keyword

    return make


def test_child_gets_its_environment_and_writes_to_its_log(supervisor, launch):
    script = "import os; print(os.environ['ONE'], os.environ['PATH'])"
    child = supervisor.start(launch(script, environment={"ONE": "1"}))
    assert child.wait(LIVENESS_SECONDS) == 0
    assert child.launch.log.read_text() == f"1 {os.environ['PATH']}\n"


def test_death_of_a_child_is_noticed_with_the_end_of_its_log(supervisor, launch):
    child = supervisor.start(launch("import sys; print('the reason'); sys.exit(3)", name="scoring"))
    child.wait(LIVENESS_SECONDS)
    with pytest.raises(ChildDiedError, match=r"(?s)scoring ended \(exit code 3\).*the reason"):
        supervisor.check()


def test_killed_child_is_described_by_its_signal(supervisor, launch):
    child = supervisor.start(launch(SLEEP))
    child.signal(signal.SIGKILL)
    child.wait(LIVENESS_SECONDS)
    with pytest.raises(ChildDiedError, match="killed by SIGKILL"):
        supervisor.check()


def test_waiting_ends_at_once_when_any_child_dies(supervisor, launch):
    slow = supervisor.start(launch(SLEEP, name="slow", ready=lambda: False))
    supervisor.start(launch("raise SystemExit('broken')", name="broken"))
    with pytest.raises(ChildDiedError, match=r"(?s)broken ended.*broken"):
        supervisor.wait_ready(slow, seconds=LIVENESS_SECONDS)


def test_child_that_is_not_ready_in_time_is_named_with_the_end_of_its_log(supervisor, launch):
    script = "import time; print('busy', flush=True); time.sleep(600)"
    child = supervisor.start(launch(script, name="slow", ready=lambda: False))
    until(lambda: child.launch.log.read_text() == "busy\n", "the child is busy")
    with pytest.raises(NotReadyError, match=r"(?s)not ready within 0 s: slow.*busy"):
        supervisor.wait_ready(child, seconds=0.1)


def test_waiting_covers_all_children(supervisor, launch, tmp_path: Path):
    files = [tmp_path / "one", tmp_path / "two"]
    script = "import pathlib, time; pathlib.Path({!r}).touch(); time.sleep(600)"
    children = [
        supervisor.start(launch(script.format(str(file)), file.name, ready=file.exists)) for file in files
    ]
    supervisor.wait_ready(*children, seconds=LIVENESS_SECONDS)
    assert all(file.exists() for file in files)


def test_run_waits_for_the_end_and_shows_the_log_of_a_failure(supervisor, launch):
    supervisor.run(launch("print('fine')"), seconds=LIVENESS_SECONDS)
    with pytest.raises(ChildDiedError, match=r"(?s)format failed \(exit code 1\).*no space"):
        supervisor.run(launch("raise SystemExit('no space')", name="format"), seconds=LIVENESS_SECONDS)
    supervisor.check()


def test_stop_signals_the_last_child_first_and_lets_all_end_by_themselves(supervisor, launch, monkeypatch):
    script = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        print("set", flush=True)
        time.sleep(600)
    """
    children = [supervisor.start(launch(script, name)) for name in ("first", "last")]
    until(
        lambda: all(child.launch.log.read_text() == "set\n" for child in children), "both listen to signals"
    )
    sent = []
    plain = Child.signal

    def record(child: Child, number: int) -> None:
        sent.append((child.name, number))
        plain(child, number)

    monkeypatch.setattr(Child, "signal", record)
    supervisor.stop()
    assert [name for name, number in sent if number == signal.SIGTERM] == ["last", "first"]
    assert [child.exit_code for child in children] == [0, 0]


def test_child_that_ignores_sigterm_is_killed_within_the_time(launch):
    supervisor = Supervisor(stop_seconds=0.3)
    child = supervisor.start(launch(DEAF))
    until(lambda: child.launch.log.read_text() == "deaf\n", "the child is deaf")
    supervisor.stop()
    assert child.exit_code == -signal.SIGKILL


def test_suspended_child_is_stopped_in_order(supervisor, launch):
    child = supervisor.start(launch(SLEEP))
    child.signal(signal.SIGSTOP)
    supervisor.stop()
    assert child.exit_code == -signal.SIGTERM


def test_stop_leaves_no_descendant_even_in_a_session_of_its_own(supervisor, launch):
    child = supervisor.start(launch(GRANDCHILD))
    child.wait(LIVENESS_SECONDS)
    mark = supervisor.mark
    assert guard.marked(mark)
    supervisor.stop()
    assert guard.marked(mark) == []


def test_child_outlives_the_thread_that_started_it(supervisor, launch):
    children = []
    thread = threading.Thread(target=lambda: children.append(supervisor.start(launch(SLEEP))))
    thread.start()
    thread.join()
    time.sleep(0.2)  # a signal at the thread's death would have come by now
    assert children[0].exit_code is None


def test_killed_guard_is_replaced(supervisor, launch):
    supervisor.start(launch(SLEEP))
    killed = supervisor.guard_pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: psutil.Process(killed).status() == psutil.STATUS_ZOMBIE, "the guard is dead")
    supervisor.check()
    assert supervisor.guard_pid != killed
    assert psutil.Process(supervisor.guard_pid).is_running()


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["parent", "whole process group"])
def test_kill_9_of_the_parent_leaves_no_process(tmp_path: Path, kill: Callable[[int, int], None]):
    """Children, grandchildren in sessions of their own, and the children of a nested supervisor."""
    nested = f"""
        import subprocess, sys, time
        from pathlib import Path
        from services.operations.local_servers.supervisor import Launch, Supervisor
        subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
        supervisor = Supervisor()
        command = [sys.executable, "-c", {SLEEP!r}]
        supervisor.start(Launch("inner", command, Path({str(tmp_path)!r}) / "inner.log"))
        print("nested", flush=True)
        time.sleep(600)
    """
    outer = f"""
        import sys, time
        from pathlib import Path
        from services.operations.local_servers.supervisor import Launch, Supervisor
        supervisor = Supervisor()
        command = [sys.executable, "-c", {textwrap.dedent(nested)!r}]
        supervisor.start(Launch("nested", command, Path({str(tmp_path)!r}) / "nested.log"))
        print(supervisor.mark, flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(outer)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert parent.stdout is not None
        mark = parent.stdout.readline().strip()
        log = tmp_path / "nested.log"
        until(lambda: log.exists() and log.read_text() == "nested\n", "the nested one runs")
        assert len(guard.marked(mark)) >= 3
    finally:
        kill(parent.pid, signal.SIGKILL)
        parent.wait()
    until(lambda: not guard.marked(mark), "nothing is left")

"""A worker that has exited is started again, but not more than once a second."""

import os
import subprocess
from pathlib import Path

from services.scoring import workers
from services.scoring.workers import RESTART_SECONDS, STOP_SECONDS_MAX, Worker
from tests.unit.scoring.fakes import ManualClock


class ChildProcess:
    """A process whose exit a test decides."""

    pid = 2**22

    def __init__(self, command, *, ignores_sigterm=False, **options):
        self.command, self.environment = command, options["env"]
        self.code = None
        self.signals = []
        self._ignores_sigterm = ignores_sigterm

    def poll(self):
        return self.code

    def terminate(self):
        self.signals.append("SIGTERM")
        if not self._ignores_sigterm:
            self.code = 0

    def kill(self):
        self.signals.append("SIGKILL")
        self.code = -9

    def wait(self, timeout=None):
        if self.code is None:
            raise subprocess.TimeoutExpired(self.command, timeout)


class Launcher:
    """Starts child processes and keeps them."""

    def __init__(self, **behaviour):
        self.started = []
        self._behaviour = behaviour

    def __call__(self, command, **options):
        self.started.append(ChildProcess(command, **options, **self._behaviour))
        return self.started[-1]


def worker(launcher, clock, folder):
    return Worker(1, 4, folder, start=launcher, clock=clock)


def test_a_worker_knows_its_parent_the_number_of_workers_and_the_metrics_folder(tmp_path: Path):
    launcher = Launcher()
    worker(launcher, ManualClock(), tmp_path)
    (child,) = launcher.started
    assert child.command[-2:] == [str(os.getpid()), "4"]
    assert child.environment["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path)


def test_a_running_worker_is_left_alone_and_one_that_exited_is_replaced(tmp_path: Path):
    launcher, clock = Launcher(), ManualClock()
    subject = worker(launcher, clock, tmp_path)
    clock.advance(2 * RESTART_SECONDS)
    subject.restart_if_ended()
    assert len(launcher.started) == 1
    launcher.started[0].code = 1
    subject.restart_if_ended()
    assert len(launcher.started) == 2
    assert subject.process is launcher.started[1]


def test_a_worker_that_exits_at_once_is_not_started_more_often_than_allowed(tmp_path: Path):
    launcher, clock = Launcher(), ManualClock()
    subject = worker(launcher, clock, tmp_path)
    for _ in range(24):
        launcher.started[-1].code = 1
        clock.advance(RESTART_SECONDS / 8)
        subject.restart_if_ended()
    assert len(launcher.started) == 1 + 3


def test_workers_that_do_not_stop_are_killed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(workers, "STOP_SECONDS_MAX", 0.0)
    obedient, stubborn = Launcher(), Launcher(ignores_sigterm=True)
    clock = ManualClock()
    workers.stop([worker(obedient, clock, tmp_path), worker(stubborn, clock, tmp_path)])
    assert obedient.started[0].signals == ["SIGTERM"]
    assert stubborn.started[0].signals == ["SIGTERM", "SIGKILL"]
    assert STOP_SECONDS_MAX < 10

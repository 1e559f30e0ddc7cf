"""The tool with which the tests of faults run a process of Driftline's."""

import sys

import pytest

from services.operations.local_servers import ports
from services.operations.local_servers.supervisor import ChildDiedError
from services.runtime.settings import Settings
from tests.processes import Process

SERVER = """
import signal, sys
from services.runtime.settings import Settings
from services.runtime.web.server import application, serve_in_thread

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
settings = Settings()
with serve_in_thread(application(lambda: None), settings.host, settings.scoring_port):
    print("home", settings.home, flush=True)
    signal.pause()
"""


@pytest.fixture
def process(tmp_path, http_ports):
    settings = Settings().model_copy(update={**http_ports, "home": tmp_path / "home"})
    command = (sys.executable, "-c", SERVER)
    with Process("scoring", settings, log=tmp_path / "scoring.log", command=command) as process:
        yield process


def test_process_gets_the_settings_and_becomes_ready(process, tmp_path):
    process.wait_ready()
    assert f"home {tmp_path / 'home'}" in process.output()


def test_killed_process_is_gone_and_can_be_started_again(process):
    process.wait_ready()
    first = process.pid
    process.kill()
    assert not process.alive
    assert not process.is_ready()
    process.start()
    process.wait_ready()
    assert process.pid != first


def test_suspended_process_answers_again_after_it_goes_on(process):
    process.wait_ready()
    process.suspend()
    assert not process.is_ready()
    process.resume()
    process.wait_ready()


def test_stop_returns_the_exit_code(process):
    process.wait_ready()
    code = process.stop()
    assert code == 0


def test_death_on_its_own_is_reported_with_the_log(tmp_path):
    command = (sys.executable, "-c", "raise SystemExit('no broker')")
    settings = Settings(scoring_port=ports.free_port())
    with Process("scoring", settings, log=tmp_path / "log", command=command) as process:
        with pytest.raises(ChildDiedError, match="no broker"):
            process.wait_ready()
        process.kill()

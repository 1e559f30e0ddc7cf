"""`driftline run` on real servers: one command, one Ctrl-C."""

import signal
from pathlib import Path

import psutil

from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from tests.processes import Process
from tests.waiting import until


def test_named_processes_run_and_end_together(settings: Settings, tmp_path: Path) -> None:
    ensure_topics(settings, load_all(settings.models))
    log = tmp_path / "run.log"
    with Process("run", settings, log=log, arguments=("drift", "dashboard")) as run:

        def told() -> str:
            return log.read_text(encoding="utf-8")

        until(lambda: "dashboard is ready at http://" in told(), "the dashboard is ready", check=run.check)
        until(lambda: "drift     | " in told(), "lines of drift are shown", check=run.check)
        children = psutil.Process(run.pid).children(recursive=True)
        assert sum("services.operations.cli" in " ".join(each.cmdline()) for each in children) >= 2
        assert run.stop(signal.SIGINT) == 0
        assert told().endswith("all processes have ended\n")
        until(lambda: not any(each.is_running() for each in children), "no process is left")

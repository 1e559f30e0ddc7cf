"""`driftline run` shows what its processes log, and ends with them."""

import os
import subprocess
import sys
from pathlib import Path

from services.operations.run_command import LogReader
from services.runtime.settings import ROOT
from tests import project


def test_only_complete_lines_are_printed_each_once(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogReader(path, "a | ")
    assert list(log.lines()) == []
    path.write_text("one\ntw", encoding="utf-8")
    assert list(log.lines()) == ["a | one"]
    assert list(log.lines()) == []
    path.write_text("one\ntwo\nthree\n", encoding="utf-8")
    assert list(log.lines()) == ["a | two", "a | three"]


def test_a_process_that_ends_with_an_error_ends_the_run_with_its_last_lines(tmp_path: Path) -> None:
    """Without a setup there is no Feast registry."""
    project.write(tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "services.operations.cli", "run", "features"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "features | " in ended.stdout
    assert "driftline run: features ended (exit code 1)" in ended.stderr
    assert "there is no Feast registry" in ended.stderr

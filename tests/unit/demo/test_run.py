"""How a demo ends: exit code, summary and messages, when it ends before anything is streamed."""

import contextlib
import dataclasses
import gc
import io
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from services.demo import flights, months, run, system, worlds
from services.demo.folder import FolderError
from services.demo.options import Options
from services.demo.run import Demo
from services.operations.local_servers.supervisor import SupervisorError
from services.runtime import declaration_file
from services.runtime.settings import Settings
from tests.unit.retraining import training_data


class Ending:
    """A start of the system that ends in a given way."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.signal: signal.Signals | None = None
        self.running: Any = None

    @contextlib.contextmanager
    def started(self, *_: Any) -> Iterator[Any]:
        if self.signal is not None:
            signal.raise_signal(self.signal)
        if self.error is not None:
            raise self.error
        yield self.running


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Ending:
    found = Ending()
    monkeypatch.setattr(system, "started", found.started)
    monkeypatch.setattr(system, "in_background", lambda load: None)
    declared = dict.fromkeys((worlds.FLIGHTS.model, worlds.LEARNER), training_data.DECLARATION)
    monkeypatch.setattr(declaration_file, "load_all", lambda folder: declared)
    return found


def ended(home: Path, **options: Any) -> tuple[int, str]:
    """Run a demo; return its exit code and what it prints."""
    console = Console(file=io.StringIO(), width=200)
    code = Demo(Options(None, months.YEAR_END_MS, home=home, **options), console).run()
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


@pytest.mark.parametrize("error", [SupervisorError("kafka failed (exit code 1)"), FolderError("no room")])
def test_an_expected_error_is_one_line_and_exit_code_1(
    tmp_path: Path, ending: Ending, error: Exception
) -> None:
    ending.error = error
    code, printed = ended(tmp_path / "demo")
    assert code == 1
    assert printed.count(f"driftline demo: {error}\n") == 1
    assert "Nothing was streamed." in printed


def test_any_other_error_is_a_defect_and_shows_its_stack(tmp_path: Path, ending: Ending) -> None:
    ending.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        ended(tmp_path / "demo")


@pytest.mark.parametrize(("trial", "name"), [(None, "Play"), ("itself", "TrialPlay")])
def test_the_trial_is_played_in_its_own_way(
    tmp_path: Path, ending: Ending, monkeypatch: pytest.MonkeyPatch, trial: str | None, name: str
) -> None:
    def made(each: str) -> Callable[..., Any]:
        def make(*_: Any) -> Any:
            raise SupervisorError(f"a {each} was made")

        return make

    nothing: Any = SimpleNamespace(settings=None, result=lambda: None)
    world = dataclasses.replace(worlds.FLIGHTS, make_companion=lambda *_: nothing)
    monkeypatch.setattr(system, "in_background", lambda load: nothing)
    monkeypatch.setattr(ending, "running", nothing)
    monkeypatch.setattr(run, "TRIAL", trial and world)
    for each in ("Play", "TrialPlay"):
        monkeypatch.setattr(run, each, made(each))
    _, printed = ended(tmp_path / "demo", world=world)
    assert f"a {name} was made" in printed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_start_ends_with_its_exit_code_and_without_a_fault(
    tmp_path: Path, ending: Ending, number: signal.Signals, code: int
) -> None:
    ending.signal = number
    found, printed = ended(tmp_path / "demo")
    assert found == code
    assert "driftline demo:" not in printed


def test_the_summary_is_written_also_after_an_early_end(tmp_path: Path, ending: Ending) -> None:
    ending.error = SupervisorError("not ready")
    code, printed = ended(tmp_path / "demo", summary=tmp_path / "out.json")
    assert code == 1
    assert f"summary written to {tmp_path / 'out.json'}" in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["faults"] == ["not ready"]
    assert written["complete"] is False


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, ending: Ending) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    code, printed = ended(tmp_path)
    assert code == 1
    assert "contains data that no demo created" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_garbage_collector_runs_again_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise flights.FlightsMissingError("not installed")

    monkeypatch.setattr(flights, "load", fail)
    with pytest.raises(flights.FlightsMissingError, match="not installed"):
        run.load_playlist(Settings(), training_data.DECLARATION, Options(None, 0))
    assert gc.isenabled()

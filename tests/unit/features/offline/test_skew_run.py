"""The run of the skew checks, with checks that compute nothing."""

import types
from pathlib import Path
from typing import Any

import pytest

from services.features.offline import skew_run
from services.features.offline.archived_events import ArchiveError


@pytest.fixture
def differing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int | Exception]:
    """Return what the check of the one model finds: the number of values that differ, or an error."""
    found: list[int | Exception] = []
    declaration = types.SimpleNamespace(name="delay", features=types.SimpleNamespace(service="s"))
    plan = types.SimpleNamespace(by_topic=dict)

    def check(settings: Any, plan: Any, declaration: Any, partitions: Any) -> Any:
        return types.SimpleNamespace(run=run)

    def run() -> Any:
        result = found[0]
        if isinstance(result, Exception):
            raise result
        return types.SimpleNamespace(different=result)

    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    monkeypatch.setattr("services.feature_store.repository.load", lambda settings: plan)
    monkeypatch.setattr(skew_run, "load_all", lambda models: {"delay": declaration})
    monkeypatch.setattr(
        skew_run, "KafkaConsumer", lambda **options: types.SimpleNamespace(close=lambda: None)
    )
    monkeypatch.setattr(skew_run, "SkewCheck", check)
    monkeypatch.setattr("services.runtime.logs.configure_logging", lambda service, level: None)
    monkeypatch.setattr(skew_run, "report_lines", lambda report: [f"{report.different} differ"])
    return found


@pytest.mark.parametrize(("count", "code"), [(0, 0), (2, 1)])
def test_the_exit_code_tells_whether_a_value_differs(
    differing: list[int | Exception], capsys: pytest.CaptureFixture[str], count: int, code: int
) -> None:
    differing.append(count)
    with pytest.raises(SystemExit) as ended:
        skew_run.run(every=None, model=None)
    assert ended.value.code == code
    assert capsys.readouterr().out == f"{count} differ\n"


def test_an_unknown_model_is_told_with_the_known_ones(differing: list[int | Exception]) -> None:
    with pytest.raises(SystemExit, match="there is no model 'arrival'; declared models: delay"):
        skew_run.run(every=None, model="arrival")


def test_an_archive_that_is_not_there_yet_ends_with_its_message(differing: list[int | Exception]) -> None:
    differing.append(ArchiveError("start the archive process"))
    with pytest.raises(SystemExit, match="driftline features skew: start the archive process"):
        skew_run.run(every=None, model="delay")

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from services.monitoring.reports import topic_reader
from services.monitoring.reports.history import WindowHistory
from services.monitoring.reports.topic_reader import ReportsError
from services.operations import drift_report
from services.runtime.settings import Settings
from tests.unit.drift.scenario import HOUR_MS, START_MS
from tests.unit.monitoring.reports.windows import at, history


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose windows were read; the topic is in memory."""
    models: list[str] = []

    def read(_: Settings, model: str) -> WindowHistory:
        models.append(model)
        return history()

    monkeypatch.setattr(topic_reader, "read", read)
    return models


def as_json(capsys: pytest.CaptureFixture[str], **options: Any) -> Any:
    drift_report.report(model="m", format_="json", **options)
    return json.loads(capsys.readouterr().out)


def test_the_latest_window_is_the_default(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    latest = history().window().report.report_id
    assert latest in json.dumps(as_json(capsys))
    assert as_json(capsys, latest=True) == as_json(capsys)
    assert set(asked) == {"m"}


def test_a_time_selects_the_window_that_holds_it(
    asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    moment = dt.datetime.fromtimestamp((START_MS + 5 * HOUR_MS) / 1000, dt.UTC)
    text = json.dumps(as_json(capsys, window=moment.strftime("%Y-%m-%dT%H:%M")))
    assert at(5).report.report_id in text
    assert asked == ["m"]


def test_a_page_is_written_to_a_file(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    drift_report.report(model="m", out=out)
    assert capsys.readouterr().out == f"ok  {out}\n"
    page = out.read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "<script" not in page
    assert asked == ["m"]


def test_a_snapshot_of_evidently_is_json(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    drift_report.report(model="m", format_="evidently")
    assert "metric_results" in json.loads(capsys.readouterr().out)
    assert asked == ["m"]


def test_a_window_and_the_latest_exclude_each_other(asked: list[str]) -> None:
    with pytest.raises(SystemExit, match="driftline drift report: give either --window or --latest"):
        drift_report.report(model="m", window="2013-07-03", latest=True)
    assert asked == []


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("window", ["yesterday", "1971-01-01"])
def test_a_window_that_cannot_be_found_is_one_line_with_the_model(window: str) -> None:
    with pytest.raises(SystemExit) as ended:
        drift_report.report(model="m", window=window)
    assert str(ended.value.code).startswith("driftline drift report: m: ")


def test_a_missing_topic_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> WindowHistory:
        raise ReportsError("no topic: run 'driftline setup'")

    monkeypatch.setattr(topic_reader, "read", missing)
    with pytest.raises(SystemExit) as ended:
        drift_report.report(model="m")
    assert ended.value.code == "driftline drift report: m: no topic: run 'driftline setup'"

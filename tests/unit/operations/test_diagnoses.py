"""What is not well is said with what to do."""

from pathlib import Path

import pytest

from services.operations import diagnoses, server_probes
from services.operations.diagnoses import clock, diagnosed, disk, topics_compared, versions
from services.runtime.settings import Settings


def test_servers_that_are_away_are_problems_with_a_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_probes, "ANSWER_SECONDS_MAX", 0.5)
    away = "127.0.0.1:1"
    settings = Settings(
        broker=away,
        redis_url=f"redis://u:s3cret@{away}/0",
        mlflow_uri=f"http://{away}",
        schema_registry_url=f"http://{away}",
        home=tmp_path / "new",
        _env_file=None,
    )
    found = {each.name: each for each in diagnosed(settings)}
    assert list(found) == ["Kafka", "Redis", "MLflow", "schema registry", "disk", "packages"]
    for name in ("Kafka", "Redis", "MLflow", "schema registry"):
        assert "does not respond at" in found[name].text
        assert "driftline up" in found[name].fix
    assert "s3cret" not in str(found)
    assert found["packages"].is_well


def test_missing_and_narrow_topics_are_problems() -> None:
    assert topics_compared(["a", "b"], {"a": 1, "b": 4}, None).is_well
    missing = topics_compared(["a", "b"], {"a": 1}, None)
    assert (missing.text, missing.fix) == ("missing: b", "driftline setup")
    assert topics_compared(["a"], {"a": 1}, "a has too few").fix


def test_a_clock_within_the_limit_of_event_times_is_well() -> None:
    assert clock(-59.9, 60).is_well
    assert "NTP" in clock(60.1, 60).fix
    assert "NTP" in clock(-61, 60).fix


def test_a_full_disk_is_a_problem(tmp_path: Path) -> None:
    assert disk(tmp_path, diagnoses.FREE_BYTES_MIN).is_well
    assert "DRIFTLINE_HOME" in disk(tmp_path, diagnoses.FREE_BYTES_MIN - 1).fix


def test_packages_that_do_not_fit_are_named() -> None:
    installed = {"a": "1.5", "b": "3.0"}.get
    assert versions(["a>=1", "c; extra == 'dev'"], installed).is_well
    found = versions(["a>=2", "b<4", "c"], installed)
    assert found.text == "a is 1.5, required is >=2; c is missing, required is "
    assert found.fix

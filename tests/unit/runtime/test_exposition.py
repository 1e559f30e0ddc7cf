"""What Prometheus reads of a process."""

import pytest

from services.runtime import exposition, metrics


def series(name: str) -> list[str]:
    lines = exposition.exposition().decode().splitlines()
    return [line for line in lines if line.startswith(name) and "leaver" in line]


def test_a_model_that_has_left_keeps_its_counters_and_has_no_gauges() -> None:
    metrics.DRIFT_SAMPLE.labels("leaver").set(0.5)
    metrics.DRIFT_ALARMS.labels("leaver", "loss").inc()
    assert series("driftline_drift_sample_ratio") == ['driftline_drift_sample_ratio{model="leaver"} 0.5']
    exposition.forget_model("leaver")
    assert series("driftline_drift_sample_ratio") == []
    assert series("driftline_drift_alarms_total") == [
        'driftline_drift_alarms_total{kind="loss",model="leaver"} 1.0'
    ]


def test_a_worker_shows_what_all_workers_have_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The folder of this test has no worker yet, so nothing is shown of this process either."""
    monkeypatch.setattr(metrics, "IS_WORKER", True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path_factory.mktemp("workers")))
    assert exposition.exposition() == b""

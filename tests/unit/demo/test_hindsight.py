"""Which versions are compared on which requests."""

import types
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.demo import hindsight
from services.demo.hindsight import Service
from services.model_registry import loading, model_inputs, models_topic
from services.retraining import archive_progress, candidate, extraction
from services.runtime.declaration import HOUR_MS
from services.runtime.settings import Settings
from streams.feature_sets import FeatureSets
from streams.records import RetrainingFinished
from tests.unit.retraining import training_data

DELAY_MS = 6 * HOUR_MS  # of the declaration
SCORES = {1: 0.5, 2: 0.9, 3: 0.1}


def finished(version: int, at_ms: int, result: Any = "promoted") -> RetrainingFinished:
    return RetrainingFinished(
        request_id=f"r{version}",
        model="arrival_delay",
        trigger="drift",
        requested_at_ms=at_ms,
        result=result,
        version=version,
    )


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Serve requests at 10, 20, 30 ... h whose label is 1; note for which offsets of the archive it waits."""
    times_ms = np.arange(10, 100, 10) * HOUR_MS
    data = types.SimpleNamespace(
        event_times_ms=times_ms, labels=np.ones(len(times_ms)), features=pd.DataFrame({"x": times_ms * 1.0})
    )
    found: list[Any] = []

    def model_of(settings: Any, declaration: Any, given: Any, version: int) -> Any:
        return types.SimpleNamespace(predict=lambda columns: np.full(len(columns["x"]), SCORES[version]))

    monkeypatch.setattr(
        archive_progress, "wait_for_archive", lambda settings, model, ends: found.append(ends)
    )
    monkeypatch.setattr(model_inputs, "of_model", lambda *given: {})
    monkeypatch.setattr(models_topic, "read_model", lambda *given: (None, FeatureSets()))
    monkeypatch.setattr(extraction, "read", lambda *given: data)
    monkeypatch.setattr(
        candidate, "filled", lambda served, declaration: {"x": served.features["x"].to_numpy()}
    )
    monkeypatch.setattr(loading, "load", model_of)
    return found


def measured(*results: RetrainingFinished) -> list[Service]:
    ends = {"t": [1, 2]}
    return hindsight.services(Settings(), training_data.DECLARATION, results, 100 * HOUR_MS, ends)


def test_each_version_is_measured_from_its_effect_to_that_of_the_next(waited: list[Any]) -> None:
    found = measured(finished(1, 0), finished(2, 14 * HOUR_MS), finished(3, 44 * HOUR_MS))
    assert waited == [{"t": [1, 2]}]
    assert [(each.version, each.predecessor) for each in found] == [(2, 1), (3, 2)]
    assert [(each.from_ms // HOUR_MS, each.to_ms // HOUR_MS) for each in found] == [(20, 50), (50, 100)]
    assert [each.labels for each in found] == [3, 5]  # the start is in the period, the end is not


def test_the_gain_is_how_much_lower_the_loss_is_than_the_previous_versions(waited: list[Any]) -> None:
    better, worse = measured(finished(1, 0), finished(2, 14 * HOUR_MS), finished(3, 44 * HOUR_MS))
    assert better.log_loss == pytest.approx(-np.log(0.9))
    assert better.log_loss_of_predecessor == pytest.approx(-np.log(0.5))
    assert better.gain > 0 > worse.gain


def test_refused_candidates_have_no_period(waited: list[Any]) -> None:
    found = measured(finished(1, 0), finished(9, 20 * HOUR_MS, "rejected"), finished(2, 14 * HOUR_MS))
    assert [(each.version, each.predecessor, each.to_ms) for each in found] == [(2, 1, 100 * HOUR_MS)]


def test_a_period_without_requests_is_left_out(waited: list[Any]) -> None:
    found = measured(finished(1, 0), finished(2, 15 * HOUR_MS), finished(3, 16 * HOUR_MS))
    assert [each.version for each in found] == [3]

"""Labels that are implied at the horizon: drift and learning agree with a simple oracle.

The records are those of `test_label_oracle`, and ``label.absent`` is declared: a request that counts has its
latest label within two horizons, or else the declared one.
"""

import unittest.mock
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from services.monitoring.model_metrics import log_loss
from services.runtime.declaration import ModelDeclaration
from streams import records
from tests.property import test_label_oracle as plain
from tests.property.test_label_oracle import HORIZON_MS, INTERVAL_MS, Request, logs, quick, seeds
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, Traffic
from tests.unit.learning import traffic as lessons

ABSENT = 1.0


def _declared(document: dict[str, Any]) -> ModelDeclaration:
    document["label"]["absent"] = 100 if "positive_above" in document["label"] else ABSENT
    return ModelDeclaration.model_validate(document)


DECLARED = _declared(scenario.document())


@pytest.fixture(autouse=True, scope="module")
def _two_horizons() -> Iterator[None]:
    """Let the oracle wait for two horizons, and the players declare what absent labels mean."""
    learns = _declared(lessons.document())
    with (
        unittest.mock.patch.object(plain, "HORIZON_MS", 2 * HORIZON_MS),
        unittest.mock.patch.object(plain, "DECLARED", DECLARED),
        unittest.mock.patch.object(lessons, "declaration", return_value=learns),
    ):
        yield


def value(request: Request, window_ms: int | None = None) -> float:
    known = request.label(window_ms)
    return ABSENT if known is None else known


@settings(quick, max_examples=60)
@given(logs(), seeds)
def test_each_request_has_one_label_in_its_cohort_when_it_is_settled(traffic: Traffic, chance: Any) -> None:
    outputs, engine = plain.played(traffic, chance)
    requests = plain.oracle(traffic, HOUR_MS)
    latest: dict[tuple[str, float | None], records.Outcome] = {}
    outcomes = [each for found in outputs.outcomes.values() for each in found]
    for each in sorted(outcomes, key=lambda each: each.correction):
        before = latest.get((each.prediction_id, each.score))
        assert each.corrected_label == (before.label if before else ABSENT if each.correction else None)
        latest[each.prediction_id, each.score] = each
    for request in requests:
        found = latest.get((request.record.prediction_id, request.record.score))
        assert value(request) == (ABSENT if found is None else found.label)
    assert engine.totals.expired == len(requests)
    reports = [each for each in outputs.drift if isinstance(each, records.PerformanceReport)]
    assert not any(each.labels for each in reports if each.state == "provisional")
    for start_ms, report in {each.window_start_ms: each for each in reports}.items():
        inside = [each for each in requests if each.record.event_time_ms // HOUR_MS * HOUR_MS == start_ms]
        losses = [log_loss(value(each, HOUR_MS), each.record.score or 0.0) for each in inside]
        assert report.predictions == report.labels == len(inside)
        realised = next(each.realised for each in report.segments[0].figures if each.measure == "log_loss")
        assert realised is not None
        assert abs(realised - sum(losses) / len(losses)) < 1e-5
    windows = {each.window_start_ms: each for each in outputs.drift if isinstance(each, records.DriftReport)}
    counted = sum(arm.labels for each in windows.values() for arm in each.arms if not arm.shadow)
    assert counted == len(requests)


@settings(quick, max_examples=40)
@given(logs(), seeds)
def test_learning_ends_with_the_label_of_each_request(traffic: Traffic, chance: Any) -> None:
    learner, learned = plain.taught(traffic, chance)
    wanted = {each.record.score: value(each) for each in plain.oracle(traffic, INTERVAL_MS)}
    assert learned == wanted
    assert learner.counts.learned == len(wanted)

"""Alarms on the champion's losses: measured, estimated, and found by the declared detectors."""

import random
from typing import Any

import numpy as np
import pytest

from services.drift.loss_alarms import ESTIMATE_DETECTOR, LossAlarms
from services.drift.performance.harm_evidence import CohortLosses
from services.drift.performance.loss_baseline import LossBaseline
from services.drift.performance.performance_estimation import EstimateTracker
from services.monitoring.model_metrics import LOG_LOSS_MAX, Measures
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS

MINUTE_MS = HOUR_MS // 60


class Losses:
    """The loss alarms of one champion with a baseline of 0.5 and a tolerance of 0.1, window by window."""

    def __init__(self, *, baseline: float | None = 0.5, on_estimate: bool = False, **monitoring):
        declaration = scenario.declaration(**monitoring)
        retraining = declaration.retraining.model_copy(update={"on_estimate": on_estimate})
        declaration = declaration.model_copy(update={"retraining": retraining})
        measures = Measures(declaration)
        self.baseline = LossBaseline(declaration, measures)
        if baseline is not None:
            self.baseline.follow(scenario.reference(log_loss=baseline))
        self.estimates = EstimateTracker(declaration.monitoring.loss_windows, 12 * HOUR_MS)
        self.alarms = LossAlarms(
            declaration, measures, self.baseline, self.estimates, design_effect=1.0, window_start_ms=START_MS
        )
        self.detected: list[Any] = []
        self.hours = 0
        self._chance = random.Random(5)

    def window(self, mean, labels=100, *, early=False):
        """Add the losses of an hour, close its window and evaluate it."""
        start_ms = START_MS + self.hours * HOUR_MS
        losses = [self._chance.uniform(0, 2 * mean) for _ in range(labels)]
        for number, loss in enumerate(losses):
            values = [loss, float(loss < 0.7), 0.2, 0.0, 0.0]
            self.detected += self.alarms.add(1, values, start_ms + number * MINUTE_MS // 2, number)
        self.hours += 1
        end_ms = START_MS + self.hours * HOUR_MS
        self.alarms.close_window(end_ms)
        shares = np.array(losses) / LOG_LOSS_MAX
        total, squares = float(shares.sum()), float(shares @ shares)
        cohorts = [CohortLosses(start_ms, end_ms, labels, labels, total, labels, total, squares)]
        return self.alarms.evaluate(1, end_ms, *(([], cohorts) if early else (cohorts, [])))


def test_a_mean_within_the_limit_is_no_alarm():
    losses = Losses()
    found = [losses.window(0.55) for _ in range(6)]
    assert all(each.alarms == [] and each.cause is None for each in found)
    assert found[-1].worse == {"log_loss": False}
    assert found[-1].labels == 600
    assert losses.detected == []


def test_chance_is_no_alarm():
    """The mean of the last windows is above the limit in a third of them."""
    losses = Losses()
    assert all(losses.window(0.55, labels=5).alarms == [] for _ in range(300))


def test_a_mean_surely_above_the_limit_is_an_alarm_and_a_cause():
    losses = Losses()
    for _ in range(5):
        losses.window(0.5)
    while not (found := losses.window(0.9)).alarms:
        assert losses.hours < 10
    (alarm,) = found.alarms
    assert (alarm.kind, alarm.subject, alarm.detector) == ("loss", "log_loss", "harm")
    assert alarm.value > alarm.threshold == pytest.approx(0.6)
    assert alarm.since_ms == START_MS + 5 * HOUR_MS
    assert alarm.since_from_ms <= alarm.since_ms <= alarm.since_to_ms
    assert found.worse == {"log_loss": True}
    assert (found.cause, found.labels) == (alarm, 100 * losses.hours)
    assert found.labels_since == 100 * (losses.hours - 5)


def test_the_text_names_mean_lower_end_and_limit():
    losses = Losses()
    while not (found := losses.window(1.5)).alarms:
        pass
    text = found.alarms[0].message
    assert text.startswith("the mean log loss of mature cohorts since 1 Jan 2013 is 1.")
    assert text.endswith("with 95 % confidence), above the limit 0.600 (baseline 0.500 + tolerance 0.100)")
    low = float(text.partition("at least ")[2].partition(" ")[0])
    assert 0.6 <= low < found.alarms[0].value


def test_early_labels_have_to_exceed_the_limit_by_the_tolerance_again():
    mild, strong = Losses(), Losses()
    assert all(mild.window(0.68, early=True).alarms == [] for _ in range(30))
    found = [strong.window(1.2, early=True) for _ in range(10)][-1]
    assert found.cause is not None
    assert "the mean log loss of labels known early since" in found.cause.message


def test_harm_stands_until_the_evidence_is_gone():
    losses = Losses()
    for _ in range(10):
        losses.window(1.2)
    assert losses.window(0.3).worse == {"log_loss": True}
    for _ in range(10):
        found = losses.window(0.3)
    assert (found.worse, found.cause) == ({"log_loss": False}, None)


def test_without_a_baseline_nothing_is_compared():
    losses = Losses(baseline=None)
    found = [losses.window(mean) for mean in (0.5,) * 5 + (2.0,)][-1]
    assert (found.worse, found.cause, found.alarms) == ({}, None, [])


def estimated(losses, estimate, gap, outside=0.0):
    """Let three windows be estimated, after earlier ones whose estimates were off by ``gap``."""
    for _ in range(6):
        losses.estimates.add_gap(100, gap)
    for number in range(3):
        losses.estimates.add_estimate(START_MS + number * HOUR_MS, 100, estimate, outside)
    return losses.alarms.evaluate(1, START_MS + 3 * HOUR_MS, [], [])


def test_an_estimate_above_the_limit_by_more_than_its_error_is_an_alarm():
    found = estimated(Losses(), 0.66, gap=0.05)
    (alarm,) = found.alarms
    assert (alarm.subject, alarm.detector) == ("estimated_log_loss", ESTIMATE_DETECTOR)
    assert (alarm.value, alarm.threshold) == (pytest.approx(0.66), pytest.approx(0.65))
    assert alarm.since_ms == START_MS
    assert "the mean log loss estimated since 1 Jan 2013 is 0.660" in alarm.message
    assert found.cause is None, "only realised losses request a retraining by default"


def test_an_estimate_is_a_cause_where_it_is_declared():
    found = estimated(Losses(on_estimate=True), 0.66, gap=0.05)
    assert found.cause == found.estimated


def test_an_estimate_from_scores_outside_the_reference_is_an_alarm_but_no_cause():
    found = estimated(Losses(on_estimate=True), 0.66, gap=0.05, outside=0.2)
    (alarm,) = found.alarms
    assert alarm.message.endswith("20.0% of the scores are in ranges without known results")
    assert found.cause is None


@pytest.mark.parametrize(("estimate", "gap"), [(0.64, 0.05), (0.9, 0.11)])
def test_an_estimate_within_its_error_or_with_an_error_above_the_tolerance_is_none(estimate, gap):
    found = estimated(Losses(), estimate, gap)
    assert found.alarms == []
    assert found.worse == {"log_loss": False, "estimated_log_loss": False}


def test_a_state_goes_on_where_it_was():
    losses = Losses()
    for mean in (0.5, 0.5, 0.9):
        losses.window(mean)
    state = losses.alarms.state()
    declaration = scenario.declaration()
    restored = LossAlarms(
        declaration, Measures(declaration), losses.baseline, losses.estimates, design_effect=1.0, state=state
    )
    assert restored.state() == state
    end_ms = START_MS + 3 * HOUR_MS
    assert restored.evaluate(1, end_ms, [], []) == losses.alarms.evaluate(1, end_ms, [], [])


def test_detectors_of_river_watch_the_loss_when_they_are_declared():
    logs = scenario.traffic(30, seed=4, shift_at=15, a_hour=200)
    engine = scenario.new_engine(scenario.declaration(detectors=["ddm", "kswin"]), partitions=2)
    found = {alarm.detector for alarm in scenario.alarms(scenario.play(engine, logs)) if alarm.kind == "loss"}
    assert "harm" in found
    assert found & {"river-ddm", "river-kswin"}


@pytest.mark.parametrize("detector", ["adwin", "page_hinkley", "kswin"])
def test_an_improvement_is_no_alarm_of_a_declared_detector(detector):
    losses = Losses(detectors=[detector])
    for _ in range(6):
        losses.window(1.5)
    losses.detected.clear()  # false alarms
    for _ in range(10):
        losses.window(0.3)
    assert losses.detected == []

"""Alarms on the champion's losses: realised, rising, estimated, and found by the declared detectors."""

import random
from typing import Any

import pytest

from services.drift.loss_alarms import ESTIMATE_DETECTOR, LossAlarms
from services.drift.performance.loss_baseline import LossBaseline
from services.drift.performance.performance_estimation import EstimateTracker
from services.monitoring.model_metrics import Measures
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
        self.estimates = EstimateTracker(declaration.monitoring.loss_windows)
        self.alarms = LossAlarms(
            declaration, measures, self.baseline, self.estimates,
            design_effect=1.0, streams=1, window_start_ms=START_MS,
        )  # fmt: skip
        self.detected: list[Any] = []
        self.hours = 0
        self._chance = random.Random(5)

    def window(self, mean, labels=100):
        """Add the losses of an hour, close its window and evaluate it."""
        start_ms = START_MS + self.hours * HOUR_MS
        for number in range(labels):
            loss = self._chance.uniform(0, 2 * mean)
            values = [loss, float(loss < 0.7), 0.2, 0.0, 0.0]
            self.detected += self.alarms.add(1, values, start_ms + number * MINUTE_MS // 2, number)
        self.hours += 1
        end_ms = START_MS + self.hours * HOUR_MS
        self.alarms.close_window(end_ms)
        return self.alarms.evaluate(1, end_ms)


def test_a_mean_within_the_limit_is_no_alarm():
    losses = Losses()
    found = [losses.window(0.55) for _ in range(6)]
    assert all(each.alarms == [] and each.cause is None for each in found)
    assert found[-1].worse == {"log_loss": False}
    assert found[-1].labels == 600
    assert losses.detected == []


def test_the_mean_of_the_last_windows_above_the_limit_is_an_alarm_and_a_cause():
    losses = Losses(adwin_delta=1e-9)
    calm = losses.window(0.5)
    assert calm.worse == {}, "three windows are compared"
    found = [losses.window(0.8) for _ in range(3)][-1]
    (alarm,) = found.alarms
    assert (alarm.kind, alarm.subject, alarm.detector) == ("loss", "log_loss", "window")
    assert alarm.value > alarm.threshold == pytest.approx(0.6)
    assert alarm.since_ms == START_MS + HOUR_MS
    assert found.worse == {"log_loss": True}
    assert (found.cause, found.labels, found.labels_since) == (alarm, 400, 300)


def test_a_rise_above_the_limit_is_detected_with_its_record_and_is_the_cause():
    losses = Losses()
    for _ in range(5):
        losses.window(0.5)
    found = losses.window(1.2)
    rises = [each for each in losses.detected if each.alarm.detector == "adwin"]
    assert rises
    assert found.rise == found.cause == rises[-1].alarm
    assert rises[0].record_index < 100
    assert "ADWIN: the mean log loss rose to" in rises[0].alarm.message
    assert losses.window(1.2).rise is None, "a rise counts in its own window"


def test_a_rise_below_the_limit_is_no_alarm_and_no_cause():
    losses = Losses(baseline=2.0)
    found = [losses.window(mean) for mean in (0.5,) * 5 + (1.2,) * 5]
    assert losses.detected == []
    assert all(each.rise is None for each in found)


def test_without_a_baseline_a_rise_is_an_alarm_and_nothing_is_compared():
    losses = Losses(baseline=None)
    for _ in range(5):
        losses.window(0.5)
    found = losses.window(1.2)
    assert found.worse == {}
    assert found.cause is found.rise is not None
    assert "no baseline" in losses.detected[0].alarm.message


def test_the_sequential_test_finds_a_mean_above_the_limit():
    losses = Losses()
    while not (harm := [each.alarm for each in losses.detected if each.alarm.detector == "harm"]):
        losses.window(0.9)
    assert losses.hours < 10
    limit = "the limit 0.600 (baseline 0.500 + tolerance 0.100)"
    assert harm[0].message == f"sequential test: the mean log loss is above {limit}"


def estimated(losses, estimate, gap):
    """Let three windows be estimated, after earlier ones whose estimates were off by ``gap``."""
    for _ in range(6):
        losses.estimates.add_gap(100, gap)
    for number in range(3):
        losses.estimates.add_estimate(START_MS + number * HOUR_MS, 100, estimate)
    return losses.alarms.evaluate(1, START_MS + 3 * HOUR_MS)


def test_an_estimate_above_the_limit_by_more_than_its_error_is_an_alarm():
    found = estimated(Losses(), 0.66, gap=0.05)
    (alarm,) = found.alarms
    assert (alarm.subject, alarm.detector) == ("estimated_log_loss", ESTIMATE_DETECTOR)
    assert (alarm.value, alarm.threshold) == (pytest.approx(0.66), pytest.approx(0.65))
    assert alarm.since_ms == START_MS
    assert found.cause is None, "only realised losses request a retraining by default"


def test_an_estimate_is_a_cause_where_it_is_declared():
    found = estimated(Losses(on_estimate=True), 0.66, gap=0.05)
    assert found.cause == found.estimated


@pytest.mark.parametrize(("estimate", "gap"), [(0.64, 0.05), (0.9, 0.11)])
def test_an_estimate_within_its_error_or_with_an_error_above_the_tolerance_is_none(estimate, gap):
    found = estimated(Losses(), estimate, gap)
    assert found.alarms == []
    assert found.worse == {"estimated_log_loss": False}


def test_a_state_goes_on_where_it_was():
    losses = Losses()
    for mean in (0.5, 0.5, 0.9):
        losses.window(mean)
    state = losses.alarms.state()
    declaration = scenario.declaration()
    restored = LossAlarms(
        declaration, Measures(declaration), losses.baseline, losses.estimates,
        design_effect=1.0, streams=1, state=state,
    )  # fmt: skip
    assert restored.state() == state
    assert restored.evaluate(1, START_MS + 3 * HOUR_MS) == losses.alarms.evaluate(1, START_MS + 3 * HOUR_MS)


def test_detectors_of_river_watch_the_loss_when_they_are_declared():
    logs = scenario.traffic(30, seed=4, shift_at=15, a_hour=200)
    engine = scenario.new_engine(scenario.declaration(detectors=["ddm", "kswin"]), partitions=2)
    found = {alarm.detector for alarm in scenario.alarms(scenario.play(engine, logs)) if alarm.kind == "loss"}
    assert {"harm", "window"} <= found
    assert found & {"river-ddm", "river-kswin"}

"""PerformanceTracker by cohorts of predictions: labels that come late, a reference or none, all tasks."""

import random

import pytest

from services.drift.performance import performance
from services.drift.performance.performance import PerformanceTracker
from services.monitoring.model_metrics import NumericPrediction
from services.runtime.declaration import ModelDeclaration
from streams import records
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS


def figure(report, measure, segment=""):
    (found,) = [each for each in report.segments if each.segment == segment]
    return next(each for each in found.figures if each.measure == measure)


def latest(reports, state):
    return {each.window_start_ms: each for each in reports if each.state == state}


def error_of(stream):
    error = stream.performance.estimates.error
    assert error is not None
    return error


class Stream:
    """A model whose wrong predictions get their labels later than its correct ones."""

    def __init__(self, declaration=None, reference=None, *, horizon_hours=12):
        document = scenario.document(mature_share=0.98)
        document["label"]["horizon_hours"] = horizon_hours
        self.performance = PerformanceTracker(declaration or ModelDeclaration.model_validate(document))
        self.performance.follow(1, reference)
        self.reports = []
        self._chance = random.Random(3)
        self._waiting = []

    def run(self, hours, *, error=0.3, late_hours=3.0, late_label=0.0, a_hour=400):
        """Predict and label for some hours; labels equal to ``late_label`` come ``late_hours`` later."""
        chance = self._chance
        for hour in hours:
            for _ in range(a_hour):
                time_ms = START_MS + hour * HOUR_MS + chance.randrange(HOUR_MS)
                score = chance.uniform(0.1, 0.9)
                label = float(chance.random() < (score + error if score < 0.5 else score - error))
                segments = [f"colour={chance.choice(scenario.COLOURS)}"]
                self.performance.add_prediction(time_ms, score, segments)
                slow = label == late_label
                delay_ms = chance.randrange(HOUR_MS // 2) + round(late_hours * HOUR_MS) * slow
                if chance.random() < 0.9:
                    self._waiting.append((time_ms + delay_ms, time_ms, score, label, segments))
            self._close(START_MS + (hour + 1) * HOUR_MS)

    def rest(self, first_hour, hours):
        for hour in range(first_hour, first_hour + hours):
            self._close(START_MS + (hour + 1) * HOUR_MS)

    def _close(self, now_ms):
        self._waiting.sort()
        while self._waiting and self._waiting[0][0] < now_ms:
            label_ms, time_ms, score, label, segments = self._waiting.pop(0)
            answer = NumericPrediction(score, float(score >= 0.5))
            self.performance.add_label(time_ms, label_ms, 1, answer, label, segments)
        self.reports += self.performance.close_window(now_ms, self.performance.lineage)


@pytest.fixture(scope="module")
def stream():
    found = Stream(reference=scenario.reference())
    found.run(range(40), error=0.0)
    found.rest(40, 14)
    return found


def test_early_labels_are_biased_and_mature_ones_are_not(stream):
    """Labels of 0 come three hours later: at first nearly all known labels are 1, in the end half of them."""
    provisional, mature = latest(stream.reports, "provisional"), latest(stream.reports, "mature")
    steady = sorted(mature)[20:]
    naive = [figure(provisional[start], "false_positive").realised for start in steady]
    final = [figure(mature[start], "false_positive").realised for start in steady]
    assert sum(naive) / len(naive) < 0.01
    assert sum(final) / len(final) == pytest.approx(0.15, abs=0.01)
    intervals = [(figure(mature[start], "false_positive").low, figure(mature[start], "false_positive").high)
                 for start in steady]  # fmt: skip
    assert sum(low <= 0.15 <= high for low, high in intervals) >= 0.8 * len(steady)


def test_a_cohort_is_provisional_until_nearly_all_its_labels_have_come(stream):
    first, later = START_MS, START_MS + 20 * HOUR_MS
    by_start: dict[int, list[records.PerformanceReport]] = {}
    for report in stream.reports:
        by_start.setdefault(report.window_start_ms, []).append(report)
    # Without known delays a cohort is mature when its horizon has passed.
    assert [each.state for each in by_start[first]] == ["provisional", "complete"]
    assert by_start[first][0].maturity is None
    assert by_start[first][1].as_of_ms == START_MS + 13 * HOUR_MS
    assert [each.state for each in by_start[later]][:2] == ["provisional", "mature"]
    provisional, mature = by_start[later][:2]
    assert [each.maturity is not None and each.maturity >= 0.98 for each in (provisional, mature)] == [
        False,
        True,
    ]
    assert mature.as_of_ms == later + 5 * HOUR_MS
    assert mature.labels / mature.predictions == pytest.approx(0.9, abs=0.04)
    assert [each.revision for each in by_start[later]] == list(range(len(by_start[later])))


def test_running_figures_take_mature_cohorts_and_end_with_every_label(stream):
    last = stream.reports[-1]
    (whole,) = [each for each in last.segments if not each.segment]
    complete = [each for each in stream.reports if each.window_end_ms <= last.window_end_ms]
    labels = {each.window_start_ms: each.labels for each in complete}
    assert whole.running_labels == sum(labels.values())
    accuracy = figure(last, "accuracy")
    assert accuracy.running_low < 0.7 < accuracy.running_high
    assert accuracy.running_high - accuracy.running_low < 0.06
    segments = [each for each in last.segments if each.segment]
    assert [each.segment for each in segments] == ["colour=blue", "colour=green", "colour=red"]
    assert sum(each.running_labels for each in segments) == whole.running_labels
    assert sum(each.predictions for each in segments) == whole.predictions


def test_an_estimate_comes_before_the_labels_and_its_gap_with_them(stream):
    provisional, mature = latest(stream.reports, "provisional"), latest(stream.reports, "mature")
    start = max(mature)
    assert figure(provisional[start], "accuracy").estimated == pytest.approx(0.7, abs=0.02)
    assert figure(provisional[start], "auc").estimated == pytest.approx(0.756, abs=0.03)
    after = figure(mature[start], "accuracy")
    assert after.estimated == figure(provisional[start], "accuracy").estimated
    assert after.gap == after.realised - after.estimated
    assert mature[start].estimate_error < 0.03


def test_estimates_follow_the_scores_but_not_a_change_of_their_calibration():
    """Only the gap shows that predictions with the same score are wrong more often."""
    stream = Stream(reference=scenario.reference())
    stream.run(range(30), error=0.0)
    assert error_of(stream) < 0.05
    stream.run(range(30, 50), error=0.4)
    assert error_of(stream) > 0.2
    last = [each for each in stream.reports if each.state == "mature"][-1]
    assert figure(last, "log_loss").gap > 0.2


def test_held_out_scores_of_the_reference_give_estimates_from_the_first_window_on():
    sums = {"labels": [250.0] * 4, "positives": [50.0, 100, 150, 200], "log_loss": [125.0] * 4,
            "accuracy": [200.0, 150, 150, 200], "brier": [50.0] * 4, "false_positive": [0.0] * 4,
            "false_negative": [0.0] * 4}  # fmt: skip
    known = records.Reference(
        version=1, features=[], score=scenario.reference().score, log_loss=0.5, score_sums=sums
    )
    stream = Stream(reference=known)
    stream.run(range(1), error=0.0)
    assert figure(stream.reports[0], "accuracy").estimated == pytest.approx(0.7, abs=0.01)
    assert figure(stream.reports[0], "log_loss").estimated == pytest.approx(0.5)


def test_after_a_promotion_the_cohorts_of_the_old_champion_still_mature():
    stream = Stream(reference=scenario.reference())
    stream.run(range(10), error=0.0)
    stream.performance.add_prediction(START_MS + 10 * HOUR_MS, 0.5, [])
    stream.performance.follow(2, scenario.reference(2))
    stream.performance.add_prediction(START_MS + 10 * HOUR_MS + 1, 0.5, [])
    stream.rest(10, 20)
    old = [each for each in stream.reports if each.version == 1 and each.as_of_ms > START_MS + 11 * HOUR_MS]
    new = [each for each in stream.reports if each.version == 2]
    final = {each.window_start_ms: each.labels > 0 for each in old if each.state != "provisional"}
    assert [final[start] for start in sorted(final)] == [True] * 10 + [False]
    assert {each.window_start_ms for each in new} == {START_MS + 10 * HOUR_MS}
    assert all(each.segments[0].running_labels == 0 for each in old)
    assert stream.performance.open_cohorts == 0


def test_the_number_of_open_cohorts_is_bounded():
    document = scenario.document()
    document["label"]["horizon_hours"] = 24 * 30
    stream = Stream(ModelDeclaration.model_validate(document))
    stream.run(range(24 * 33), a_hour=1)
    assert 200 < stream.performance.open_cohorts <= performance.COHORTS_MAX + 2

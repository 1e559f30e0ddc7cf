"""Traffic of the monitoring benchmark: records as scoring writes them, labels in the order they are known."""

import msgspec
import numpy as np
import pytest

from bench.monitoring import generators, traffic
from bench.monitoring.traffic import START_MS, Labels, Monitored, Traffic
from services.runtime.declaration import DAY_MS
from streams import records


def two_days(**changes):
    columns = {"x": np.array([0.5, np.nan, 1.5, 2.0]), "name": np.array(["a", None, "b", "a"], dtype=object)}
    return Traffic(traffic.times(4, 2), columns, np.array([0.1, 0.2, 0.7, 0.4]), **changes)


def test_a_missing_value_is_none():
    made = traffic.predictions(two_days(), 0, 4)
    assert [each.features for each in made] == [[0.5, "a"], [None, None], [1.5, "b"], [2.0, "a"]]
    assert [each.prediction for each in made] == [0, 0, 1, 0]


def test_the_second_version_answers_from_its_promotion_on():
    made = traffic.predictions(two_days(promoted_at_ms=START_MS + DAY_MS), 0, 4)
    assert [each.version for each in made] == [1, 1, 2, 2]


def test_labels_are_in_the_order_in_which_they_become_known():
    labels = Labels.of(np.array([30, 10, 20]), np.array([1, 0, 1], dtype=np.int8))
    assert labels.requests.tolist() == [1, 2, 0]
    assert labels.times_ms.tolist() == [10, 20, 30]
    assert labels.positives.tolist() == [0, 1, 1]


def test_times_end_where_they_are_asked_to():
    assert traffic.times(3, 2, end_ms=START_MS)[-1] == START_MS - DAY_MS // 2


def test_played_traffic_gives_a_report_for_each_window_and_joins_all_labels():
    declared = traffic.declaration(["x"], horizon_hours=48)
    known = traffic.known_reference(
        declared,
        {"x": np.arange(100.0)},
        held_out=generators.even_scores(np.random.default_rng(1), 500),
    )
    monitored = Monitored(declared, known)
    times_ms = traffic.times(40, 20)
    labels = Labels.of(times_ms + DAY_MS // 4, np.ones(40, dtype=np.int8))
    monitored.play(Traffic(times_ms, {"x": np.arange(40.0)}, np.full(40, 0.3), labels))
    assert [report.predictions for report in monitored.reports] == [20, 20]
    assert monitored.reports[-1].reference_log_loss == pytest.approx(known.log_loss)
    assert monitored.engine.totals.joined == 35  # the last labels become known after the last window


def test_an_alarm_concerns_the_features_of_its_subject():
    alarm = msgspec.convert(
        dict.fromkeys(("alarm_id", "model", "message"), "")
        | dict.fromkeys(("version", "value", "threshold", "detected_at_ms", "since_ms"), 0)
        | {"type": "drift_alarm", "kind": "relation", "subject": "x1 and x2"},
        records.DriftAlarm,
    )
    assert traffic.concerns(alarm, "x1")
    assert traffic.concerns(alarm, "x2", "x1")
    assert not traffic.concerns(alarm, "x")


def test_even_scores_have_the_expected_loss():
    scores, labels = generators.even_scores(np.random.default_rng(1), 20_000)
    expected = -(scores * np.log(scores) + (1 - scores) * np.log1p(-scores)).mean()
    assert -np.log(np.where(labels == 1, scores, 1 - scores)).mean() == pytest.approx(expected, abs=5e-4)

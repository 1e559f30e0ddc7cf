"""The verdict on a window, and the interval of its accuracy."""

import dataclasses

import msgspec
import pytest

from services.monitoring.reports import html_page, verdict
from services.monitoring.reports.history import WindowReport
from streams import records
from tests.unit.monitoring.reports.windows import at


def test_a_window_without_drift_needs_no_action():
    found = verdict.assess(at(5))
    assert (found.level, found.to_do) == ("calm", ("No action is needed.",))
    assert "No alarm is active" in found.why


def test_drift_without_a_loss_alarm_is_a_change():
    window = at(27)
    standing = tuple(alarm for alarm in window.standing if alarm.kind != "loss")
    found = verdict.assess(WindowReport(window.report, window.earlier, standing, ()))
    assert (found.level, found.headline) == ("changed", "Drift was detected; no loss alarm is active")
    assert "Alarms are active on x" in found.why


def test_a_window_without_a_model_cannot_be_compared():
    bare = records.DriftReport(
        report_id="r", model="m", version=0, window_start_ms=0, window_end_ms=5, predictions=7, labels=0
    )
    found = verdict.assess(WindowReport(bare, (), (), ()))
    assert (found.level, found.why) == (
        "unknown",
        "7 requests were recorded without a prediction: no model was serving.",
    )


def test_a_version_without_a_reference_is_not_called_calm():
    report = msgspec.structs.replace(at(5).report, features=[], score=None, has_reference=False)
    found = verdict.assess(WindowReport(report, (), (), ()))
    assert (found.level, found.headline) == ("unknown", "No reference: features and scores are not watched")
    assert "its features, scores, segments and relations are not compared" in found.why
    assert "--reference" in found.to_do[0]


def test_accuracy_interval_is_that_of_wilson():
    report = msgspec.structs.replace(at(5).report, labels=10, accuracy=0.9)
    assert verdict.accuracy_interval(report) == pytest.approx((0.5958, 0.9821), abs=1e-3)


def test_a_loss_alarm_outranks_all_others():
    found = verdict.assess(at(27))
    assert (found.level, found.headline) == ("harm", "The model's loss is above its limit")
    assert len(found.to_do) == len({alarm.kind for alarm in at(27).standing})


def test_a_window_without_predictions_says_so():
    empty = msgspec.structs.replace(at(5).report, predictions=0, features=[])
    found = verdict.assess(WindowReport(empty, (), (), ()))
    assert (found.level, found.why) == ("unknown", "This window has no predictions.")


def test_drift_in_one_window_without_an_alarm_is_calm_and_named():
    report = at(5).report
    drifted = [msgspec.structs.replace(each, drifted=each.feature == "x") for each in report.features]
    found = verdict.assess(
        WindowReport(msgspec.structs.replace(report, features=drifted, log_loss=None), (), (), ())
    )
    assert found.level == "calm"
    assert found.why == (
        "Only this window differs from training, in x. There are no labels yet, so the loss is unknown."
    )


def test_features_with_drift_are_ranked_first_by_their_excess():
    report = at(5).report
    first, second = report.features
    features = [
        msgspec.structs.replace(first, feature="small", drifted=False, psi=0.9, threshold=0.2),
        msgspec.structs.replace(second, feature="drifted", drifted=True, psi=0.3, threshold=0.2),
        msgspec.structs.replace(second, feature="more", drifted=True, psi=0.5, threshold=0.2),
    ]
    found = verdict.ranked(msgspec.structs.replace(report, features=features))
    assert [each.feature for each in found] == ["more", "drifted", "small"]


def test_without_labels_there_is_no_accuracy_interval():
    assert verdict.accuracy_interval(msgspec.structs.replace(at(5).report, labels=0)) is None


def test_features_that_are_not_compared_are_said_where_nothing_drifted():
    report = at(5).report
    lacking = msgspec.structs.replace(report.features[0], compared=False)
    found = verdict.assess(
        WindowReport(msgspec.structs.replace(report, features=[lacking, *report.features[1:]]), (), (), ())
    )
    assert found.why.startswith(f"No alarm is active. 1 of {len(report.features)} features is not compared")


def performance(positives: int, state: str = "complete") -> records.PerformanceReport:
    """Return a report with 200 labels, of which so many are 1."""
    known = at(5).performance
    assert known is not None
    whole = msgspec.structs.replace(
        known.segments[0], positives=[positives, 0], negatives=[150, 50 - positives]
    )
    return msgspec.structs.replace(known, labels=200, segments=[whole], state=state)


def test_rare_positives_are_shown_by_precision_and_recall_of_the_latest_known_window():
    provisional = msgspec.structs.replace(performance(0, "provisional"), labels=0)
    window = dataclasses.replace(at(5), performances=(performance(4), provisional))
    found = verdict.rare_positives(window)
    assert found is not None
    figures = {each.measure: each.realised for each in performance(4).segments[0].figures}
    assert (found.share, found.precision, found.recall) == (0.02, figures["precision"], figures["recall"])
    page = html_page.as_html(window)
    assert "<dt>Accuracy</dt>" not in page
    assert "<dt>Positive labels</dt><dd>2.0%</dd>" in page


def test_accuracy_is_shown_where_positives_are_not_rare():
    assert verdict.rare_positives(dataclasses.replace(at(5), performances=(performance(20),))) is None
    assert verdict.rare_positives(dataclasses.replace(at(5), performances=())) is None
    assert "<dt>Accuracy</dt>" in html_page.as_html(at(5))

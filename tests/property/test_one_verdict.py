"""Report, page, dashboard and the export for Evidently say the same about every window."""

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dashboard.drift_windows import drift_window
from services.drift.binning.binning import PredictionRows
from services.drift.references import References
from services.drift.windows.window import DriftWindow, DriftWindowState
from services.drift.windows.window_report import compare_window, make_report, sides_of
from services.monitoring.label_join import JoinTotals
from services.monitoring.model_metrics import Measures
from services.monitoring.reports import evidently_snapshot, verdict
from services.monitoring.reports.history import WindowReport
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS

DECLARATION = scenario.declaration()
shares = st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0])


def reported_window(rows, missing, new, shift, effect, seed):
    """Return the report of random rows."""
    known = scenario.reference()
    known = msgspec.structs.replace(
        known, features=[msgspec.structs.replace(each, design_effect=effect) for each in known.features]
    )
    references = References([known], DECLARATION)
    window = DriftWindow(DriftWindowState(START_MS, START_MS + HOUR_MS, champion=1))
    window.choose_version(1, references.row_binner(1))
    chance = random.Random(seed)
    found = []
    for number in range(rows):
        x = None if chance.random() < missing else chance.gauss(shift, 1)
        colour = "mauve" if chance.random() < new else chance.choices(scenario.COLOURS, (5, 3, 2))[0]
        score = min(max(chance.uniform(0.1, 0.9) + shift / 5, 0.0), 1.0)
        found.append(scenario.prediction(number, START_MS, features=[x, colour], score=score))
    together = PredictionRows(found)
    assert window.row_binner is not None
    window.count(together, window.row_binner.assign(together), 0, rows)
    compared = compare_window(window, DECLARATION)
    return make_report(
        "m", window, sides_of(window, learns=False), compared, JoinTotals(), references, Measures(DECLARATION)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300), shares, shares, st.sampled_from([0.0, 0.5, 3.0]),
    st.sampled_from([1.0, 100.0, 4600.0]), st.integers(0, 1000),
)  # fmt: skip
def test_all_say_the_same(rows, missing, new, shift, effect, seed):
    report = reported_window(rows, missing, new, shift, effect, seed)
    drifted = {each.feature for each in report.features if each.drifted}

    assert all(each.drifted == bool(each.drifted_in) for each in report.features)
    in_dashboard = drift_window(report, tuple(each.feature for each in report.features))
    assert {report.features[index].feature for index in in_dashboard.drifted} == drifted
    assert report.score is not None
    assert in_dashboard.score_drifted == report.score.drifted

    exported = msgspec.json.decode(evidently_snapshot.as_snapshot(WindowReport(report, (), (), ())))
    (counted,) = [
        each["count"]["value"]
        for each in exported["metric_results"].values()
        if each.get("display_name") == "Count of Drifted Columns"
    ]
    assert counted == len(drifted)

    page = verdict.assess(WindowReport(report, (), (), ()))
    assert (page.headline == "No drift") == (not verdict.drifted_subjects(report))
    assert drifted <= set(verdict.drifted_subjects(report))


@settings(max_examples=30, deadline=None)
@given(st.integers(60, 300), st.sampled_from([1.0, 30.0]), st.integers(0, 1000))
def test_a_feature_without_values_has_drifted_in_every_account(rows, effect, seed):
    if rows < 10 * effect:
        rows = int(10 * effect)
    report = reported_window(rows, 1.0, 0.0, 0.0, effect, seed)
    drifted = {each.feature: each for each in report.features}["x"]
    assert drifted.drifted
    assert "missing" in drifted.drifted_in
    assert drifted.p_value < 1e-5

"""The comparison of a window, and its report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.drift.binning.binning import PredictionRows, RowBinner
from services.drift.references import References
from services.drift.windows.window import DriftWindow, DriftWindowState
from services.drift.windows.window_report import compare_window, make_report, sides_of
from services.monitoring import reference
from services.monitoring.label_join import JoinTotals
from services.monitoring.model_metrics import Measures
from streams import records
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS

DECLARATION = scenario.declaration(segments=["colour"])


def window(rows: int, x: float = 0.1) -> DriftWindow:
    found = DriftWindow(DriftWindowState(START_MS, START_MS + HOUR_MS, champion=1))
    if not rows:
        return found
    binner = RowBinner(scenario.reference(), DECLARATION)
    found.choose_version(1, binner)
    together = PredictionRows(
        [scenario.prediction(number, START_MS, features=[x, "red"]) for number in range(rows)]
    )
    found.count(together, binner.assign(together), 0, rows)
    return found


def report_of(found: DriftWindow, totals: JoinTotals):
    references = References([scenario.reference()], DECLARATION)
    compared = compare_window(found, DECLARATION)
    return make_report(
        "m", found, sides_of(found, learns=False), compared, totals, references, Measures(DECLARATION)
    )


def test_a_window_without_predictions_has_nothing_to_compare() -> None:
    compared = compare_window(window(0), DECLARATION)
    assert (compared.features, compared.outputs, compared.quality, compared.contributions) == ([], {}, [], [])


def test_features_scores_confidence_and_relations_are_compared() -> None:
    compared = compare_window(window(300), DECLARATION)
    assert [each.drift.feature for each in compared.features] == ["x", "colour"]
    assert all(each.drift.drifted for each in compared.features)
    assert set(compared.outputs) == {"score"}
    assert compared.confidence is not None
    assert compared.relations is not None
    assert compared.contributions[0].feature in {"x", "colour"}


def test_each_report_of_a_window_is_the_next_revision() -> None:
    found, totals = window(10), JoinTotals(joined=3, orphaned=2)
    revisions = [report_of(found, totals) for _ in range(2)]
    assert [each.revision for each in revisions] == [0, 1]
    assert len({each.report_id for each in revisions}) == 1
    assert (revisions[0].labels_joined_total, revisions[0].labels_orphaned_total) == (3, 2)


def test_a_report_has_the_reference_loss_and_the_segments() -> None:
    report = report_of(window(10), JoinTotals())
    assert (report.version, report.predictions) == (1, 10)
    assert report.reference_log_loss == pytest.approx(0.58)
    segments = {each.segment: each for each in report.segments}
    assert {name: each.predictions for name, each in segments.items()} == {
        "colour=blue": 0,
        "colour=green": 0,
        "colour=red": 10,
    }
    assert segments["colour=red"].score_psi is not None
    assert segments["colour=blue"].score_psi is None


def test_an_empty_window_reports_the_champion_when_it_closed() -> None:
    report = report_of(window(0), JoinTotals())
    assert (report.version, report.features, report.score_psi) == (1, [], None)


NUMBERS = [0.0, 1.0, -1.5, 1e300, -1e300, 5e-324, 1e15, None]
COLUMNS = st.one_of(
    st.sampled_from(NUMBERS).map(lambda value: [value] * 40),
    st.tuples(*[st.sampled_from(NUMBERS)] * 2).map(lambda pair: [*pair] * 20),
    st.lists(st.sampled_from(NUMBERS), min_size=40, max_size=40),
)
"""Of 40 rows: constant, in two equal halves, or of a few values, the largest and smallest included."""


def degenerate_report(known: Sequence[Sequence[Any]], rows: Sequence[Sequence[Any]], score: float) -> Any:
    """Return the report of a window whose reference has these values of x and y."""
    declared = scenario.declaration()
    columns = [np.array(column, dtype=np.float64) for column in known]
    references = [reference.of_numbers(f"{at}", column) for at, column in zip("xy", columns, strict=True)]
    made = records.Reference(
        version=1,
        features=references,
        pairs=reference.of_pairs(references, columns, np.zeros(len(columns[0]), dtype=np.int64)),
        score=reference.of_numbers("score", np.full(40, 0.5)),
        log_loss=0.5,
    )
    binner = RowBinner(made, declared)
    found = DriftWindow(DriftWindowState(START_MS, START_MS + HOUR_MS, champion=1))
    found.choose_version(1, binner)
    together = PredictionRows(
        [scenario.prediction(n, START_MS, features=list(row), score=score) for n, row in enumerate(rows)]
    )
    found.count(together, binner.assign(together), 0, len(rows))
    compared = compare_window(found, declared)
    kept = References([made], declared)
    return make_report(
        "m", found, sides_of(found, learns=False), compared, JoinTotals(), kept, Measures(declared)
    )


@settings(max_examples=200)
@given(
    COLUMNS,
    COLUMNS,
    COLUMNS,
    COLUMNS,
    st.sampled_from([True, False]),
    st.integers(1, 40),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_every_number_of_a_report_survives_encoding(
    known_x: list[Any], known_y: list[Any], x: list[Any], y: list[Any], pair: str, rows: int, score: float
) -> None:
    """JSON has no number for nan and infinity: a report that held one could not be read."""
    known = [known_x, known_x if pair == "equal" else known_y]
    now = [x, x if pair == "equal" else y]
    report = degenerate_report(known, list(zip(*now, strict=True))[:rows], score)
    assert records.decoder_of(records.DriftReport).decode(records.encode(report)) == report


def test_relation_of_two_equal_features_is_watched() -> None:
    equal = [0.0, 1.0] * 20
    report = degenerate_report([equal, equal], list(zip(equal, [1.0, 0.0] * 20, strict=True)) * 20, 0.5)
    (pair,) = report.relations.pairs
    assert (pair.drifted, pair.p_value < 1e-6) == (True, True)

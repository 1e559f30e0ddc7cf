"""Comparison of served and recomputed values, and the report of the differences."""

import pytest

from services.features.offline.skew_report import (
    EXAMPLES_MAX,
    ComparisonResult,
    FeatureSkew,
    SkewReport,
    compare_values,
    report_lines,
)
from streams.records import FeatureValue


@pytest.fixture
def report() -> SkewReport:
    return SkewReport(model="m", features=[FeatureSkew(view="v", feature="x")])


@pytest.mark.parametrize(
    ("served", "recomputed", "result"),
    [
        (1.0, 1.0, ComparisonResult.EQUAL),
        (None, None, ComparisonResult.EQUAL),
        ("ok", "ok", ComparisonResult.EQUAL),
        (1.0, 2.0, ComparisonResult.MISMATCHED),
        (0.0, -0.0, ComparisonResult.MISMATCHED),
        ("1", 1.0, ComparisonResult.MISMATCHED),
        (None, 1.0, ComparisonResult.MISSING),
        (1.0, None, ComparisonResult.EXTRA),
    ],
)
def test_compared_bit_by_bit(
    served: FeatureValue, recomputed: FeatureValue, result: ComparisonResult
) -> None:
    assert compare_values(served, recomputed) is result


def test_each_kind_of_difference_is_counted_measured_and_listed(report: SkewReport):
    for served, recomputed in [(1.0, 1.0), (None, None), (3.0, 1.0), (None, 2.0), (2.0, None), (0.0, -0.0)]:
        report.compare("r", 7, [served], [recomputed])
    (item,) = report.features
    assert (item.equal, item.mismatched, item.missing, item.extra) == (2, 2, 1, 1)
    assert (report.checked, report.different, report.checked_until_ms) == (6, 4, 7)
    assert (item.distance_max, item.smape) == (2.0, 0.25)
    lines = report_lines(report)
    assert "6 requests compared, 4 values differ" in lines[0]
    assert "r at 7: x mismatched: served 3.0, recomputed 1.0" in lines[2]


def test_texts_have_no_distance(report: SkewReport):
    report.compare("r", 7, ["ok"], ["böse"])
    assert (report.features[0].mismatched, report.features[0].distance_max) == (1, 0.0)


def test_only_the_newest_differences_are_listed(report: SkewReport):
    for number in range(50):
        report.compare(f"r{number}", number, [1.0], [2.0])
    newest = [f"r{n}" for n in range(50 - EXAMPLES_MAX, 50)]
    assert [difference.prediction_id for difference in report.differences] == newest
    assert EXAMPLES_MAX == 20

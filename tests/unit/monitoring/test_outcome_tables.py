"""Tables of the outcomes that a performance report counts."""

import msgspec

from services.monitoring import outcome_tables
from services.monitoring.classification import Confusion
from streams.records import PerformanceReport, SegmentPerformance

WHOLE = SegmentPerformance(segment="", predictions=20, labels=16, positives=[1, 2, 5], negatives=[7, 1, 0])
REPORT = PerformanceReport(
    report_id="r", model="m", version=1, window_start_ms=0, window_end_ms=1, as_of_ms=1, revision=0,
    state="mature", predictions=20, labels=16, maturity=1.0, segments=[WHOLE],
    threshold=0.6, thresholds=[0.4, 0.6],
)  # fmt: skip


def test_a_binary_model_has_a_table_by_threshold_and_a_matrix_at_the_declared_one():
    found = outcome_tables.of_report(REPORT, WHOLE)
    assert found.thresholds == [(0.4, Confusion(7, 1, 1, 7)), (0.6, Confusion(5, 0, 3, 8))]
    assert found.matrix == [[8, 0], [3, 5]]


def test_a_multiclass_model_has_a_table_by_class():
    whole = msgspec.structs.replace(WHOLE, positives=[], negatives=[], confusion=[[3, 1], [0, 2]])
    report = msgspec.structs.replace(REPORT, threshold=None, thresholds=[], classes=["cat", "dog"])
    found = outcome_tables.of_report(report, whole)
    assert found.classes == [("cat", Confusion(3, 0, 1, 2)), ("dog", Confusion(2, 1, 0, 3))]
    assert found.matrix == [[3, 1], [0, 2]]
    assert not found.thresholds


def test_a_record_of_an_older_version_has_no_tables():
    older = msgspec.structs.replace(REPORT, threshold=None, thresholds=[])
    whole = msgspec.structs.replace(WHOLE, positives=[], negatives=[])
    assert not any(outcome_tables.of_report(older, whole))

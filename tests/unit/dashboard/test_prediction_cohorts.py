import msgspec

from services.dashboard.prediction_cohorts import cohort_id, prediction_cohort
from streams.records import (
    Figure,
)
from tests.unit.dashboard.reports import performance


def test_a_cohort_holds_its_counts_by_threshold_and_only_small_matrices() -> None:
    made = performance(1, 2.0, "mature")
    recall = Figure(measure="recall", realised=0.75)
    whole = msgspec.structs.replace(
        made.segments[0], positives=[1, 3], negatives=[5, 0], figures=[*made.segments[0].figures, recall]
    )
    binary = prediction_cohort(
        msgspec.structs.replace(made, segments=[whole], threshold=0.5, thresholds=[0.5])
    )
    assert (binary.threshold, binary.thresholds) == (0.5, [0.5])
    assert (binary.positives, binary.negatives) == ([1, 3], [5, 0])
    assert (binary.recall, binary.precision) == (0.75, None)
    for size, shown in ((16, 16), (17, 0)):
        matrix = [[0] * size] * size
        figures = [*made.segments[0].figures, Figure(measure="macro_f1", realised=0.5)]
        whole = msgspec.structs.replace(made.segments[0], confusion=matrix, figures=figures)
        found = prediction_cohort(msgspec.structs.replace(made, segments=[whole], classes=["c"] * size))
        assert (len(found.confusion), len(found.classes), found.f1) == (shown, shown, 0.5)


def test_revisions_of_a_report_have_the_id_of_one_cohort() -> None:
    first, second = performance(0, 16.0, "provisional"), performance(1, 22.0, "mature")
    assert cohort_id(first) == cohort_id(second) == prediction_cohort(second).cohort_id == "1:0"

"""What a report tells about precision and recall."""

import msgspec
import pytest

from services.monitoring.reports import outcome_section
from services.monitoring.reports.outcome_section import OutcomeSection
from services.runtime.declaration import Business
from streams import records
from tests.unit.drift import scenario
from tests.unit.monitoring.reports.windows import at


def mature() -> records.PerformanceReport:
    found = at(27).performance
    assert found is not None
    return found


def section_of(performance, declaration=None) -> OutcomeSection:
    found = outcome_section.make(performance, declaration)
    assert found is not None
    return found


def with_costs(missed):
    costs = {"0": {"0": 0.0, "1": missed}, "1": {"0": 1.0, "1": -2.0}}
    return scenario.declaration().model_copy(update={"business": Business(unit="USD", costs=costs)})


def test_each_threshold_has_its_counts_and_the_declared_one_is_marked():
    performance = mature()
    section = section_of(performance, scenario.declaration())
    assert [row.threshold for row in section.rows] == performance.thresholds
    assert [row.threshold for row in section.rows if row.declared] == [0.5]
    assert {sum(row.found) for row in section.rows} == {performance.labels}
    assert section.cheapest is None


def test_costs_of_each_threshold_are_the_declared_ones():
    performance = mature()
    section = section_of(performance, with_costs(missed=100.0))
    assert section.cheapest is not None
    assert section.cheapest.threshold < 0.2  # a missed label costs 100 times a false alarm
    row = next(row for row in section.rows if row.declared)
    right, wrong, missed, _ = row.found
    assert row.cost == pytest.approx((wrong + 100 * missed - 2 * right) / performance.labels)


def test_a_large_matrix_is_left_out():
    classes = [f"c{number}" for number in range(17)]
    matrix = [[1] * 17] * 17
    whole = records.SegmentPerformance(segment="", predictions=289, labels=289, confusion=matrix)
    performance = msgspec.structs.replace(
        mature(), segments=[whole], classes=classes, threshold=None, thresholds=[]
    )
    section = section_of(performance)
    assert (len(section.classes), section.names, section.matrix) == (17, (), ())


def test_without_labels_there_is_no_section():
    assert outcome_section.make(None, None) is None
    assert outcome_section.make(msgspec.structs.replace(mature(), labels=0), None) is None

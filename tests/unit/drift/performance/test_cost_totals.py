"""The cost of all predictions since counting began."""

import msgspec
import numpy as np
import pytest

from services.drift.performance.cohorts import RAW, LabelledRow, PredictionCohort
from services.drift.performance.cost_totals import LINEAGES_MAX, CostTotals, CostTotalsState
from streams import records

MEASURES = ("log_loss", "cost")


def reference(cost):
    measures = {} if cost is None else {"cost": cost}
    return records.Reference(version=1, features=[], score=None, log_loss=0.5, measures=measures)


def moments(total):
    made = np.zeros((2, 4))
    made[1, RAW] = total
    return made


def cohort(version, costs=()):
    made = PredictionCohort(0, 1000, version, cells=0, measures=2, ranges=None)
    if costs:
        made.add_labels([LabelledRow([], 0, 0, 0, 1.0, [0.5, cost]) for cost in costs])
    return made


def of(account: CostTotals, cohort: PredictionCohort) -> records.CostAccount:
    found = account.account(cohort)
    assert found is not None
    return found


def test_costs_of_all_champions_are_added_and_compared_with_their_own_reference():
    account = CostTotals(MEASURES, CostTotalsState())
    account.follow(1, reference(2.0))
    account.add(1, 10, moments(25.0))
    account.follow(2, reference(1.0))
    account.add(2, 4, moments(2.0))
    account.add(1, 1, moments(3.0))  # a late label of the previous champion
    found = of(account, cohort(2, [0.5, 1.5]))
    assert (found.total, found.reference) == (2.0, 1.0)
    assert found.before == pytest.approx(28 / 11)
    assert (found.cumulative_labels, found.cumulative) == (15, 30.0)
    assert (found.compared_labels, found.saved) == (15, (20 - 25) + (4 - 2) + (2 - 3))
    assert of(account, cohort(1)).before is None


def test_a_champion_without_a_reference_counts_without_a_comparison():
    account = CostTotals(MEASURES, CostTotalsState())
    account.follow(1, None)
    account.add(1, 10, moments(25.0))
    account.follow(2, reference(None))
    account.add(2, 1, moments(1.0))
    found = of(account, cohort(2))
    assert (found.reference, found.compared_labels, found.saved) == (None, 0, None)
    assert (found.cumulative, found.before) == (26.0, 2.5)


def test_the_order_of_labels_does_not_matter_and_a_restart_goes_on():
    totals = [0.1, 0.7, -0.3, 1e6]
    states = []
    for order in (totals, totals[::-1]):
        account = CostTotals(MEASURES, CostTotalsState())
        account.follow(1, reference(0.1))
        for total in order:
            account.add(1, 1, moments(round(total * 2**20) / 2**20))
            stored = msgspec.json.encode(account.state)
            account = CostTotals(MEASURES, msgspec.json.decode(stored, type=CostTotalsState))
        states.append(account.state)
    assert states[0] == states[1]


def test_remembered_champions_are_bounded_and_an_earlier_one_may_come_back():
    account = CostTotals(MEASURES, CostTotalsState())
    for lineage in range(1, LINEAGES_MAX + 3):
        account.follow(lineage, None)
        account.add(lineage, 1, moments(float(lineage)))
    assert len(account.state.champions) == LINEAGES_MAX
    account.add(1, 1, moments(1.0))  # it is forgotten, but its cost counts
    assert account.state.labels == LINEAGES_MAX + 3
    account.follow(5, None)
    assert of(account, cohort(5)).before == LINEAGES_MAX + 2


def test_without_declared_costs_there_is_no_account():
    account = CostTotals(("log_loss",), CostTotalsState())
    account.follow(1, reference(1.0))
    account.add(1, 1, np.zeros((1, 4)))
    assert account.account(cohort(1)) is None
    assert account.state == CostTotalsState()

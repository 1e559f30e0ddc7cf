"""Which windows count towards the accuracy objective, and what is left of the budget."""

from typing import Any

import pytest

from services.monitoring import error_budget
from services.monitoring.error_budget import ErrorBudget, EventCount
from streams.records import DriftReport
from tests.unit.drift import scenario
from tests.unit.monitoring.objectives import declaration

DAY_MS = 86_400_000


def report(day: int, loss: float | None = 0.5, **changes: Any) -> DriftReport:
    given: dict[str, Any] = {
        "report_id": str(day), "model": "m", "version": 1, "window_start_ms": (day - 1) * DAY_MS,
        "window_end_ms": day * DAY_MS, "predictions": 10, "labels": 10, "log_loss": loss,
        "reference_log_loss": 0.45, "accuracy": 0.8,
    }  # fmt: skip
    return DriftReport(**(given | changes))


def test_a_window_is_good_within_the_tolerance_and_only_those_of_the_period_count():
    days = [report(day, loss=0.56 if day in (3, 12) else 0.5) for day in range(1, 15)]
    budget = error_budget.accuracy_budget(declaration(), days, 14 * DAY_MS)
    assert budget is not None
    assert budget.count == EventCount(9, 1)
    assert budget.bad_share == 0.1
    assert budget.left == pytest.approx(0)


def test_the_tolerance_of_the_objective_counts_and_windows_without_a_loss_do_not():
    strict = declaration(accuracy={"objective": 0.9, "loss_tolerance": 0.01})
    assert strict.slo.accuracy is not None
    assert error_budget.count_window(strict.slo.accuracy, 0.1, report(1)) == EventCount(0, 1)
    assert error_budget.count_window(strict.slo.accuracy, 0.1, report(1, loss=None)) == EventCount()
    assert (
        error_budget.count_window(strict.slo.accuracy, 0.1, report(1, reference_log_loss=None))
        == EventCount()
    )


def test_what_the_reference_is_too_small_to_tell_is_no_bad_window():
    objective = declaration(accuracy={"objective": 0.9, "loss_tolerance": 0.01}).slo.accuracy
    assert objective is not None
    for error, expected in ((0.06, EventCount(1, 0)), (0.04, EventCount(0, 1))):
        found = report(1, loss=0.5, reference_loss=0.45, reference_loss_error=error)
        assert error_budget.count_window(objective, 0.0, found) == expected


def test_predictions_are_counted_by_their_labels():
    of_answers = declaration(accuracy={"objective": 0.75, "measure": "answers"})
    budget = error_budget.accuracy_budget(of_answers, [report(1), report(2, accuracy=None)], 2 * DAY_MS)
    assert budget is not None
    assert budget.count == EventCount(8, 2)
    assert budget.left == pytest.approx(0.2)


def test_without_an_objective_or_windows_there_is_no_budget():
    assert error_budget.accuracy_budget(scenario.declaration(), [report(1)], DAY_MS) is None
    budget = error_budget.accuracy_budget(declaration(), [], DAY_MS)
    assert budget is not None
    assert budget.left is None
    assert error_budget.declared_objectives(scenario.declaration()) == {}


def test_an_overspent_budget_is_negative():
    assert ErrorBudget(0.9, 28, EventCount(80, 20)).left == pytest.approx(-1)

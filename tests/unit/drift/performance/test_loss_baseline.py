"""The mean loss or cost that is to be expected of a champion, and its limit."""

import msgspec
import pytest

from services.drift.performance import loss_baseline
from services.drift.performance.loss_baseline import LossBaseline
from services.monitoring.model_metrics import COST, MeasureRange, Measures
from services.runtime.declaration import ModelDeclaration
from tests.unit.drift import scenario

COSTS = {"unit": "USD", "costs": {"0": {"0": 0, "1": 30}, "1": {"0": 2, "1": 0}}, "tolerance": 1}


def new_baseline(task="binary", **sections):
    document = scenario.document() | {"task": task} | sections
    if task == "regression":
        del document["label"]["positive_above"], document["gates"]
    declaration = ModelDeclaration.model_validate(document)
    return LossBaseline(declaration, Measures(declaration))


def test_the_reference_gives_baseline_and_limit():
    baseline = new_baseline()
    assert baseline.compare(0.6) is None
    baseline.follow(scenario.reference(log_loss=0.58))
    assert (baseline.value, baseline.limit) == (0.58, pytest.approx(0.68))
    found = baseline.compare(0.7)
    assert found is not None
    assert (found.measure, found.current, found.is_worse, found.unit) == ("log_loss", 0.7, True, "")


def test_where_harm_is_cost_costs_are_compared_in_their_unit():
    baseline = new_baseline(business=COSTS, retraining={"harm": "cost"})
    baseline.follow(msgspec.structs.replace(scenario.reference(), measures={COST: 1.35}))
    found = baseline.compare(2.0)
    assert found is not None
    assert (found.measure, found.baseline, found.tolerance, found.unit) == (COST, 1.35, 1, "USD")
    assert baseline.range == MeasureRange(0, 30)


def test_a_reference_without_the_measure_gives_no_baseline():
    baseline = new_baseline(business=COSTS, retraining={"harm": "cost"})
    baseline.follow(scenario.reference())
    assert baseline.limit is None


def test_without_a_reference_the_first_windows_give_the_baseline_and_the_first_errors_the_scale():
    baseline = new_baseline("regression")
    errors = [float(number % 10) for number in range(1000)]
    scaled = [baseline.add([error, error**2, error]) for error in errors]
    assert scaled.index(True) == loss_baseline.FIRST_LABELS - 1
    assert baseline.range == MeasureRange(0.0, 9.0)
    windows = [baseline.close_window() for _ in range(3)]
    assert windows == [False, False, True]
    first = baseline.state.value
    assert first == pytest.approx(4.5 + 1.96 * 2.872 / 1000**0.5, abs=0.01)
    assert first is not None
    assert baseline.limit == pytest.approx(first * 1.1)


def test_too_few_labels_give_no_baseline_however_many_windows_pass():
    baseline = new_baseline()
    for _ in range(loss_baseline.FIRST_LABELS - 1):
        baseline.add([0.5, 1.0, 0.2, 0.0, 0.0])
    assert not any(baseline.close_window() for _ in range(10))
    assert baseline.limit is None


def test_a_state_goes_on_where_it_was():
    baseline, restored = new_baseline(), new_baseline()
    baseline.follow(scenario.reference(log_loss=0.5))
    restored.restore(baseline.state)
    assert restored.limit == baseline.limit


@pytest.mark.parametrize(("standard_error", "margin"), [(0.01, 0.1), (0.1, 0.196)])
def test_the_limit_is_at_least_the_upper_end_of_the_interval_of_the_references_mean(standard_error, margin):
    """The tolerance is 0.1."""
    baseline = new_baseline()
    known = scenario.reference(log_loss=0.58)
    baseline.follow(msgspec.structs.replace(known, measure_errors={"log_loss": standard_error}))
    assert baseline.limit == pytest.approx(0.58 + margin, abs=1e-5)
    restored = new_baseline()
    restored.restore(msgspec.json.decode(msgspec.json.encode(baseline.state), type=type(baseline.state)))
    assert restored.limit == baseline.limit

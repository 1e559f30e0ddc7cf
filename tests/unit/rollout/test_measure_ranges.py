from services.rollout import measure_ranges
from services.runtime.declaration import Business, ModelDeclaration
from tests.unit.rollout.rollout_model import declaration


def with_business(business: Business) -> ModelDeclaration:
    return declaration().model_copy(update={"business": business})


def test_range_of_a_cost_table_is_that_of_its_cells() -> None:
    business = Business(unit="USD", costs={"0": {"0": 0, "1": 30}, "1": {"0": 10, "1": -5}})
    found = measure_ranges.cost(with_business(business))
    assert (found.low, found.high) == (-5, 30)


def test_range_of_a_regression_is_that_of_the_largest_error() -> None:
    declared = with_business(Business(unit="USD", over=2, under=3))
    assert measure_ranges.cost(declared).high == 12  # the largest loss is 4


def test_equal_costs_have_a_range_all_the_same() -> None:
    business = Business(unit="USD", costs={"0": {"0": 1, "1": 1}, "1": {"0": 1, "1": 1}})
    assert measure_ranges.cost(with_business(business)).high == 2

"""The inputs of a version are those that are served."""

import pytest

from services.model_registry import model_inputs
from services.model_registry.model_inputs import InputKind, InputsError
from tests.unit.model_registry.installation import (
    GIVEN,
    declaration,
)


def test_input_that_is_not_served_is_named():
    """The remedy is in the message."""
    model_inputs.check({"x": InputKind.NUMBER}, GIVEN)
    with pytest.raises(
        InputsError, match=r"its input 'age' is not served; model.yaml declares x, colour, noise"
    ):
        model_inputs.check({"x": InputKind.NUMBER, "age": InputKind.NUMBER}, GIVEN)
    with pytest.raises(InputsError, match="its input 'colour' is a number, but is served as a text"):
        model_inputs.check({"colour": InputKind.NUMBER}, GIVEN)


def test_time_is_served_to_a_model_that_needs_a_text():
    """Its text is that of a prediction record; a model that needs a time does not get a text."""
    model_inputs.check({"at": InputKind.TEXT}, {"at": InputKind.TIME})
    with pytest.raises(InputsError, match="its input 'at' is a time, but is served as a text"):
        model_inputs.check({"at": InputKind.TIME}, {"at": InputKind.TEXT})


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "float64"),
        ([1, None], "float64"),
        ([2**53 + 1, 2], "int64"),
        ([2**53 + 1, None], "object"),
        ([1e300, 2], "float64"),
        ([2**63 - 1, -(2**63)], "int64"),
    ],
)
def test_whole_numbers_are_floats_unless_that_would_round_one(values: list[float | None], dtype: str):
    found = model_inputs.exact_numbers(values)
    assert str(found.dtype) == dtype
    if dtype != "float64":
        assert found.tolist() == values


@pytest.mark.parametrize(
    ("missing", "may_be"),
    [
        ({}, {"x": False, "colour": True, "noise": True}),
        ({"otherwise": "reject"}, {"x": False, "colour": False, "noise": False}),
        ({"fill": {"colour": "none"}, "reject": ["noise"]}, {"x": False, "colour": False, "noise": False}),
    ],
)
def test_input_may_be_missing_unless_the_declaration_excludes_it(
    missing: dict[str, object], may_be: dict[str, bool]
):
    """A feature of the store always may; a request's field if it is nullable."""
    features = {"service": "s", "from_request": ["x", "colour"], "missing": missing}
    declared = declaration(features=features)
    assert {name: model_inputs.may_be_missing(declared, name) for name in GIVEN} == may_be

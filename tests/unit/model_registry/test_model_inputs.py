"""The inputs of a version are those that are served."""

import pytest

from services.model_registry import model_inputs
from services.model_registry.model_inputs import InputKind, InputsError
from tests.unit.model_registry.installation import (
    GIVEN,
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

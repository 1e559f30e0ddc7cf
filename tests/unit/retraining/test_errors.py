"""Errors of a model's own code fail its retraining, and nothing waits for them."""

import pytest

from services.retraining.errors import RetrainingError, in_training_code


def test_an_error_of_the_training_code_is_no_outage() -> None:
    with (
        pytest.raises(RetrainingError, match=r"training\.py: FileNotFoundError: weights\.npz"),
        in_training_code(),
    ):
        raise FileNotFoundError("weights.npz")
    with pytest.raises(ZeroDivisionError), in_training_code():
        raise ZeroDivisionError

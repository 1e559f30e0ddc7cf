"""What model.yaml declares for features without a value."""

from typing import Any

import numpy as np
import pytest

from services.feature_store.missing_values import MissingPolicy, is_missing, with_missing
from services.runtime.declaration import DeclarationError, MissingValues

NAMES = ("delay", "carrier", "distance")


def columns() -> dict[str, np.ndarray[Any, Any]]:
    return {
        "delay": np.array([1.0, np.nan, 3.0]),
        "carrier": np.array(["UA", None, None], dtype=object),
        "distance": np.array([5.0, 6.0, 7.0]),
    }


def policy(**declared: Any) -> MissingPolicy:
    return MissingPolicy(MissingValues(**declared), NAMES)


def test_nan_and_none_are_missing_but_an_empty_string_is_not() -> None:
    assert is_missing(np.array([0.0, np.nan])).tolist() == [False, True]
    assert is_missing(np.array(["", None], dtype=object)).tolist() == [False, True]


def test_only_columns_that_lack_values_are_named() -> None:
    given = columns()
    found, missing = with_missing(given)
    assert {name: mask.tolist() for name, mask in missing.items()} == {
        "delay": [False, True, False],
        "carrier": [False, True, True],
    }
    assert all(found[name] is given[name] for name in NAMES)
    assert with_missing({}) == ({}, {})


def test_an_infinite_number_is_missing() -> None:
    given = {"delay": np.array([1.0, -np.inf, np.nan]), "distance": np.array([5.0, 6.0, 7.0])}
    found, missing = with_missing(given)
    np.testing.assert_array_equal(found["delay"], [1.0, np.nan, np.nan])
    assert {name: mask.tolist() for name, mask in missing.items()} == {"delay": [False, True, True]}
    assert found["distance"] is given["distance"]


def test_declared_values_replace_missing_ones_and_nothing_else() -> None:
    given = columns()
    filled = policy(fill={"delay": 0.0, "carrier": "none"}).fill(given)
    assert filled["delay"].tolist() == [1, 0, 3]
    assert filled["carrier"].tolist() == ["UA", "none", "none"]
    assert filled["distance"] is given["distance"]
    assert np.isnan(given["delay"][1])


def test_a_row_without_a_required_feature_is_refused_by_name() -> None:
    refused = policy(reject=("delay", "carrier")).refused(columns())
    assert sorted(refused) == [1, 2]
    assert "delay" in refused[1]
    assert "carrier" in refused[2]
    assert policy().refused(columns()) == {}


def test_otherwise_reject_requires_every_feature_that_has_no_declared_value() -> None:
    refused = policy(fill={"carrier": "none"}, otherwise="reject").refused(columns())
    assert sorted(refused) == [1]


@pytest.mark.parametrize("declared", [{"fill": {"delya": 0.0}}, {"reject": ("delya",)}])
def test_a_feature_that_the_model_does_not_have_is_an_error(declared: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="delya; the features are delay, carrier, distance"):
        policy(**declared)

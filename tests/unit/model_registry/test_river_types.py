"""Only classes of the listed modules of river may occur in an estimator."""

import collections

import numpy as np
import pytest
from river import linear_model, utils

from services.model_registry import river_types
from services.model_registry.river_types import VECTOR_CLASS, VECTOR_MODULE, EstimatorError


@pytest.mark.parametrize(
    ("module", "listed"),
    [
        ("river.stats", True),
        ("river.stats.mean", True),
        ("river.statsx", False),
        ("river", False),
        ("river.drift", False),
        ("os", False),
    ],
)
def test_submodules_of_listed_modules_are_listed(module, listed):
    assert river_types.is_listed(module) is listed


def test_class_is_found_where_it_is_defined():
    kind = linear_model.LinearRegression
    assert river_types.river_class(kind.__module__, kind.__qualname__) is kind
    assert river_types.river_class(VECTOR_MODULE, VECTOR_CLASS) is not None


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("river.linear_model", "LinearRegression"),  # imported there, defined in a submodule
        ("river.base.base", "functools.partial"),
        (VECTOR_MODULE, "other"),
    ],
)
def test_other_class_is_refused(module, name):
    with pytest.raises((EstimatorError, AttributeError)):
        river_types.river_class(module, name)


def test_class_with_state_beyond_its_attributes_is_refused():
    river_types.check_bases(linear_model.LinearRegression)

    class Counts(collections.Counter[str]):
        pass

    with pytest.raises(EstimatorError, match="its attributes are not its whole state"):
        river_types.check_bases(Counts)


def test_arrays_hold_numbers_only():
    assert river_types.number_type("<f8") == np.float64
    with pytest.raises(EstimatorError, match="only numbers and bools"):
        river_types.number_type("|O")


def test_slots_include_those_of_the_bases():
    class Base:
        __slots__ = ("a",)

    class Derived(Base):
        __slots__ = ("__weakref__", "b")

    assert river_types.slots(Derived) == {"a", "b"}
    assert river_types.slots(utils.Rolling) == frozenset()

"""Which values of labels are numbers or classes. A null is neither."""

import datetime as dt
import math
from typing import Any

import pytest

from services.monitoring.label_values import LabelValues, absent_label
from services.runtime.declaration import ModelDeclaration
from streams.codec import InvalidRecordError
from tests.unit.drift import scenario

KINDS = {
    "binary": ("float?", ()),
    "regression": ("float?", ()),
    "multiclass": ("string?", ("0", "1", "null")),
}


def values(task: str) -> LabelValues:
    document = scenario.document() | {"task": task}
    kind, classes = KINDS[task]
    document["label"]["schema"]["y"] = kind
    if task != "binary":
        del document["gates"], document["label"]["positive_above"]
    if classes:
        document["classes"] = classes
    return LabelValues(ModelDeclaration.model_validate(document))


@pytest.mark.parametrize(
    ("task", "value", "number"),
    [
        ("binary", 15, 0.0),
        ("binary", 15.5, 1.0),
        ("binary", True, 0.0),
        ("regression", 2, 2.0),
        ("regression", -1e60, -1e60),
        ("regression", True, 1.0),
        ("multiclass", "1", 1.0),
        ("multiclass", 1, 1.0),
        ("multiclass", "null", 2.0),
    ],
)
def test_a_value_is_a_number_or_the_index_of_a_class(task: str, value: Any, number: float) -> None:
    assert values(task).number(value) == number


@pytest.mark.parametrize("task", KINDS)
def test_a_null_is_refused_and_is_never_a_class(task: str) -> None:
    with pytest.raises(InvalidRecordError, match="the label's value is null"):
        values(task).number(None)


@pytest.mark.parametrize(
    ("task", "value", "reason"),
    [
        *[(task, math.nan, "must be at most") for task in ("binary", "regression")],
        *[(task, -math.inf, "must be at most") for task in ("binary", "regression")],
        *[(task, "16", "not a number") for task in ("binary", "regression")],
        ("regression", 1.01e60, "must be at most"),
        ("regression", dt.datetime(2013, 1, 1, tzinfo=dt.UTC), "not a number"),
        *[
            ("multiclass", value, "not one of the declared classes")
            for value in (math.nan, 1.0, "", "None", "2")
        ],
    ],
)
def test_what_stands_for_no_number_is_refused(task: str, value: Any, reason: str) -> None:
    with pytest.raises(InvalidRecordError, match=reason):
        values(task).number(value)


def test_an_absent_label_has_the_number_of_its_value() -> None:
    document = scenario.document()
    assert absent_label(ModelDeclaration.model_validate(document)) is None
    bound = document["label"]["positive_above"]
    for value, number in ((bound, 0.0), (bound + 1, 1.0)):
        document["label"]["absent"] = value
        assert absent_label(ModelDeclaration.model_validate(document)) == number

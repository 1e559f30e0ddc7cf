"""Archived features become columns of their declared types."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from services.model_registry.model_inputs import InputKind
from services.retraining import feature_columns
from services.retraining.feature_columns import RowKind
from streams.feature_sets import FeatureSets, feature_set

PUBLISHED = feature_set("m", ["x", "colour"], ["colour"])
SETS = FeatureSets([PUBLISHED])
GIVEN = {"colour": InputKind.TEXT, "new": InputKind.TEXT, "x": InputKind.NUMBER}


def rows(*found: tuple[str | None, list[float | None], list[str | None]]) -> pa.Table:
    digests, numbers, texts = zip(*found, strict=True)
    return pa.table(
        {
            "feature_set": pa.array(digests, pa.string()),
            "features_number": pa.array(numbers, pa.list_(pa.float64())),
            "features_text": pa.array(texts, pa.list_(pa.string())),
        }
    )


def kind(digest: str, width: int = 2, definitions: Mapping[str, str] | None = None) -> RowKind:
    return feature_columns.kind_of_rows(digest, width, GIVEN, SETS, definitions or {})


def test_only_rows_with_known_names_and_as_many_values_are_named() -> None:
    rows = ((PUBLISHED.digest, 2), ("", 2), ("ffffffffffff", 2), (PUBLISHED.digest, 1))
    assert [kind(*each).is_named for each in rows] == [True, True, False, False]


def test_rows_with_another_definition_are_told_from_those_that_tell_none() -> None:
    defined = feature_set("m", ["x", "colour"], ["colour"], {"x": "sum of 1 h"})
    sets = FeatureSets([PUBLISHED, defined])
    now, other = {"x": "sum of 1 h"}, {"x": "sum of 3 h"}
    found = [
        feature_columns.kind_of_rows(each.digest, 2, GIVEN, sets, definitions)
        for each in (PUBLISHED, defined)
        for definitions in (now, other)
    ]
    assert found == [(True, True, False), (True, True, False), (True, True, True), (True, False, True)]


def test_a_number_in_a_text_is_found() -> None:
    assert feature_columns.holds_numbers(np.array(["a", 7.0, None], dtype=object)).tolist() == [
        False,
        True,
        False,
    ]


def test_columns_have_the_declared_order_and_type() -> None:
    found = feature_columns.columns(rows((PUBLISHED.digest, [1.0, None], [None, None])), GIVEN, SETS)
    assert list(found) == list(GIVEN)
    assert [str(each.dtype) for each in found.values()] == ["object", "object", "float64"]
    assert [each.tolist() for each in found.values()] == [[None], [None], [1.0]]


def test_a_feature_of_another_type_is_missing() -> None:
    old = feature_set("m", ["x", "colour"], ["x"])
    table = rows(
        (PUBLISHED.digest, [1.0, None], [None, "red"]),
        (old.digest, [None, 7.0], ["much", None]),
    )
    found = feature_columns.columns(table, GIVEN, FeatureSets([PUBLISHED, old]))
    assert found["colour"].tolist() == ["red", None]
    assert found["x"].tolist()[0] == 1.0
    assert np.isnan(found["x"]).tolist() == [False, True]


def test_a_number_in_a_text_feature_is_kept_for_the_validation() -> None:
    found = feature_columns.columns(rows((PUBLISHED.digest, [1.0, 7.0], [None, None])), GIVEN, SETS)
    assert found["colour"].tolist() == [7.0]
    assert np.isnan(found["x"]).sum() == 0


def test_a_time_is_a_datetime_with_its_offset_and_what_is_no_time_is_missing() -> None:
    sets = FeatureSets([feature_set("m", ["at"], ["at"])])
    texts = ["2023-10-01T12:00:00+02:00", "2023-10-01T12:00:00", "noon", None]
    found_rows: list[tuple[str | None, list[float | None], list[str | None]]] = [
        ("", [None], [text]) for text in texts
    ]
    table = rows(*found_rows)
    found = feature_columns.columns(table, {"at": InputKind.TIME}, sets)["at"].tolist()
    assert [None if each is None else each.isoformat() for each in found] == [
        "2023-10-01T12:00:00+02:00",
        "2023-10-01T12:00:00+00:00",
        None,
        None,
    ]

"""Compiled transformers give what scikit-learn's own give, or nothing at all."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from services.model_registry.sklearn_flavour.column_compiler import compiled, texts

NAMES = ["x", "colour", "y"]
FRAME = pd.DataFrame(
    {
        "x": [1.0, np.nan, 3.0, 4.0],
        "colour": np.array(["red", "green", np.nan, "blue"], dtype=object),
        "y": [0.0, 1.0, 0.5, 1.0],
    }
)
NEW = pd.DataFrame(
    {"x": [np.nan, 7.0], "colour": np.array(["violet", "red"], dtype=object), "y": [2.0, np.nan]}
)


def columns_of(frame: pd.DataFrame) -> dict[str, Any]:
    return {name: frame[name].to_numpy() for name in NAMES}


NUMBERS = make_pipeline(SimpleImputer(), StandardScaler())
LOOKUP = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


@pytest.mark.parametrize(
    "parts",
    [
        [("numbers", NUMBERS, ["x", "y"])],
        [("numbers", StandardScaler(with_mean=False), ["y", "x"])],
        [("text", LOOKUP, ["colour"]), ("numbers", "passthrough", ["y"])],
        [("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["colour"])],
        [("numbers", FunctionTransformer(), ["x"]), ("text", LOOKUP, ["colour"]), ("y", "drop", ["y"])],
    ],
)
def test_known_and_new_rows_give_scikit_learns_output(parts: list[Any]) -> None:
    step = ColumnTransformer(parts, sparse_threshold=0).fit(FRAME)
    matrix_of = compiled([step], NAMES)
    assert matrix_of is not None
    for frame in (FRAME, NEW):
        np.testing.assert_array_equal(matrix_of(columns_of(frame)), step.transform(frame).astype(float))


@pytest.mark.parametrize(
    "parts",
    [
        [("numbers", SimpleImputer(add_indicator=True), ["x"])],
        [("numbers", FunctionTransformer(np.log1p), ["y"])],
        [("numbers", PCA(1), ["y"])],
        [("text", OneHotEncoder(drop="first", handle_unknown="ignore"), ["colour"])],
        [("text", OneHotEncoder(), ["colour"])],  # an unknown category is an error there
        [("text", OrdinalEncoder(), ["colour"])],
        [("text", OneHotEncoder(handle_unknown="ignore", min_frequency=2), ["colour"])],
    ],
)
def test_what_is_not_supported_is_left_to_scikit_learn(parts: list[Any]) -> None:
    assert compiled([ColumnTransformer(parts).fit(FRAME)], NAMES) is None


def test_a_class_of_an_author_with_a_known_name_is_left_to_itself() -> None:
    step = type("StandardScaler", (StandardScaler,), {"__module__": "author"})().fit(FRAME[["x", "y"]])
    assert compiled([step], ["x", "y"]) is None


def test_an_input_is_not_changed_by_a_call() -> None:
    step = ColumnTransformer([("text", OneHotEncoder(handle_unknown="ignore"), ["colour"])]).fit(FRAME)
    matrix_of = compiled([step], NAMES)
    assert matrix_of is not None
    inputs = columns_of(FRAME)
    matrix_of(inputs)
    assert list(inputs) == NAMES


def test_all_texts_of_nested_encoders_are_found() -> None:
    inner = make_pipeline(ColumnTransformer([("text", LOOKUP, ["colour"])]))
    assert set(texts([inner.fit(FRAME)])) == {"red", "green", "blue"}

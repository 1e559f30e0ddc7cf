"""From which feature each column of a pipeline's last step comes."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from services.model_registry.sklearn_flavour.structure import Structure, chosen, structure_of

NAMES = ["x", "colour", "y"]
FRAME = pd.DataFrame(
    {"x": [1.0, 2.0, 3.0, 4.0], "colour": ["red", "green", "red", "blue"], "y": [0.0, 1.0, 0.0, 1.0]}
)
LABELS = [0, 1, 0, 1]


def frame_of(columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns, columns=NAMES)


def structure(*steps: Any) -> Structure | None:
    fitted = make_pipeline(*steps, LogisticRegression()).fit(FRAME, LABELS)
    return structure_of(fitted, NAMES, frame_of)


def test_a_step_without_transformers_has_each_feature_as_a_column() -> None:
    fitted = LogisticRegression().fit(FRAME[["x", "y"]], LABELS)
    found = structure_of(fitted, ["x", "y"], lambda columns: pd.DataFrame(columns)[["x", "y"]])
    assert found is not None
    assert found.last is fitted
    assert found.origins == ["x", "y"]


def test_columns_are_in_the_order_of_the_output_whatever_the_order_of_the_parts() -> None:
    found = structure(
        ColumnTransformer([("text", OneHotEncoder(), ["colour"]), ("numbers", StandardScaler(), ["y", "x"])])
    )
    assert found is not None
    assert found.origins == ["colour", "colour", "colour", "y", "x"]
    matrix = found.matrix_of({name: FRAME[name].to_numpy() for name in NAMES})
    assert matrix.shape == (4, 5)
    assert matrix[:, :3].sum(axis=1).tolist() == [1.0] * 4


def test_a_dropped_part_has_no_column_and_a_passed_one_keeps_its_own() -> None:
    found = structure(
        ColumnTransformer([("text", "drop", ["colour"])], remainder="passthrough"), StandardScaler()
    )
    assert found is not None
    assert found.origins == ["x", "y"]


@pytest.mark.parametrize(
    ("encoder", "count"),
    [
        (OneHotEncoder(), 3),
        (OneHotEncoder(drop="first"), 2),
        (OneHotEncoder(min_frequency=2), 2),  # red, and the rare ones together
        (OrdinalEncoder(), 1),
    ],
)
def test_an_encoder_makes_as_many_columns_as_it_says(encoder: Any, count: int) -> None:
    found = structure(ColumnTransformer([("text", encoder, ["colour"])]))
    assert found is not None
    assert found.origins == ["colour"] * count
    assert found.matrix_of({name: FRAME[name].to_numpy() for name in NAMES}).shape == (4, count)


@pytest.mark.parametrize("step", [PCA(1), FunctionTransformer(np.log1p)])
def test_a_step_that_combines_features_or_is_not_known_has_no_structure(step: Any) -> None:
    numbers = ColumnTransformer([("numbers", "passthrough", ["x", "y"])])
    assert structure(numbers, step) is None
    assert structure(ColumnTransformer([("numbers", step, ["x", "y"])])) is None


def test_an_output_of_another_width_is_an_error() -> None:
    found = structure(ColumnTransformer([("numbers", StandardScaler(), ["x", "y"])]))
    assert found is not None
    found.origins.append("x")
    with pytest.raises(ValueError, match="returned 2 columns, expected 3"):
        found.matrix_of({name: FRAME[name].to_numpy() for name in NAMES})


@pytest.mark.parametrize(
    "columns", ["colour", ["colour"], [1], slice(1, 2), [False, True, False], np.array([1])]
)
def test_a_part_may_name_its_columns_in_any_way_of_scikit_learn(columns: Any) -> None:
    assert chosen(columns, NAMES, [10, 11, 12]) == [11]

"""A fitted estimator tells what stood for a missing value in its training data."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import (
    calibration,
    compose,
    ensemble,
    impute,
    linear_model,
    model_selection,
    pipeline,
    preprocessing,
)

from services.model_registry.sklearn_flavour.fitted_markers import markers_of

LABELS = np.arange(40) % 3 == 0
ONE_HOT = preprocessing.OneHotEncoder(handle_unknown="ignore")
ORDINAL = preprocessing.OrdinalEncoder(encoded_missing_value=-1)
FILLED = impute.SimpleImputer(strategy="most_frequent")


def rows(marker: Any) -> pd.DataFrame:
    """Return a text with a missing value, one without, and a number."""
    cities = np.array(["Oslo", "Rome", marker, "Bern"] * 10, dtype=object)
    return pd.DataFrame({"city": cities, "carrier": ["a", "b"] * 20, "km": np.arange(40.0)})


def fitted(step: Any, marker: Any, last: Any = None) -> Any:
    columns = compose.ColumnTransformer([("texts", step, ["city", "carrier"]), ("km", "passthrough", ["km"])])
    line = last or linear_model.LogisticRegression()
    return pipeline.make_pipeline(columns, line).fit(rows(marker), LABELS)


def marker_of(estimator: Any) -> Any:
    """Return the marker of the city; the carrier has none unless an imputer is told so."""
    return markers_of(estimator, ["city", "carrier", "km"])["city"]


@pytest.mark.parametrize(
    "encoder",
    [
        ONE_HOT,
        ORDINAL,
        preprocessing.TargetEncoder(),
        pipeline.make_pipeline("passthrough", ONE_HOT),
        pipeline.FeatureUnion([("one", ONE_HOT), ("other", ORDINAL)]),
        pipeline.make_pipeline(FILLED, ONE_HOT),
    ],
    ids=["one hot", "ordinal", "target", "after a passthrough", "union", "after an imputer of nan"],
)
def test_encoder_keeps_the_missing_category(encoder: Any) -> None:
    """An imputer fills nan and lets None pass, which the encoder after it shows."""
    last = linear_model.LogisticRegression(max_iter=1_000)
    assert marker_of(fitted(encoder, None, last)) is None
    assert math.isnan(marker_of(fitted(encoder, math.nan, last)))


def test_imputer_is_told_what_it_fills() -> None:
    for missing, marker in ((None, None), ("?", "?")):
        imputer = impute.SimpleImputer(strategy="most_frequent", missing_values=missing)
        assert marker_of(fitted(pipeline.make_pipeline(imputer, ONE_HOT), marker)) == missing
    numbers = impute.SimpleImputer(missing_values=-999).fit([[1.0], [-999.0]])
    assert markers_of(numbers, ["km"]) == {"km": -999.0}


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: model_selection.GridSearchCV(inner, {}, cv=2),
        lambda inner: calibration.CalibratedClassifierCV(inner, cv=2),
        lambda inner: ensemble.VotingClassifier([("one", inner)]),
        lambda inner: ensemble.StackingClassifier([("one", inner)], cv=2),
    ],
    ids=["search", "calibration", "voting", "stacking"],
)
def test_estimator_inside_another_is_found(around: Any) -> None:
    """It gets the same rows."""
    estimator = around(fitted(ONE_HOT, None)).fit(rows(None), LABELS)
    assert marker_of(estimator) is None


def test_nothing_is_known_where_nothing_was_missing() -> None:
    """Neither of an estimator of numbers, nor where two steps disagree."""
    assert markers_of(fitted(ONE_HOT, "Lima"), ["city", "carrier", "km"]) == {}
    assert markers_of(linear_model.LogisticRegression().fit(rows("x")[["km"]], LABELS), ["km"]) == {}
    both = compose.ColumnTransformer([("one", ONE_HOT, ["city"]), ("two", ONE_HOT, ["city"])])
    both.fit(rows(None))
    both.transformers_[1] = ("two", preprocessing.OneHotEncoder().fit(rows(math.nan)[["city"]]), ["city"])
    assert markers_of(both, ["city", "carrier", "km"]) == {}

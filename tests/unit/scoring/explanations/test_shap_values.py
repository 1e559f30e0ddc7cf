"""Explanations by a model's structure: exact where possible, checked against the score, with their method."""

import asyncio
import functools
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PolynomialFeatures, StandardScaler

from services.model_registry.contract import Contract
from services.model_registry.model_inputs import InputKind
from services.model_registry.sklearn_flavour.model import SklearnModel
from services.model_registry.sklearn_flavour.structure import structure_of
from services.runtime.settings import Settings
from services.scoring.explanations import shap_values
from services.scoring.explanations.shap_values import ExplainedRows
from tests.unit.scoring.fakes import declaration, event, predictor

NAMES = ["hour", "carrier", "gust"]
NUMBERS = [("numbers", SimpleImputer(), ["hour", "gust"])]
ONE_HOT = ColumnTransformer(
    [("text", OneHotEncoder(handle_unknown="ignore", min_frequency=30), ["carrier"]), *NUMBERS]
)
ORDINAL = ColumnTransformer([("text", OrdinalEncoder(), ["carrier"])], remainder="passthrough")


def rows(count: int = 200) -> pd.DataFrame:
    generator = np.random.default_rng(7)
    hours, gusts = generator.integers(0, 24, count).astype(float), generator.normal(10, 4, count)
    gusts[::9] = np.nan
    carriers = generator.choice(["AA", "UA", "DL", "B6", "F9"], count, p=[0.4, 0.3, 0.2, 0.05, 0.05])
    return pd.DataFrame({"hour": hours, "carrier": carriers.astype(object), "gust": gusts})


def target(frame: pd.DataFrame) -> Any:
    return frame["hour"] * (frame["carrier"] == "UA") + frame["gust"].fillna(20) ** 2 / 20


def fitted(estimator: Any) -> Any:
    frame = rows()
    wanted = target(frame)
    return estimator.fit(frame, wanted > wanted.median() if hasattr(estimator, "predict_proba") else wanted)


def score(estimator: Any, columns: dict[str, Any]) -> Any:
    frame = pd.DataFrame(columns)
    return (
        estimator.predict_proba(frame)[:, 1] if hasattr(estimator, "classes_") else estimator.predict(frame)
    )


def columns_of(frame: pd.DataFrame) -> dict[str, Any]:
    return {name: frame[name].to_numpy() for name in NAMES}


def explained(estimator: Any) -> tuple[Any, Any, Any, Any]:
    """Explain three rows against twenty; return the explanations, the twenty, the three and their scores."""
    structure = structure_of(estimator, NAMES, pd.DataFrame)
    background, chosen = columns_of(rows().head(20)), columns_of(rows().tail(3))
    scores = score(estimator, chosen)
    if structure is None:
        return [None] * 3, background, chosen, scores
    others = score(estimator, background)
    case = ExplainedRows(NAMES, background, others, chosen, scores, [None] * 3)
    order = [0, 1] if hasattr(estimator, "classes_") else []
    return shap_values.by_structure(structure, case, order), background, chosen, scores


def shapley(estimator: Any, background: Any, row: Any) -> list[float]:
    """Compute Shapley values by their definition: the mean over all orders in which features become known."""
    count = len(background["hour"])

    @functools.cache
    def value(known: frozenset[str]) -> float:
        mixed = {name: np.repeat(row[name], count) if name in known else background[name] for name in NAMES}
        return float(score(estimator, mixed).mean())

    totals = dict.fromkeys(NAMES, 0.0)
    for order in itertools.permutations(NAMES):
        for position, name in enumerate(order):
            before, after = frozenset(order[:position]), frozenset(order[: position + 1])
            totals[name] += value(after) - value(before)
    return [total / math.factorial(len(NAMES)) for total in totals.values()]


@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        (Pipeline([("columns", ORDINAL), ("trees", HistGradientBoostingRegressor(max_iter=20))]), "tree"),
        (
            make_pipeline(ORDINAL, SimpleImputer(), RandomForestClassifier(10, max_depth=6, random_state=1)),
            "tree",
        ),
        (make_pipeline(ORDINAL, SimpleImputer(), GradientBoostingRegressor(n_estimators=20)), "tree"),
        (make_pipeline(ONE_HOT, StandardScaler(with_mean=False), Ridge()), "linear"),
    ],
    ids=["boosting", "forest", "old boosting", "linear"],
)
def test_trees_and_linear_models_have_their_exact_shapley_values(estimator, method):
    """Equal to the definition: the mean over all orders of the features."""
    subject = fitted(estimator)
    explanations, background, chosen, scores = explained(subject)
    for index, one in enumerate(explanations):
        assert one is not None
        assert one.method == method
        row = {name: column[index : index + 1] for name, column in chosen.items()}
        assert one.contributions == pytest.approx(shapley(subject, background, row), abs=1e-6)
        assert one.base_value + sum(one.contributions) == pytest.approx(scores[index])


@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        (Pipeline([("columns", ORDINAL), ("trees", HistGradientBoostingClassifier(max_iter=20))]), "tree"),
        (make_pipeline(ONE_HOT, RandomForestClassifier(10, max_depth=6, random_state=1)), "tree"),
        (make_pipeline(ONE_HOT, LogisticRegression(max_iter=1000)), "linear"),
        (make_pipeline(ONE_HOT, LinearDiscriminantAnalysis()), "linear"),
    ],
    ids=["boosting", "one-hot forest", "logistic", "discriminant"],
)
def test_contributions_to_a_probability_sum_to_it_and_are_near_the_shapley_values(estimator, method):
    """A log odds is rescaled, and the columns of a category are summed: near the exact values."""
    subject = fitted(estimator)
    explanations, background, chosen, scores = explained(subject)
    for index, one in enumerate(explanations):
        assert one is not None
        assert one.method == method
        assert one.base_value + sum(one.contributions) == pytest.approx(scores[index])
        row = {name: column[index : index + 1] for name, column in chosen.items()}
        assert one.contributions == pytest.approx(shapley(subject, background, row), abs=0.1)


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(ORDINAL, HistGradientBoostingRegressor(max_iter=5, categorical_features=[0])),
        make_pipeline(ORDINAL, SimpleImputer(), PolynomialFeatures(), Ridge()),
        make_pipeline(ONE_HOT, PoissonRegressor(max_iter=1000)),
        make_pipeline(ONE_HOT, KNeighborsClassifier()),
        make_pipeline(ORDINAL, SimpleImputer(add_indicator=True), Ridge()),
    ],
    ids=["categorical splits", "mixed columns", "another link", "neighbours", "indicators"],
)
def test_models_without_a_sound_explanation_by_structure_have_none(estimator):
    explanations, *_ = explained(fitted(estimator))
    assert explanations == [None] * 3


def test_a_sum_that_differs_from_the_score_is_not_sound():
    one = shap_values.Explanation(0.5, [0.1, -0.2], "tree")
    assert shap_values.is_sound(one, 0.4)
    assert not shap_values.is_sound(one, 0.4001)
    assert not shap_values.is_sound(shap_values.Explanation(0.5, [math.inf, -0.2], "tree"), 0.4)


@pytest.mark.parametrize(
    ("last", "method"),
    [
        (HistGradientBoostingClassifier(max_iter=10), "tree"),
        (LogisticRegression(), "linear"),
        (KNeighborsClassifier(), "kernel"),
    ],
)
def test_each_version_is_explained_by_the_method_for_its_structure(last, method):
    """A nullable string, a number and a feature of the store, through the whole inference path."""
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("text", encoder, ["who"])], remainder="passthrough")
    generator = np.random.default_rng(3)
    frame = pd.DataFrame({"x": generator.normal(size=90), "who": ["ab", "abc", None] * 30, "f": 1.0})
    estimator = make_pipeline(columns, SimpleImputer(), last).fit(frame, (frame["x"] > 0).astype(int))
    wanted = {"x": InputKind.NUMBER, "who": InputKind.TEXT, "f": InputKind.NUMBER}
    subject = predictor(models={1: SklearnModel(estimator, Contract(Settings(), declaration(), wanted))})

    async def run():
        pipeline = subject.pipeline
        for number in range(8):
            await subject.predict([event(pipeline, number, x=number / 4 - 1, who="ab")])
        found = await subject.predict([event(pipeline, 9, x=0.7), event(pipeline, 10, x=-2.0)])
        return found.columns.scores, await subject.explain(found)

    scores, explanations = asyncio.run(run())
    assert [one.method for one in explanations] == [method] * 2
    totals = [one.base_value + sum(one.contributions) for one in explanations]
    assert totals == pytest.approx(scores, abs=1e-6)
    assert explanations[0].contributions[0] > 0 > explanations[1].contributions[0]


def test_kernel_shap_gives_the_shapley_values_of_a_sum():
    """Each feature of a sum contributes its term minus that term's mean over the background."""
    generator = np.random.default_rng(1)
    names = [f"f{index}" for index in range(12)]
    background = {name: generator.normal(size=20) for name in names}
    row = {name: generator.normal(size=1) for name in names}

    def total(columns):
        return sum(index * columns[name] for index, name in enumerate(names))

    explanation = shap_values.by_outputs(total, background, row)
    assert explanation is not None
    expected = [index * (row[name][0] - background[name].mean()) for index, name in enumerate(names)]
    assert explanation.contributions == pytest.approx(expected)
    assert explanation.base_value == pytest.approx(total(background).mean())

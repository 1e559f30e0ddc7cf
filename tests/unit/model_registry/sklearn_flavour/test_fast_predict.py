"""A fast predictor has the outputs of scikit-learn; an unsupported estimator has none."""

import functools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import base, compose, ensemble, impute, linear_model, pipeline, preprocessing, tree
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from services.model_registry.contract import Contract
from services.model_registry.model_inputs import InputKind, columns_of
from services.model_registry.sklearn_flavour.fast_predict import TREE_ROWS_MAX, fast_predictor_of
from services.model_registry.sklearn_flavour.model import SklearnModel
from services.runtime.settings import Settings
from tests.unit.model_registry.installation import declaration

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.normal(size=(300, 4))
TARGET = ROWS @ [2.0, -1.0, 0.5, 0.0] + GENERATOR.normal(size=300)
THREE = np.digitize(TARGET, [-1, 1])
BINARY, NAMED = TARGET > 0, pd.DataFrame(ROWS, columns=list("abcd"))
WANTED = dict.fromkeys("abcd", InputKind.NUMBER)
FEW = slice(TREE_ROWS_MAX)


def predictor(estimator):
    return fast_predictor_of(estimator, WANTED)


def columns_by_letter(rows):
    return {name: np.asarray(rows)[:, place] for place, name in enumerate("abcd")}


@functools.cache
def steep():
    return predictor(linear_model.LogisticRegression(C=1e6).fit(ROWS, BINARY))


@pytest.mark.parametrize(
    "estimator",
    [
        linear_model.LinearRegression(),
        linear_model.Ridge(),
        linear_model.Lasso(alpha=0.1),
        linear_model.ElasticNet(alpha=0.1, fit_intercept=False),
        linear_model.HuberRegressor(),
    ],
    ids=lambda each: type(each).__name__,
)
def test_regressors_answer_the_same(estimator):
    estimator.fit(ROWS, TARGET)
    found = predictor(estimator)
    assert found is not None
    np.testing.assert_allclose(found.predict(columns_by_letter(ROWS)), estimator.predict(ROWS), rtol=1e-12)


@pytest.mark.parametrize("rows", [ROWS, NAMED], ids=["numbered", "named"])
@pytest.mark.parametrize(
    "options", [{}, {"solver": "liblinear"}, {"C": 1e6, "fit_intercept": False}], ids=str
)
def test_logistic_regression_answers_the_same(rows, options):
    estimator = linear_model.LogisticRegression(**options).fit(rows, BINARY)
    found = predictor(estimator)
    assert found is not None
    np.testing.assert_allclose(
        found.predict(columns_by_letter(ROWS)), estimator.predict_proba(rows)[:, 1], rtol=1e-12
    )


@pytest.mark.parametrize("wanted", [TARGET, BINARY, THREE], ids=["regression", "binary", "three"])
@pytest.mark.parametrize("kind", ["ExtraTrees", "GradientBoosting", "HistGradientBoosting", "RandomForest"])
def test_trees_answer_the_same(kind, wanted):
    task = "Regressor" if wanted is TARGET else "Classifier"
    estimator = getattr(ensemble, kind + task)(random_state=1).fit(ROWS, wanted)
    found = predictor(estimator)
    assert found is not None
    answers = estimator.predict(ROWS) if wanted is TARGET else estimator.predict_proba(ROWS)
    answers = answers[:, 1] if wanted is BINARY else answers
    np.testing.assert_allclose(
        found.predict(columns_by_letter(ROWS[FEW])), answers[FEW], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize(
    "classifier",
    [
        linear_model.LogisticRegression(),
        ensemble.RandomForestClassifier(20, random_state=0),
        ensemble.GradientBoostingClassifier(n_estimators=20),
        ensemble.HistGradientBoostingClassifier(max_iter=20),
        pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
    ],
    ids=["linear", "forest", "boosted", "histogram", "pipeline"],
)
def test_calibrated_classifiers_answer_the_same(classifier, method):
    frozen = FrozenEstimator(base.clone(classifier).fit(NAMED[:200], BINARY[:200]))
    calibrated = CalibratedClassifierCV(frozen, method=method, ensemble=False)
    calibrated.fit(NAMED[200:], BINARY[200:])
    found = predictor(calibrated)
    assert found is not None
    expected = calibrated.predict_proba(NAMED[FEW])[:, 1]
    np.testing.assert_allclose(found.predict(columns_by_letter(ROWS[FEW])), expected, rtol=1e-12, atol=1e-12)


def test_calibration_of_several_classes_or_classifiers_is_left_to_the_estimator():
    several = CalibratedClassifierCV(linear_model.LogisticRegression(), cv=2).fit(NAMED, BINARY)
    frozen = FrozenEstimator(linear_model.LogisticRegression().fit(NAMED, THREE))
    assert predictor(several) is None
    assert predictor(CalibratedClassifierCV(frozen, ensemble=False).fit(NAMED, THREE)) is None


@pytest.mark.parametrize("kind", ["ExtraTrees", "GradientBoosting", "RandomForest"])
def test_number_at_a_split_goes_the_same_way(kind):
    """They compare in single precision: numbers beside a threshold, nearer than that can tell apart."""
    estimator = getattr(ensemble, kind + "Regressor")(random_state=1).fit(ROWS, TARGET)
    found = predictor(estimator)
    assert found is not None
    splits = np.concatenate([each.tree_.threshold for each in np.ravel(estimator.estimators_)])
    near = np.resize(splits[splits != -2], (TREE_ROWS_MAX, 4)) * (1 + np.array([[-1e-9, -1e-16, 0, 1e-9]]))
    np.testing.assert_allclose(
        found.predict(columns_by_letter(near)), estimator.predict(near), rtol=1e-12, atol=1e-12
    )


def test_boosted_trees_take_missing_numbers():
    rows = ROWS.copy()
    rows[::3, 1] = np.nan
    estimator = ensemble.HistGradientBoostingClassifier().fit(rows, BINARY)
    found = predictor(estimator)
    assert found is not None
    answers = estimator.predict_proba(rows[FEW])[:, 1]
    np.testing.assert_allclose(found.predict(columns_by_letter(rows[FEW])), answers, rtol=1e-12)


def test_unsupported_rows_are_left_to_the_estimator():
    """Many at once, which it answers faster; and those of which it says what is wrong with them."""
    forest = predictor(ensemble.RandomForestClassifier(5).fit(ROWS, BINARY))
    boosted = predictor(ensemble.HistGradientBoostingClassifier(max_iter=5).fit(ROWS, BINARY))
    assert forest is not None
    assert boosted is not None
    assert forest.predict(columns_by_letter(ROWS[FEW])) is not None
    assert forest.predict(columns_by_letter(ROWS)) is None
    for bad, taken in ((np.nan, True), (np.inf, False), (-np.inf, False)):
        rows = ROWS[:2].copy()
        rows[0, 0] = bad
        assert forest.predict(columns_by_letter(rows)) is None
        assert (boosted.predict(columns_by_letter(rows)) is not None) is taken


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("count", [1, TREE_ROWS_MAX, TREE_ROWS_MAX + 1])
@pytest.mark.parametrize("kind", ["ExtraTrees", "GradientBoosting", "HistGradientBoosting", "RandomForest"])
def test_a_number_beyond_single_precision_has_the_same_answer_in_any_number_of_rows(kind, count):
    estimator = getattr(ensemble, kind + "Classifier")(random_state=1).fit(NAMED, BINARY)
    model = SklearnModel(estimator, Contract(Settings(), declaration(), WANTED))
    rows = np.resize(ROWS, (count, 4))
    rows[-1, 0] = 1e39
    if kind == "HistGradientBoosting":  # which has no single precision
        assert np.isfinite(model.predict(columns_by_letter(rows))).all()
        return
    with pytest.raises(ValueError, match="too large for dtype"):
        model.predict(columns_by_letter(rows))


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
def test_no_score_leaves_zero_to_one_however_large_the_inputs(row):
    found = steep()
    assert found is not None
    (score,) = found.predict(columns_by_letter([row]))
    assert 0 <= score <= 1


@pytest.mark.parametrize(
    ("estimator", "rows", "wanted"),
    [
        (linear_model.LogisticRegression(), ROWS, THREE),
        (linear_model.LinearRegression(), ROWS, np.column_stack([TARGET, TARGET])),
        (linear_model.SGDClassifier(loss="log_loss"), ROWS, BINARY),
        (linear_model.PoissonRegressor(), ROWS, np.abs(TARGET)),
        (tree.DecisionTreeRegressor(), ROWS, TARGET),
        (ensemble.AdaBoostClassifier(), ROWS, BINARY),
        (ensemble.HistGradientBoostingRegressor(categorical_features=[0]), np.abs(ROWS.round()), TARGET),
        (ensemble.RandomForestRegressor(5), ROWS, np.column_stack([TARGET, TARGET])),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, base.BaseEstimator) else "",
)
def test_other_estimators_have_no_fast_predictor(estimator, rows, wanted):
    assert predictor(estimator.fit(rows, wanted)) is None


def test_an_estimator_that_answers_otherwise_has_none():
    """A coefficient that scikit-learn keeps elsewhere, or a later version that computes otherwise."""

    class Shifted(linear_model.LinearRegression):  # type: ignore[misc]  # has no types
        def predict(self, X):  # noqa: N803  # its name there
            return super().predict(X) + 1

    Shifted.__module__, Shifted.__name__ = "sklearn.linear_model._base", "LinearRegression"
    assert predictor(Shifted().fit(ROWS, TARGET)) is None


CITIES = ["Oslo", "Rome", None, "Bern"]
TRIPS = pd.DataFrame(
    {
        "city": np.array(CITIES, dtype=object)[np.arange(300) % 4],
        "km": np.where(np.arange(300) % 7 == 0, np.nan, ROWS[:, 0] * 100),
        "hour": np.arange(300.0) % 24,
        "left_out": ROWS[:, 3],
    }
)
KINDS = {
    "city": InputKind.TEXT,
    "km": InputKind.NUMBER,
    "hour": InputKind.NUMBER,
    "left_out": InputKind.NUMBER,
}
ORDINAL = preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-2)
ONE_HOT = preprocessing.OneHotEncoder(handle_unknown="ignore")
NUMBERS = pipeline.make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler())


def trip_pipeline(encoder, numbers, last):
    columns = [("places", encoder, ["city"]), ("numbers", numbers, ["km"]), ("clock", encoder, [2])]
    return pipeline.Pipeline([("columns", compose.ColumnTransformer(columns)), ("last", last)])


@pytest.mark.parametrize("encoder", [ORDINAL, ONE_HOT], ids=["ordinal", "one hot"])
@pytest.mark.parametrize(
    ("numbers", "last"),
    [
        (NUMBERS, linear_model.LogisticRegression()),
        (NUMBERS, ensemble.RandomForestClassifier(20)),
        ("passthrough", ensemble.HistGradientBoostingClassifier(max_iter=20)),
    ],
    ids=["line", "forest", "boosted"],
)
def test_pipelines_answer_the_same(encoder, numbers, last):
    """Also of cities and hours that they have never met, and of no city."""
    last = base.clone(last)
    if encoder is ONE_HOT and isinstance(last, ensemble.HistGradientBoostingClassifier):
        encoder = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    estimator = trip_pipeline(encoder, numbers, last).fit(TRIPS, BINARY)
    found = fast_predictor_of(estimator, KINDS)
    assert found is not None
    asked = TRIPS[FEW].copy()
    asked.loc[3:9, "city"] = "Lima"
    asked.loc[5:12, "hour"] = 99.5
    outputs = found.predict(columns_of(asked, KINDS))
    assert outputs is not None
    np.testing.assert_allclose(outputs, estimator.predict_proba(asked)[:, 1], rtol=1e-12)


@pytest.mark.parametrize(
    "step",
    [
        preprocessing.OrdinalEncoder(),
        preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=90),
        preprocessing.OneHotEncoder(handle_unknown="ignore", drop="first"),
        preprocessing.TargetEncoder(),
    ],
    ids=["refuses what is new", "rare ones", "dropped", "of another kind"],
)
def test_a_step_that_is_not_known_leaves_all_to_the_estimator(step):
    estimator = trip_pipeline(step, NUMBERS, linear_model.LogisticRegression()).fit(TRIPS, BINARY)
    assert fast_predictor_of(estimator, KINDS) is None


def test_pipeline_that_supports_no_random_row_has_no_fast_predictor():
    """What is unknown is nan here, which a line does not take."""
    encoder = preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    estimator = trip_pipeline(encoder, NUMBERS, linear_model.LogisticRegression()).fit(TRIPS, BINARY)
    assert fast_predictor_of(estimator, KINDS) is None


@pytest.mark.parametrize("kind", ["ExtraTrees", "GradientBoosting", "RandomForest"])
def test_number_beyond_single_precision_is_left_to_the_estimator(kind):
    """It compares in single precision, and refuses what is infinite there."""
    estimator = getattr(ensemble, kind + "Regressor")(n_estimators=5, random_state=1).fit(ROWS, TARGET)
    found = predictor(estimator)
    assert found is not None
    rows = ROWS[:2].copy()
    rows[0, 0] = 1e39
    assert found.predict(columns_by_letter(rows)) is None
    with pytest.raises(ValueError, match="too large for dtype"):
        estimator.predict(rows)


def test_estimator_that_refuses_the_random_rows_has_no_fast_predictor():
    """It raises its own error for a row that it does not take, and loads all the same."""

    class Strict(linear_model.LinearRegression):  # type: ignore[misc]  # has no types
        def predict(self, X):  # noqa: N803  # its name there
            raise ValueError("no such row")

    Strict.__module__, Strict.__name__ = "sklearn.linear_model._base", "LinearRegression"
    assert predictor(Strict().fit(ROWS, TARGET)) is None

"""What a formula answers is what scikit-learn answers; where there is none, nobody makes one up."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import linear_model, tree

from services.versions.closed_form import formula_of

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.normal(size=(300, 4))
TARGET = ROWS @ [2.0, -1.0, 0.5, 0.0] + GENERATOR.normal(size=300)
BINARY, NAMED = TARGET > 0, pd.DataFrame(ROWS, columns=list("abcd"))
STEEP = formula_of(linear_model.LogisticRegression(C=1e6).fit(ROWS, BINARY))


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
    formula = formula_of(estimator)
    assert formula is not None
    np.testing.assert_allclose(formula(ROWS), estimator.predict(ROWS), rtol=1e-12)


@pytest.mark.parametrize("rows", [ROWS, NAMED], ids=["numbered", "named"])
@pytest.mark.parametrize(
    "options", [{}, {"solver": "liblinear"}, {"C": 1e6, "fit_intercept": False}], ids=str
)
def test_logistic_regression_answers_the_same(rows, options):
    estimator = linear_model.LogisticRegression(**options).fit(rows, BINARY)
    formula = formula_of(estimator)
    assert formula is not None
    np.testing.assert_allclose(formula(ROWS), estimator.predict_proba(rows)[:, 1], rtol=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
def test_no_score_leaves_zero_to_one_however_large_the_inputs(row):
    assert STEEP is not None
    (score,) = STEEP(np.array([row]))
    assert 0 <= score <= 1


@pytest.mark.parametrize(
    "estimator",
    [
        linear_model.LogisticRegression().fit(ROWS, np.digitize(TARGET, [-1, 1])),
        linear_model.LinearRegression().fit(ROWS, np.column_stack([TARGET, TARGET])),
        linear_model.SGDClassifier(loss="log_loss").fit(ROWS, BINARY),
        linear_model.PoissonRegressor().fit(ROWS, np.abs(TARGET)),
        tree.DecisionTreeRegressor().fit(ROWS, TARGET),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_is_no_line_has_no_formula(estimator):
    assert formula_of(estimator) is None


def test_an_estimator_that_answers_otherwise_has_none():
    """A coefficient that scikit-learn keeps elsewhere, or a later version that computes otherwise."""

    class Shifted(linear_model.LinearRegression):  # type: ignore[misc]  # has no types
        def predict(self, X):  # noqa: N803  # its name there
            return super().predict(X) + 1

    Shifted.__module__, Shifted.__name__ = "sklearn.linear_model._base", "LinearRegression"
    assert formula_of(Shifted().fit(ROWS, TARGET)) is None

"""Linear models as what they are: one product, instead of scikit-learn's checks of each call.

Those cost a tenth of a millisecond a call, however few the rows, and a DataFrame three times that, for
estimators that know their columns by name. What is computed is the same, and a version
proves it again by its golden batch when it is loaded.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Formula = Callable[[Floats], Floats]
"""From finite rows (n, k) to outputs (n,)."""

_REGRESSORS = frozenset({"ElasticNet", "HuberRegressor", "Lasso", "LinearRegression", "Ridge"})
_CLASSIFIERS = frozenset({"LogisticRegression"})
PROBES = 8
DIFFERENCE_MAX = 1e-12


def formula_of(estimator: Any) -> Formula | None:
    """Return what a fitted linear regressor answers, or of a binary classifier the probability of class 1.

    None for any other estimator, and for one that answers some made-up rows otherwise.
    """
    kind = type(estimator)
    if not kind.__module__.startswith("sklearn.linear_model."):
        return None
    if kind.__name__ in _REGRESSORS and np.ndim(estimator.coef_) == 1:
        return _proved(_line(estimator.coef_, float(estimator.intercept_)), estimator, estimator.predict)
    if kind.__name__ in _CLASSIFIERS and len(estimator.classes_) == 2:
        line = _line(estimator.coef_[0], float(np.ravel(estimator.intercept_)[0]))
        return _proved(
            lambda rows: _logistic(line(rows)), estimator, lambda rows: estimator.predict_proba(rows)[:, 1]
        )
    return None


def _line(coefficients: Floats, intercept: float) -> Formula:
    weights = np.ascontiguousarray(coefficients, dtype=np.float64)
    return lambda rows: rows @ weights + intercept


def _logistic(values: Floats) -> Floats:
    """Compute 1 / (1 + exp(-x)) without an overflow on either side."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small))


def _proved(formula: Formula, estimator: Any, answers: Callable[[Any], Any]) -> Formula | None:
    rows: Any = np.random.default_rng(0).normal(size=(PROBES, estimator.n_features_in_))
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        import pandas as pd

        asked = pd.DataFrame(rows, columns=names)
    else:
        asked = rows
    near = np.allclose(formula(rows), answers(asked), rtol=DIFFERENCE_MAX, atol=DIFFERENCE_MAX)
    return formula if near else None

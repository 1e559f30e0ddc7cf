"""What an estimator computes, without scikit-learn's way to it: lines as one product, trees in one call.

That way costs a tenth of a millisecond a call for a line, one for a hundred boosted trees and four for a
forest, however few the rows; and each tree by itself asks for Python's lock again, which others hold. What is
computed is the same, and a version proves it again by its golden batch when it is loaded. Trees are
treelite's: one call that needs no lock. For many rows scikit-learn's own way is as fast or faster.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Answer = Callable[[Floats], Floats]

_REGRESSORS = frozenset({"ElasticNet", "HuberRegressor", "Lasso", "LinearRegression", "Ridge"})
_CLASSIFIERS = frozenset({"LogisticRegression"})
_FORESTS = frozenset({"ExtraTrees", "RandomForest"})
_BOOSTED = frozenset({"GradientBoosting", "HistGradientBoosting"})
TREE_ROWS_MAX = 64
"""Rows up to which treelite is faster, one thread each."""
PROBES = 8
DIFFERENCE_MAX = 1e-12


@dataclasses.dataclass(frozen=True)
class Formula:
    """Another way to what an estimator answers."""

    answer: Answer
    """From rows (n, k) to outputs: a probability of class 1 of two or a value (n,), else (n, n_classes)."""
    rows_max: int | None = None
    """More rows at once are faster without it."""
    takes_missing: bool = False
    """Rows may hold nan; infinite numbers are never taken."""

    def fits(self, rows: Floats) -> bool:
        """Tell whether it is for these rows; for others the estimator says what is wrong with them."""
        if self.rows_max is not None and len(rows) > self.rows_max:
            return False
        return bool((~np.isinf(rows)).all() if self.takes_missing else np.isfinite(rows).all())


def formula_of(estimator: Any) -> Formula | None:
    """Return the formula of a fitted linear model, or of trees; None for any other estimator.

    Also None for one that answers some made-up rows otherwise.
    """
    kind = type(estimator)
    made: Formula | None = None
    if kind.__module__.startswith("sklearn.linear_model."):
        made = _of_line(estimator, kind.__name__)
    elif kind.__module__.startswith("sklearn.ensemble."):
        made = _of_trees(estimator, kind.__name__.removesuffix("Classifier").removesuffix("Regressor"))
    return made if made is not None and _is_proved(made, estimator) else None


def _of_line(estimator: Any, name: str) -> Formula | None:
    if name in _REGRESSORS and np.ndim(estimator.coef_) == 1:
        return Formula(_line(estimator.coef_, float(estimator.intercept_)))
    if name in _CLASSIFIERS and len(estimator.classes_) == 2:
        line = _line(estimator.coef_[0], float(np.ravel(estimator.intercept_)[0]))
        return Formula(lambda rows: _logistic(line(rows)))
    return None


def _line(coefficients: Floats, intercept: float) -> Answer:
    weights = np.ascontiguousarray(coefficients, dtype=np.float64)
    return lambda rows: rows @ weights + intercept


def _logistic(values: Floats) -> Floats:
    """Compute 1 / (1 + exp(-x)) without an overflow on either side."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small))


def _of_trees(estimator: Any, name: str) -> Formula | None:
    if name not in _FORESTS | _BOOSTED or getattr(estimator, "n_outputs_", 1) != 1:
        return None
    if np.any(getattr(estimator, "is_categorical_", None)):  # an unknown category goes elsewhere there
        return None
    import treelite.gtil
    from scipy.special import softmax
    from treelite.core import TreeliteError

    try:
        trees = treelite.sklearn.import_model(estimator)
    except (TreeliteError, NotImplementedError, ValueError):  # a loss, or a way to begin, that it lacks
        return None
    classes = len(getattr(estimator, "classes_", ()))
    # Its own softmax has single precision.
    is_margin = name in _BOOSTED and classes > 2
    histogram = name == "HistGradientBoosting"

    def answer(rows: Floats) -> Floats:
        # As scikit-learn compares: all but histograms in single precision.
        given = rows if histogram else rows.astype(np.float32).astype(np.float64)
        found = treelite.gtil.predict(trees, np.ascontiguousarray(given), nthread=1, pred_margin=is_margin)
        outputs = np.asarray(found, dtype=np.float64).reshape(len(rows), -1)
        if classes > 2:
            return np.asarray(softmax(outputs, axis=1) if is_margin else outputs, dtype=np.float64)
        return outputs[:, -1]

    return Formula(answer, TREE_ROWS_MAX, takes_missing=histogram)


def _is_proved(formula: Formula, estimator: Any) -> bool:
    rows: Any = np.random.default_rng(0).normal(size=(PROBES, estimator.n_features_in_))
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        import pandas as pd

        asked = pd.DataFrame(rows, columns=names)
    else:
        asked = rows
    if hasattr(estimator, "predict_proba"):
        wanted = estimator.predict_proba(asked)
        wanted = wanted[:, 1] if wanted.shape[1] == 2 else wanted
    else:
        wanted = estimator.predict(asked)
    found = formula.answer(rows)
    return found.shape == wanted.shape and np.allclose(
        found, wanted, rtol=DIFFERENCE_MAX, atol=DIFFERENCE_MAX
    )

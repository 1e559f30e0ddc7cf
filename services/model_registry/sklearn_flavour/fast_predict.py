"""What an estimator computes, without scikit-learn's way to it: lines as one product, trees in one call.

That way costs a tenth of a millisecond a call for a line, one for a hundred boosted trees and four for a
forest, however few the rows; and each tree by itself asks for Python's lock again, which others hold. What is
computed is the same, and a version proves it again by its golden batch when it is loaded. Trees are
treelite's: one call that needs no lock. For many rows scikit-learn's own way is as fast or faster.
Transformers before them in a pipeline are compiled by
`services.model_registry.sklearn_flavour.column_compiler`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.model_registry import model_inputs
from services.model_registry.model_inputs import Columns, InputKind, Inputs
from services.model_registry.sklearn_flavour import column_compiler

Floats = npt.NDArray[np.float64]
Answer = Callable[[Floats], Floats]

_REGRESSORS = frozenset({"ElasticNet", "HuberRegressor", "Lasso", "LinearRegression", "Ridge"})
_CLASSIFIERS = frozenset({"LogisticRegression"})
_FORESTS = frozenset({"ExtraTrees", "RandomForest"})
_BOOSTED = frozenset({"GradientBoosting", "HistGradientBoosting"})
TREE_ROWS_MAX = 64
"""Rows up to which treelite is faster, one thread each."""
PROBES = TREE_ROWS_MAX
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
        """Tell whether it is for such numbers; for others the estimator says what is wrong with them."""
        return bool((~np.isinf(rows)).all() if self.takes_missing else np.isfinite(rows).all())


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """A whole estimator, with what stands before its last step."""

    matrix_of: Callable[[Columns], Floats]
    formula: Formula

    def answer(self, columns: Columns) -> Floats | None:
        """Return the outputs of n rows as `Formula.answer`; None for rows that it is not for."""
        count = len(next(iter(columns.values())))
        if self.formula.rows_max is not None and count > self.formula.rows_max:
            return None
        rows = self.matrix_of(columns)
        return self.formula.answer(rows) if self.formula.fits(rows) else None


def shortcut_of(estimator: Any, wanted: Inputs) -> Shortcut | None:
    """Return a shortcut of a fitted estimator or pipeline with these inputs.

    None for one that has none, and for one that answers some made-up rows otherwise, or none of them.
    """
    from sklearn.pipeline import Pipeline

    steps = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    matrix_of = column_compiler.compiled(steps[:-1], list(wanted))
    if matrix_of is None or (len(steps) == 1 and InputKind.TEXT in wanted.values()):
        return None
    formula = _formula_of(steps[-1])
    if formula is None:
        return None
    made = Shortcut(matrix_of, formula)
    found = {_is_same(made, estimator, probe) for probe in _probes(wanted, column_compiler.texts(steps[:-1]))}
    return made if True in found and False not in found else None


def _formula_of(estimator: Any) -> Formula | None:
    """Return the formula of a fitted linear model, or of trees; None for any other estimator."""
    kind = type(estimator)
    if kind.__module__.startswith("sklearn.linear_model."):
        return _of_line(estimator, kind.__name__)
    if kind.__module__.startswith("sklearn.ensemble."):
        return _of_trees(estimator, kind.__name__.removesuffix("Classifier").removesuffix("Regressor"))
    return None


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


def _probes(wanted: Inputs, texts: Sequence[str | None]) -> Iterator[Columns]:
    """Make up rows: first complete ones, then such that lack numbers."""
    chance = np.random.default_rng(0)
    choices = np.array([*texts, "", None], dtype=object)
    for missing in (0.0, 0.2):
        yield {
            name: chance.choice(choices, PROBES)
            if kind is InputKind.TEXT
            else np.where(chance.random(PROBES) < missing, np.nan, chance.normal(size=PROBES))
            for name, kind in wanted.items()
        }


def _is_same(shortcut: Shortcut, estimator: Any, columns: Columns) -> bool | None:
    """Tell whether both answer the same; None for rows that the shortcut leaves to the estimator."""
    names = list(columns)
    knows_names = getattr(estimator, "feature_names_in_", None) is not None
    asked: Any = model_inputs.frame(columns, names)
    asked = asked if knows_names else asked.to_numpy()
    found = shortcut.answer(columns)
    if found is None:
        return None
    if hasattr(estimator, "predict_proba"):
        expected = estimator.predict_proba(asked)
        expected = expected[:, 1] if expected.shape[1] == 2 else expected
    else:
        expected = estimator.predict(asked)
    return found.shape == expected.shape and np.allclose(
        found, expected, rtol=DIFFERENCE_MAX, atol=DIFFERENCE_MAX
    )

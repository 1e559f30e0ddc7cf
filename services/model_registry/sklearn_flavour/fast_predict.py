"""Fast predictions for few rows: linear models as one product, trees in one call of treelite.

For any number of rows, a call of scikit-learn costs 0.1 ms for a linear model, 1 ms for a hundred boosted
trees and 4 ms for a forest; and each tree acquires Python's lock again, which other threads hold. Treelite
computes all trees in one call without that lock. The outputs are the same, which the golden batch verifies
again when a version is loaded. For many rows scikit-learn is as fast or faster. The transformers before the
last step of a pipeline are compiled by `services.model_registry.sklearn_flavour.column_compiler`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.model_registry import model_inputs
from services.model_registry.input_format import ColumnType, InputFormat, Marker, as_served
from services.model_registry.model_inputs import Columns, InputKind, Inputs
from services.model_registry.sklearn_flavour import column_compiler

Floats = npt.NDArray[np.float64]
PredictMatrix = Callable[[Floats], Floats]

_REGRESSORS = frozenset({"ElasticNet", "HuberRegressor", "Lasso", "LinearRegression", "Ridge"})
_CLASSIFIERS = frozenset({"LogisticRegression"})
_FORESTS = frozenset({"ExtraTrees", "RandomForest"})
_BOOSTED = frozenset({"GradientBoosting", "HistGradientBoosting"})
TREE_ROWS_MAX = 64
"""Maximum rows for which treelite is faster, both with one thread."""
PROBES = TREE_ROWS_MAX
"""Random rows on which a fast predictor is compared with its estimator."""
SINGLE_MAX = float(np.finfo(np.float32).max)
DIFFERENCE_MAX = 1e-12
"""Maximum absolute and relative difference there."""


@dataclasses.dataclass(frozen=True)
class MatrixPredictor:
    """Computes the outputs of an estimator from a matrix of its inputs."""

    predict: PredictMatrix
    """Returns the outputs of rows (n, k): probability of class 1, or value, (n,); else (n, n_classes)."""
    rows_max: int | None = None
    """Maximum rows for which this is faster than the estimator; None: any number."""
    takes_missing: bool = False
    """Whether rows may hold nan; infinite numbers are never supported."""
    is_single: bool = False
    """Whether numbers are compared in single precision: then the estimator refuses what is infinite there."""
    margin: PredictMatrix | None = None
    """Returns the margin of class 1 (n,), from which a calibration is made; None: from the probability."""

    def fits(self, rows: Floats) -> bool:
        """Tell whether these numbers are supported; for others the estimator raises its own error."""
        if self.is_single:
            return bool((np.abs(rows) <= SINGLE_MAX).all())  # False for nan, too
        return bool((~np.isinf(rows)).all() if self.takes_missing else np.isfinite(rows).all())


@dataclasses.dataclass(frozen=True)
class FastPredictor:
    """Computes the outputs of an estimator or pipeline for few rows."""

    matrix_of: Callable[[Columns], Floats]
    last_step: MatrixPredictor

    def predict(self, columns: Columns) -> Floats | None:
        """Return the outputs for n rows as `MatrixPredictor.predict`; None for unsupported rows."""
        count = len(next(iter(columns.values())))
        if self.last_step.rows_max is not None and count > self.last_step.rows_max:
            return None
        rows = self.matrix_of(columns)
        return self.last_step.predict(rows) if self.last_step.fits(rows) else None


def fast_predictor_of(
    estimator: Any, wanted: Inputs, input_format: InputFormat | None = None
) -> FastPredictor | None:
    """Return a fast predictor for a fitted estimator or pipeline with these inputs.

    It takes columns as ``input_format`` returns them, by default as they are served. None if there is none
    for its kind, if its outputs differ from the estimator's on some random rows, or if it supports none.
    """
    from sklearn.pipeline import Pipeline

    input_format = input_format or InputFormat(as_served(wanted))
    if not input_format.is_plain:
        return None
    inner, calibrate = _uncalibrated(estimator)
    steps = [step for _, step in inner.steps] if isinstance(inner, Pipeline) else [inner]
    matrix_of = column_compiler.compiled(steps[:-1], list(wanted))
    if matrix_of is None or (len(steps) == 1 and InputKind.TEXT in wanted.values()):
        return None
    last_step = _predictor_of(steps[-1])
    if last_step is not None and calibrate is not None:
        last_step = _calibrated(last_step, calibrate)
    if last_step is None:
        return None
    predictor = FastPredictor(matrix_of, last_step)
    probes = _probes(input_format, column_compiler.texts(steps[:-1]))
    try:
        agreements = {_agrees(predictor, estimator, probe) for probe in probes}
    except Exception:  # noqa: BLE001  # the estimator has its reasons to take none of these rows
        return None
    return predictor if True in agreements and False not in agreements else None


def _uncalibrated(estimator: Any) -> tuple[Any, Callable[[Floats], Floats] | None]:
    """Return the classifier in a calibrated one of two classes, and the calibration of its outputs (n,)."""
    kind = type(estimator)
    if (kind.__module__, kind.__name__) != ("sklearn.calibration", "CalibratedClassifierCV"):
        return estimator, None
    if len(estimator.calibrated_classifiers_) > 1 or len(estimator.classes_) != 2:
        return estimator, None
    (fitted,) = estimator.calibrated_classifiers_
    frozen = type(fitted.estimator).__name__ == "FrozenEstimator"
    return fitted.estimator.estimator if frozen else fitted.estimator, fitted.calibrators[0].predict


def _calibrated(inner: MatrixPredictor, calibrate: Callable[[Floats], Floats]) -> MatrixPredictor:
    outputs = inner.margin or inner.predict
    return dataclasses.replace(inner, predict=lambda rows: calibrate(outputs(rows)), margin=None)


def _predictor_of(estimator: Any) -> MatrixPredictor | None:
    """Return the predictor of a fitted linear model, or of trees; None for any other estimator."""
    kind = type(estimator)
    if kind.__module__.startswith("sklearn.linear_model."):
        return _of_linear(estimator, kind.__name__)
    if kind.__module__.startswith("sklearn.ensemble."):
        return _of_trees(estimator, kind.__name__.removesuffix("Classifier").removesuffix("Regressor"))
    return None


def _of_linear(estimator: Any, name: str) -> MatrixPredictor | None:
    if name in _REGRESSORS and np.ndim(estimator.coef_) == 1:
        return MatrixPredictor(_linear(estimator.coef_, float(estimator.intercept_)))
    if name in _CLASSIFIERS and len(estimator.classes_) == 2:
        linear = _linear(estimator.coef_[0], float(np.ravel(estimator.intercept_)[0]))
        return MatrixPredictor(lambda rows: _logistic(linear(rows)), margin=linear)
    return None


def _linear(coefficients: Floats, intercept: float) -> PredictMatrix:
    weights = np.ascontiguousarray(coefficients, dtype=np.float64)
    return lambda rows: rows @ weights + intercept


def _logistic(values: Floats) -> Floats:
    """Compute 1 / (1 + exp(-x)) without an overflow for large x of either sign."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small))


def _of_trees(estimator: Any, name: str) -> MatrixPredictor | None:
    if name not in _FORESTS | _BOOSTED or getattr(estimator, "n_outputs_", 1) != 1:
        return None
    if np.any(getattr(estimator, "is_categorical_", None)):  # treelite sends an unknown category elsewhere
        return None
    import treelite.gtil
    from scipy.special import softmax
    from treelite.core import TreeliteError

    try:
        trees = treelite.sklearn.import_model(estimator)
    except (
        TreeliteError,
        NotImplementedError,
        ValueError,
    ):  # a loss or an initial estimator that treelite lacks
        return None
    classes = len(getattr(estimator, "classes_", ()))
    # treelite's own softmax has single precision.
    is_margin = name in _BOOSTED and classes > 2
    histogram = name == "HistGradientBoosting"

    def outputs(rows: Floats, *, margin: bool) -> Floats:
        # scikit-learn compares in single precision, except in histogram trees.
        inputs = rows if histogram else rows.astype(np.float32).astype(np.float64)
        found = treelite.gtil.predict(trees, np.ascontiguousarray(inputs), nthread=1, pred_margin=margin)
        return np.asarray(found, dtype=np.float64).reshape(len(rows), -1)

    def predict(rows: Floats) -> Floats:
        found = outputs(rows, margin=is_margin)
        if classes > 2:
            return np.asarray(softmax(found, axis=1) if is_margin else found, dtype=np.float64)
        return found[:, -1]

    return MatrixPredictor(
        predict,
        TREE_ROWS_MAX,
        takes_missing=histogram,
        is_single=not histogram,
        margin=(lambda rows: outputs(rows, margin=True)[:, -1]) if name in _BOOSTED else None,
    )


def _probes(input_format: InputFormat, texts: Sequence[str | None]) -> Iterator[Columns]:
    """Yield random rows as the model gets them: first complete rows, then rows with missing values."""
    generator = np.random.default_rng(0)
    known = np.array([*texts, ""], dtype=object)
    for missing in (0.0, 0.2):
        served: dict[str, Any] = {}
        for name, format_ in input_format.formats.items():
            is_missing = generator.random(PROBES) < (0.0 if format_.marker is Marker.REFUSED else missing)
            if format_.type is ColumnType.STRING:
                served[name] = generator.choice(known, PROBES)
                served[name][is_missing] = None
            else:
                served[name] = np.where(is_missing, np.nan, generator.normal(size=PROBES))
        yield input_format.columns(served)


def _agrees(predictor: FastPredictor, estimator: Any, columns: Columns) -> bool | None:
    """Tell whether both have the same outputs; None for rows that the fast predictor does not support."""
    names = list(columns)
    knows_names = getattr(estimator, "feature_names_in_", None) is not None
    inputs: Any = model_inputs.frame(columns, names)
    inputs = inputs if knows_names else inputs.to_numpy()
    found = predictor.predict(columns)
    if found is None:
        return None
    if hasattr(estimator, "predict_proba"):
        expected = estimator.predict_proba(inputs)
        expected = expected[:, 1] if expected.shape[1] == 2 else expected
    else:
        expected = estimator.predict(inputs)
    return found.shape == expected.shape and np.allclose(
        found, expected, rtol=DIFFERENCE_MAX, atol=DIFFERENCE_MAX
    )

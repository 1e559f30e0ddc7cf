"""The contribution of each feature to a score, computed by what is known of the model.

Each method returns contributions that sum to the score minus the base value, the mean score of a background:

- ``tree``: interventional Tree SHAP (Lundberg et al., Nature Machine Intelligence 2020), exact for the sum of
  the trees. If that sum is a log odds and the score a probability, the contributions against each background
  row are rescaled to the difference of the two probabilities, as DeepLIFT does.
- ``linear``: coefficient times difference, in closed form; probabilities are rescaled as above.
- ``kernel``: Kernel SHAP (Lundberg and Lee, NeurIPS 2017), which needs only the outputs of a model: exact up
  to nine features, an estimate above.

If a pipeline turns a feature into several columns, the feature gets the sum of their contributions.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from services.model_registry.sklearn_flavour.structure import Structure

Floats = npt.NDArray[np.float64]
Columns = dict[str, npt.NDArray[Any]]
Predict = Callable[[Columns], Floats]
Method = Literal["tree", "linear", "kernel"]
"""The methods are described in the module's docstring."""

COALITIONS_MAX = 512
"""Sets of features evaluated for a row; with up to nine features these are all sets."""
TOLERANCE = 1e-6
"""Maximum difference between the score and the sum of base value and contributions, relative to the largest
of them and to at least 1."""
_TREES = (
    "sklearn.ensemble._forest",
    "sklearn.ensemble._gb",
    "sklearn.ensemble._hist_gradient_boosting",
    "sklearn.tree",
)
_LINEAR = ("sklearn.linear_model", "sklearn.discriminant_analysis")
_BINARY = 2


class NotInstalledError(RuntimeError):
    """The optional packages are not installed."""


class Explanation(NamedTuple):
    """The explanation of one row."""

    base_value: float
    contributions: list[float]
    """One value for each feature, in their order."""
    method: Method


class ExplainedRows(NamedTuple):
    """Rows to explain and the background that they are compared to: one model's inputs and outputs."""

    names: Sequence[str]
    """The features, in order."""
    background: Columns
    background_outputs: Floats
    """(n_background,), or (n_background, n_classes)"""
    rows: Columns
    outputs: Floats
    """(n,), or (n, n_classes)"""
    classes: Sequence[int | None]
    """(n,): the class whose probability is explained; None if the model has a single output."""


def by_structure(
    structure: Structure, explained: ExplainedRows, class_order: Sequence[int]
) -> list[Explanation | None]:
    """Explain rows by the structure of their model; None where that gives no sound explanation. Blocking.

    Args:
        structure: Structure of the model.
        explained: The rows.
        class_order: The position of each class in the last step's outputs; empty for a regression.
    """
    nothing: list[Explanation | None] = [None] * len(explained.classes)
    kind = type(structure.last).__module__
    try:
        background, rows = structure.matrix_of(explained.background), structure.matrix_of(explained.rows)
    except ValueError:
        return nothing
    if not (np.isfinite(rows).all() and np.isfinite(background).all()) and not kind.startswith(_TREES):
        return nothing
    if kind.startswith(_TREES):
        found = _of_trees(structure.last, background, rows, explained.classes, class_order)
        return nothing if found is None else _sum_columns(found, structure, explained, "tree")
    if kind.startswith(_LINEAR) and len(class_order) <= _BINARY:
        found = _of_coefficients(structure.last, background, rows, explained)
        return nothing if found is None else _sum_columns(found, structure, explained, "linear")
    return nothing


def _of_trees(
    last: Any, background: Floats, rows: Floats, classes: Sequence[int | None], class_order: Sequence[int]
) -> Floats | None:
    """Return contributions (n, k) of the columns of a matrix."""
    if getattr(last, "is_categorical_", None) is not None:
        return None  # the library treats categorical splits as splits of numbers
    shap = import_shap()
    try:
        explainer = shap.TreeExplainer(
            last,
            background,
            feature_perturbation="interventional",
            model_output="probability" if class_order else "raw",
        )
        values = np.asarray(explainer.shap_values(rows, check_additivity=False))
    except Exception:  # noqa: BLE001  # Kernel SHAP explains what Tree SHAP does not support
        return None
    if values.ndim == 2:
        return values
    chosen = [class_order[1 if one is None else one] for one in classes]
    return values[np.arange(len(rows)), :, chosen]


def _of_coefficients(last: Any, background: Floats, rows: Floats, explained: ExplainedRows) -> Floats | None:
    coefficients = np.ravel(getattr(last, "coef_", ()))
    if len(coefficients) != rows.shape[1]:
        return None
    found = np.empty(rows.shape)
    for index, row in enumerate(rows):
        terms = coefficients * (row - background)
        margins, gaps = terms.sum(axis=1), explained.outputs[index] - explained.background_outputs
        # If two log odds are equal, use the slope of the probability instead of the ratio.
        slope = explained.outputs[index] * (1 - explained.outputs[index])
        near = np.abs(margins) < TOLERANCE
        scale = np.where(near, slope, gaps / np.where(near, 1.0, margins))
        is_probability = hasattr(last, "predict_proba")
        found[index] = (terms * scale[:, None]).mean(axis=0) if is_probability else terms.mean(axis=0)
    return found


def _sum_columns(
    values: Floats, structure: Structure, explained: ExplainedRows, method: Method
) -> list[Explanation | None]:
    """Sum the columns that come from one feature; None for a row whose sum is not its score."""
    index_of = {name: index for index, name in enumerate(explained.names)}
    contributions = np.zeros((len(values), len(index_of)))
    for column, name in enumerate(structure.origins):
        contributions[:, index_of[name]] += values[:, column]
    explanations: list[Explanation | None] = []
    for index, chosen in enumerate(explained.classes):
        score, others = explained.outputs[index], explained.background_outputs
        if chosen is not None:
            score, others = score[chosen], others[:, chosen]
        one = Explanation(float(others.mean()), contributions[index].tolist(), method)
        explanations.append(one if is_sound(one, float(score)) else None)
    return explanations


def is_sound(explanation: Explanation, score: float) -> bool:
    """Return whether base value and contributions are finite and sum to a score, within `TOLERANCE`."""
    parts = np.array([explanation.base_value, *explanation.contributions])
    if not np.isfinite(parts).all():
        return False
    return bool(abs(parts.sum() - score) <= TOLERANCE * max(1.0, np.abs(parts).max(), abs(score)))


def by_outputs(predict: Predict, background: Columns, row: Columns) -> Explanation | None:
    """Explain one row, given as columns of length 1; None if the arithmetic overflows. Blocking.

    The library only handles numbers. So it gets the index of each value in a pool of all values, and the
    model gets the values themselves, of any type.
    """
    shap = import_shap()
    names = list(row)
    pool = {name: np.concatenate([background[name], row[name]]) for name in names}
    count = len(background[names[0]])

    def predict_indices(indices: npt.NDArray[Any]) -> Floats:
        chosen = indices.astype(np.int64)
        return predict({name: pool[name][chosen[:, column]] for column, name in enumerate(names)})

    def index_row(index: int) -> Floats:
        return np.full((1, len(names)), float(index))

    with np.errstate(all="ignore"):
        background_indices = np.vstack([index_row(index) for index in range(count)])
        explainer = shap.KernelExplainer(predict_indices, background_indices)
        try:
            values = explainer.shap_values(index_row(count), nsamples=COALITIONS_MAX, l1_reg=0, silent=True)
        except (ValueError, np.linalg.LinAlgError):  # infinite differences
            return None
        explanation = Explanation(float(explainer.expected_value), np.asarray(values)[0].tolist(), "kernel")
        return explanation if is_sound(explanation, float(predict(row)[0])) else None


def import_shap() -> Any:
    """Import shap; raise `NotInstalledError`."""
    try:
        import shap  # late: optional, takes seconds
    except ImportError as error:
        raise NotInstalledError(
            "explanations need optional packages on the server; install them with: "
            "pip install 'driftline[explain]'"
        ) from error
    return shap

"""What each feature contributed to an answer, found by what is known of the model.

Each way returns contributions that sum to the answer less the base value, the mean answer to a background:

- ``tree``: interventional Tree SHAP (Lundberg et al., Nature Machine Intelligence 2020), exact for what the
  trees add up to. Where that is a log odds and the answer a probability, what each row of the background
  gives is rescaled to the difference of the two probabilities, as DeepLIFT does.
- ``linear``: coefficient times difference, in closed form; probabilities as above.
- ``kernel``: Kernel SHAP (Lundberg and Lee, NeurIPS 2017), which asks any model for its answers alone: exact
  up to nine features, an estimate beyond.

A feature that a pipeline turns into several columns gets the sum of theirs.
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
"""See the module."""

COALITIONS_MAX = 512
"""Sets of features that are tried for a row; up to nine features, these are all there are."""
TOLERANCE = 1e-6
"""How far base value and contributions may be from the answer, of the largest of them and at least of 1."""
_TREES = (
    "sklearn.ensemble._forest",
    "sklearn.ensemble._gb",
    "sklearn.ensemble._hist_gradient_boosting",
    "sklearn.tree",
)
_LINEAR = ("sklearn.linear_model", "sklearn.discriminant_analysis")
_BINARY = 2


class NotInstalledError(RuntimeError):
    """The optional packages are not there."""


class Explanation(NamedTuple):
    """Of one row."""

    base_value: float
    contributions: list[float]
    """In the order of the features."""
    method: Method


class Case(NamedTuple):
    """A background and rows to be explained before it, as one model gets and answers them."""

    names: Sequence[str]
    """Of the features."""
    background: Columns
    background_answers: Floats
    """(n_background,), or (n_background, n_classes)"""
    rows: Columns
    answers: Floats
    """(n,), or (n, n_classes)"""
    classes: Sequence[int | None]
    """Of each row the class whose probability is explained; None where there is one answer alone."""


def by_structure(structure: Structure, case: Case, class_order: Sequence[int]) -> list[Explanation | None]:
    """Explain rows by what is known of their model; None where that gives no sound explanation. Blocking.

    Args:
        structure: Of the model.
        case: The rows.
        class_order: Where the last step has each class; empty for a regression.
    """
    nothing: list[Explanation | None] = [None] * len(case.classes)
    kind = type(structure.last).__module__
    try:
        background, rows = structure.matrix_of(case.background), structure.matrix_of(case.rows)
    except ValueError:
        return nothing
    if not (np.isfinite(rows).all() and np.isfinite(background).all()) and not kind.startswith(_TREES):
        return nothing
    if kind.startswith(_TREES):
        found = _of_trees(structure.last, background, rows, case.classes, class_order)
        return nothing if found is None else _summed(found, structure, case, "tree")
    if kind.startswith(_LINEAR) and len(class_order) <= _BINARY:
        found = _of_coefficients(structure.last, background, rows, case)
        return nothing if found is None else _summed(found, structure, case, "linear")
    return nothing


def _of_trees(
    last: Any, background: Floats, rows: Floats, classes: Sequence[int | None], class_order: Sequence[int]
) -> Floats | None:
    """Return contributions (n, k) of the columns of a matrix."""
    if getattr(last, "is_categorical_", None) is not None:
        return None  # which the library takes for splits of numbers
    shap = library()
    try:
        explainer = shap.TreeExplainer(
            last,
            background,
            feature_perturbation="interventional",
            model_output="probability" if class_order else "raw",
        )
        values = np.asarray(explainer.shap_values(rows, check_additivity=False))
    except Exception:  # noqa: BLE001  # whatever it does not know of, Kernel SHAP explains
        return None
    if values.ndim == 2:
        return values
    chosen = [class_order[1 if one is None else one] for one in classes]
    return values[np.arange(len(rows)), :, chosen]


def _of_coefficients(last: Any, background: Floats, rows: Floats, case: Case) -> Floats | None:
    coefficients = np.ravel(getattr(last, "coef_", ()))
    if len(coefficients) != rows.shape[1]:
        return None
    found = np.empty(rows.shape)
    for index, row in enumerate(rows):
        apart = coefficients * (row - background)
        margins, gaps = apart.sum(axis=1), case.answers[index] - case.background_answers
        # Where two log odds are the same, the slope of the probability takes the place of the ratio.
        slope = case.answers[index] * (1 - case.answers[index])
        near = np.abs(margins) < TOLERANCE
        scale = np.where(near, slope, gaps / np.where(near, 1.0, margins))
        is_probability = hasattr(last, "predict_proba")
        found[index] = (apart * scale[:, None]).mean(axis=0) if is_probability else apart.mean(axis=0)
    return found


def _summed(values: Floats, structure: Structure, case: Case, method: Method) -> list[Explanation | None]:
    """Add up the columns that are made of one feature; None for a row whose sum is not its answer."""
    places = {name: index for index, name in enumerate(case.names)}
    contributions = np.zeros((len(values), len(places)))
    for column, name in enumerate(structure.origins):
        contributions[:, places[name]] += values[:, column]
    explained: list[Explanation | None] = []
    for index, chosen in enumerate(case.classes):
        answer, others = case.answers[index], case.background_answers
        if chosen is not None:
            answer, others = answer[chosen], others[:, chosen]
        one = Explanation(float(others.mean()), contributions[index].tolist(), method)
        explained.append(one if is_sound(one, float(answer)) else None)
    return explained


def is_sound(explanation: Explanation, answer: float) -> bool:
    """Tell whether base value and contributions are finite and sum to an answer, within `TOLERANCE`."""
    parts = np.array([explanation.base_value, *explanation.contributions])
    if not np.isfinite(parts).all():
        return False
    return bool(abs(parts.sum() - answer) <= TOLERANCE * max(1.0, np.abs(parts).max(), abs(answer)))


def by_answers(predict: Predict, background: Columns, row: Columns) -> Explanation | None:
    """Explain one row, given as columns of length 1; None where the arithmetic overflows. Blocking.

    The library compares numbers only. So it gets the place of each value among all those there are, and the
    model gets the values themselves, whatever their type.
    """
    shap = library()
    names = list(row)
    pool = {name: np.concatenate([background[name], row[name]]) for name in names}
    count = len(background[names[0]])

    def of_places(places: npt.NDArray[Any]) -> Floats:
        chosen = places.astype(np.int64)
        return predict({name: pool[name][chosen[:, index]] for index, name in enumerate(names)})

    def everywhere(place: int) -> Floats:
        return np.full((1, len(names)), float(place))

    with np.errstate(all="ignore"):
        explainer = shap.KernelExplainer(of_places, np.vstack([everywhere(place) for place in range(count)]))
        try:
            values = explainer.shap_values(everywhere(count), nsamples=COALITIONS_MAX, l1_reg=0, silent=True)
        except (ValueError, np.linalg.LinAlgError):  # of infinite differences
            return None
        explanation = Explanation(float(explainer.expected_value), np.asarray(values)[0].tolist(), "kernel")
        return explanation if is_sound(explanation, float(predict(row)[0])) else None


def library() -> Any:
    """Import shap; raise `NotInstalledError`."""
    try:
        import shap
    except ImportError as error:
        raise NotInstalledError("explanations need the optional packages: driftline[explain]") from error
    return shap

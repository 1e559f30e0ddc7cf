"""The structure of a scikit-learn model: its last step, and the feature from which each of its columns comes.

A pipeline has a structure if its transformers treat each feature separately. If one combines features, or is
not known here, the model has none and only its predictions can be used.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from services.model_registry.model_inputs import Columns

_ONE_COLUMN_EACH = frozenset(
    {
        "Binarizer",
        "MaxAbsScaler",
        "MinMaxScaler",
        "OrdinalEncoder",
        "PowerTransformer",
        "QuantileTransformer",
        "RobustScaler",
        "SimpleImputer",
        "StandardScaler",
        "TargetEncoder",
    }
)
"""Transformers that make one column of each feature, in order; `matrix_of` checks their number."""


class Structure(NamedTuple):
    """A model as a last step and its input matrix."""

    last: Any
    """The fitted estimator."""
    origins: list[str]
    """The one feature from which each of the k columns is computed."""
    matrix_of: Callable[[Columns], npt.NDArray[np.float64]]
    """Returns the last step's input (n, k) for n rows; raises `ValueError` if it is not such a matrix."""


def structure_of(estimator: Any, names: Sequence[str], given: Callable[[Columns], Any]) -> Structure | None:
    """Return the structure of a fitted estimator; None if it is not known.

    Args:
        estimator: A pipeline or a single step.
        names: The names of its features, in order.
        given: Returns the estimator's input for rows.
    """
    from sklearn.pipeline import Pipeline

    steps = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    before = estimator[:-1] if len(steps) > 1 else None
    indices = _origins_after(steps[:-1], list(range(len(names))))
    if indices is None:
        return None
    origins = [names[index] for index in indices]

    def matrix_of(columns: Columns) -> npt.NDArray[np.float64]:
        output = given(columns) if before is None else before.transform(given(columns))
        dense = output.toarray() if hasattr(output, "toarray") else output
        matrix = np.asarray(dense, dtype=np.float64)
        if matrix.shape[1] != len(origins):
            raise ValueError(f"the transformers returned {matrix.shape[1]} columns, expected {len(origins)}")
        return matrix

    return Structure(steps[-1], origins, matrix_of)


def _origins_after(steps: Sequence[Any], incoming: list[int]) -> list[int] | None:
    """Return for each output column of these steps the input column that it comes from; None: not known."""
    origins: list[int] | None = incoming
    for step in steps:
        if origins is None:
            return None
        origins = _origins(step, origins)
    return origins


def _origins(step: Any, incoming: list[int]) -> list[int] | None:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

    match step:
        case None | "passthrough":
            return incoming
        case Pipeline():
            return _origins_after([each for _, each in step.steps], incoming)
        case ColumnTransformer():
            return _of_columns(step, incoming)
        case OneHotEncoder():
            counts = _columns_of_each(step)
            return [index for index, count in zip(incoming, counts, strict=True) for _ in range(count)]
        case FunctionTransformer() if step.func is None:
            return incoming
    return incoming if type(step).__name__ in _ONE_COLUMN_EACH else None


def _of_columns(step: Any, incoming: list[int]) -> list[int] | None:
    names = [str(name) for name in getattr(step, "feature_names_in_", ())]
    parts: dict[int, list[int]] = {}
    for name, transformer, columns in step.transformers_:
        span = step.output_indices_[name]
        if span.start == span.stop:  # dropped, or without columns
            continue
        origins = _origins(transformer, chosen(columns, names, incoming))
        if origins is None or len(origins) != span.stop - span.start:
            return None
        parts[span.start] = origins
    return [index for start in sorted(parts) for index in parts[start]]


def chosen(columns: Any, names: Sequence[str], incoming: list[int]) -> list[int]:
    """Return the input columns of a ColumnTransformer's part, given by index, name, slice or mask."""
    if isinstance(columns, str):
        columns = [columns]
    if not isinstance(columns, slice) and all(isinstance(each, str) for each in columns):
        columns = [names.index(each) for each in columns]
    found: list[int] = np.atleast_1d(np.array(incoming)[columns]).tolist()
    return found


def _columns_of_each(encoder: Any) -> list[int]:
    """Return how many columns a one-hot encoder makes of each of its input columns."""
    rare = getattr(encoder, "infrequent_categories_", [None] * len(encoder.categories_))
    dropped = [None] * len(rare) if encoder.drop_idx_ is None else encoder.drop_idx_
    return [
        len(known) - (0 if few is None else len(few) - 1) - (gone is not None)
        for known, few, gone in zip(encoder.categories_, rare, dropped, strict=True)
    ]

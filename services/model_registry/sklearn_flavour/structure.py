"""What is known of a scikit-learn model beyond its answers: its last step, and where its columns come from.

Of a pipeline whose transformers treat each feature apart. Where one mixes several, or is not known here, the
model has no such structure, and only its answers can be asked for.
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
"""Transformers of scikit-learn that make one column of each feature, in order; `matrix_of` counts them."""


class Structure(NamedTuple):
    """A model as a last step over a matrix."""

    last: Any
    """The fitted estimator."""
    origins: list[str]
    """Of each of its k columns the feature from which alone it is made."""
    matrix_of: Callable[[Columns], npt.NDArray[np.float64]]
    """From n rows to what the last step gets of them, (n, k); raises `ValueError` for what is no matrix."""


def structure_of(estimator: Any, names: Sequence[str], given: Callable[[Columns], Any]) -> Structure | None:
    """Return the structure of a fitted estimator; None where it is not known.

    Args:
        estimator: A pipeline or a single step.
        names: Of the features that it gets, in their order.
        given: From rows to what the estimator gets of them.
    """
    from sklearn.pipeline import Pipeline

    steps = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    before = estimator[:-1] if len(steps) > 1 else None
    places = _origins_behind(steps[:-1], list(range(len(names))))
    if places is None:
        return None
    origins = [names[place] for place in places]

    def matrix_of(columns: Columns) -> npt.NDArray[np.float64]:
        made = given(columns) if before is None else before.transform(given(columns))
        matrix = np.asarray(made.toarray() if hasattr(made, "toarray") else made, dtype=np.float64)
        if matrix.shape[1] != len(origins):
            raise ValueError(f"{matrix.shape[1]} columns come of {len(origins)} that were expected")
        return matrix

    return Structure(steps[-1], origins, matrix_of)


def _origins_behind(steps: Sequence[Any], incoming: list[int]) -> list[int] | None:
    """Return of each column behind some steps the one before them from which it is made; None: not known."""
    places: list[int] | None = incoming
    for step in steps:
        if places is None:
            return None
        places = _origins(step, places)
    return places


def _origins(step: Any, incoming: list[int]) -> list[int] | None:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

    match step:
        case None | "passthrough":
            return incoming
        case Pipeline():
            return _origins_behind([each for _, each in step.steps], incoming)
        case ColumnTransformer():
            return _of_columns(step, incoming)
        case OneHotEncoder():
            return [place for place, count in zip(incoming, _codes(step), strict=True) for _ in range(count)]
        case FunctionTransformer() if step.func is None:
            return incoming
    return incoming if type(step).__name__ in _ONE_COLUMN_EACH else None


def _of_columns(step: Any, incoming: list[int]) -> list[int] | None:
    names = [str(name) for name in getattr(step, "feature_names_in_", ())]
    parts: dict[int, list[int]] = {}
    for name, transformer, columns in step.transformers_:
        span = step.output_indices_[name]
        if span.start == span.stop:  # dropped, or of no column
            continue
        made = _origins(transformer, chosen(columns, names, incoming))
        if made is None or len(made) != span.stop - span.start:
            return None
        parts[span.start] = made
    return [place for start in sorted(parts) for place in parts[start]]


def chosen(columns: Any, names: Sequence[str], incoming: list[int]) -> list[int]:
    """Return the columns that a part of a ColumnTransformer gets, in whichever way it names them."""
    if isinstance(columns, str):
        columns = [columns]
    if not isinstance(columns, slice) and all(isinstance(each, str) for each in columns):
        columns = [names.index(each) for each in columns]
    found: list[int] = np.atleast_1d(np.array(incoming)[columns]).tolist()
    return found


def _codes(encoder: Any) -> list[int]:
    """Return how many columns a one-hot encoder makes of each of its own."""
    rare = getattr(encoder, "infrequent_categories_", [None] * len(encoder.categories_))
    dropped = [None] * len(rare) if encoder.drop_idx_ is None else encoder.drop_idx_
    return [
        len(known) - (0 if few is None else len(few) - 1) - (gone is not None)
        for known, few, gone in zip(encoder.categories_, rare, dropped, strict=True)
    ]

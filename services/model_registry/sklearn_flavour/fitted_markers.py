"""Finds the marker of a missing value, None or nan, in the data on which scikit-learn fitted an estimator.

scikit-learn treats None and nan as different categories, and an imputer fills only one of them. A file of
rows does not say which of them the author had. But a fitted encoder holds its categories, and a fitted
imputer holds the marker that it fills.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.model_registry.sklearn_flavour.structure import chosen

Markers = Mapping[str, Any]
"""The missing value by column: nan, None, or a value of the author's own."""


def markers_of(estimator: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the markers that a fitted estimator knows, for those of its input columns that have one.

    A column has none if it had no missing value in training, or if two steps know two markers.
    """
    found: dict[str, list[Any]] = {}
    for name, marker in _known(estimator, list(names)):
        markers = found.setdefault(name, [])
        if not any(_is_same(marker, other) for other in markers):
            markers.append(marker)
    return {name: markers[0] for name, markers in found.items() if len(markers) == 1}


def _known(step: Any, names: list[str]) -> list[tuple[str, Any]]:
    """Return the columns for which a step knows a marker, with it."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import FeatureUnion, Pipeline

    match step:
        case Pipeline():
            return _of_steps([each for _, each in step.steps], names)
        case ColumnTransformer():
            return [
                each
                for _, transformer, columns in step.transformers_
                for each in _known(transformer, _chosen(columns, names))
            ]
        case FeatureUnion():
            return [each for _, part in step.transformer_list for each in _known(part, names)]
        case SimpleImputer():
            return [(name, _plain(step.missing_values)) for name in names]
    if hasattr(step, "categories_") and len(step.categories_) == len(names):
        return [each for pair in zip(names, step.categories_, strict=True) for each in _of_categories(*pair)]
    return [each for part in _parts(step, len(names)) for each in _known(part, names)]


def _of_steps(steps: Sequence[Any], names: list[str]) -> list[tuple[str, Any]]:
    """Return what the first step knows that is no passthrough.

    An imputer only says what it fills. If a later encoder has a category for another missing value, that one
    was in the data, and the imputer let it pass.
    """
    if not steps:
        return []
    first, later = steps[0], steps[1:]
    if first is None or first == "passthrough" or (hasattr(first, "func") and first.func is None):
        return _of_steps(later, names)
    known = _known(first, names)
    if hasattr(first, "statistics_") and len(first.get_feature_names_out(names)) == len(names):
        seen = dict(_of_steps(later, names))
        return [(name, seen.get(name, marker)) for name, marker in known]
    return known


def _chosen(columns: Any, names: list[str]) -> list[str]:
    return [names[index] for index in chosen(columns, names, list(range(len(names))))]


def _of_categories(name: str, categories: Any) -> list[tuple[str, Any]]:
    return [(name, value) for value in categories.tolist() if value is None or _is_nan(value)]


def _parts(step: Any, count: int) -> Iterable[Any]:
    """Return the fitted estimators that a step keeps, as ensembles and searches do, and that get its rows."""
    for name, value in vars(step).items() if hasattr(step, "__dict__") else ():
        if not name.endswith("_") or name.endswith("__"):
            continue
        for part in value if isinstance(value, list | tuple) else [value]:
            for inner in (part, getattr(part, "estimator", None)):  # a calibrated classifier keeps it there
                if getattr(inner, "n_features_in_", None) == count:
                    yield inner


def _plain(missing_values: Any) -> Any:
    """Return a marker as nan, None, a float or a text; nan for pandas.NA, which stands for all of pandas'."""
    if isinstance(missing_values, str) or missing_values is None:
        return missing_values
    try:
        return float(missing_values)
    except TypeError:
        return math.nan


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_same(one: Any, other: Any) -> bool:
    return (_is_nan(one) and _is_nan(other)) or one == other

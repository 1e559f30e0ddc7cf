"""A pipeline's transformers as functions of columns, without DataFrames and checks of each call.

Those cost milliseconds per call of a ColumnTransformer, for any number of rows. The most common transformers
that treat each column separately are compiled; a pipeline with any other transformer is left to scikit-learn.
The caller compares the compiled function with scikit-learn's outputs before it is used.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.model_registry.model_inputs import Columns
from services.model_registry.sklearn_flavour.structure import chosen

Floats = npt.NDArray[np.float64]
Call = dict[Any, npt.NDArray[Any]]
"""The inputs of one call by name, and intermediate results that several columns share."""
Column = Callable[[Call], npt.NDArray[Any]]
"""Computes one column (n,) of a call: numbers, or texts with None."""
_Compiled = list[Column] | None


def compiled(steps: Sequence[Any], names: Sequence[str]) -> Callable[[Columns], Floats] | None:
    """Return the function from inputs to the output (n, k) of fitted steps; None if a step is not supported.

    Args:
        steps: The steps of a pipeline, without the last one.
        names: The names of the inputs, in the order of the first step.
    """
    columns = _after(steps, [_given(name) for name in names])
    if columns is None:
        return None
    known = columns

    def matrix_of(inputs: Columns) -> Floats:
        call = dict(inputs)  # `_once` adds to it
        return np.array([column(call) for column in known], dtype=np.float64).T

    return matrix_of


def texts(steps: Sequence[Any]) -> list[str]:
    """Return all texts that the fitted encoders in these steps know."""
    found: list[str] = []
    for step in steps:
        for categories in getattr(step, "categories_", ()):
            found += [value for value in categories.tolist() if isinstance(value, str)]
        for each in (*getattr(step, "transformers_", ()), *getattr(step, "steps", ())):
            found += texts([each[1]])
    return found


def _given(name: str) -> Column:
    return lambda call: call[name]


def _after(steps: Sequence[Any], columns: _Compiled) -> _Compiled:
    for step in steps:
        if columns is None:
            return None
        columns = _step(step, columns)
    return columns


def _step(step: Any, columns: list[Column]) -> _Compiled:
    if step is None or step == "passthrough":
        return columns
    known = _STEPS.get(type(step).__name__)
    if known is None or not type(step).__module__.startswith("sklearn."):
        return None
    return known(step, columns)


def _function(step: Any, columns: list[Column]) -> _Compiled:
    # scikit-learn turns "passthrough" into a transformer without a function.
    return columns if step.func is None else None


def _pipeline(step: Any, columns: list[Column]) -> _Compiled:
    return _after([each for _, each in step.steps], columns)


def _column_transformer(step: Any, columns: list[Column]) -> _Compiled:
    names = [str(name) for name in getattr(step, "feature_names_in_", ())]
    parts: dict[int, list[Column]] = {}
    for name, transformer, which in step.transformers_:
        span = step.output_indices_[name]
        if span.start == span.stop:  # dropped, or without columns
            continue
        inputs = [columns[index] for index in chosen(which, names, list(range(len(columns))))]
        outputs = _step(transformer, inputs)
        if outputs is None or len(outputs) != span.stop - span.start:
            return None
        parts[span.start] = outputs
    return [column for start in sorted(parts) for column in parts[start]]


def _imputer(step: Any, columns: list[Column]) -> _Compiled:
    fills = np.asarray(step.statistics_)
    if (
        step.add_indicator
        or fills.dtype != np.float64
        or np.isnan(fills).any()
        or not _is_nan(step.missing_values)
    ):
        return None

    def filled(column: Column, fill: float) -> Column:
        def fill_in(call: Call) -> Floats:
            values = column(call)
            return np.where(np.isnan(values), fill, values)

        return fill_in

    return [filled(column, float(fill)) for column, fill in zip(columns, fills, strict=True)]


def _standard(step: Any, columns: list[Column]) -> _Compiled:
    means = np.zeros(len(columns)) if step.mean_ is None or not step.with_mean else step.mean_
    scales = np.ones(len(columns)) if step.scale_ is None else step.scale_
    return [_scaled(*each) for each in zip(columns, means, scales, strict=True)]


def _scaled(column: Column, mean: float, scale: float) -> Column:
    return lambda call: (column(call) - mean) / scale


def _ordinal(step: Any, columns: list[Column]) -> _Compiled:
    codes = _codes_of_each(step)
    if codes is None or step.handle_unknown != "use_encoded_value":
        return None
    missing, unknown = float(step.encoded_missing_value), float(step.unknown_value)
    return [
        _coded(column, code_of, missing if has_missing else unknown, unknown)
        for column, (code_of, has_missing) in zip(columns, codes, strict=True)
    ]


def _one_hot(step: Any, columns: list[Column]) -> _Compiled:
    codes = _codes_of_each(step)
    if codes is None or step.handle_unknown != "ignore" or step.drop is not None:
        return None
    found: list[Column] = []
    for column, (code_of, has_missing) in zip(columns, codes, strict=True):
        last = len(code_of)  # if nan is a category, it is the last one
        coded = _once(_coded(column, code_of, float(last) if has_missing else -1.0, -1.0))
        found += [_is_code(coded, code) for code in range(last + has_missing)]
    return found


def _once(column: Column) -> Column:
    """Compute a column once per call, however many other columns use it."""
    key = object()

    def once(call: Call) -> npt.NDArray[Any]:
        if key not in call:
            call[key] = column(call)
        return call[key]

    return once


def _is_code(coded: Column, code: int) -> Column:
    return lambda call: coded(call) == code


def _codes_of_each(step: Any) -> list[tuple[Mapping[Any, float], bool]] | None:
    """Return for each column the codes of its categories, and whether nan is one of them, the last."""
    if any(few is not None for few in getattr(step, "infrequent_categories_", None) or []):
        return None
    found: list[tuple[Mapping[Any, float], bool]] = []
    for categories in step.categories_:
        values = categories.tolist()
        present = [value for value in values if not _is_nan(value)]
        if len(values) - len(present) > 1 or values[: len(present)] != present:
            return None
        found.append(({value: float(code) for code, value in enumerate(present)}, len(present) < len(values)))
    return found


def _coded(column: Column, codes: Mapping[Any, float], missing: float, unknown: float) -> Column:
    def code(call: Call) -> Floats:
        values = column(call).tolist()
        return np.array([missing if _is_nan(value) else codes.get(value, unknown) for value in values])

    return code


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


_STEPS: Mapping[str, Callable[[Any, list[Column]], _Compiled]] = {
    "ColumnTransformer": _column_transformer,
    "FunctionTransformer": _function,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
    "Pipeline": _pipeline,
    "SimpleImputer": _imputer,
    "StandardScaler": _standard,
}

"""Features without a value: the policy that model.yaml declares, for scoring and for training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.runtime.declaration import DeclarationError, MissingValues

Columns = Mapping[str, npt.NDArray[Any]]
_NONE = np.array(None, dtype=object)
"""Compared with a column element by element."""


def is_missing(column: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return (n,) where a column of float64 or object has no value: nan or None."""
    missing: npt.NDArray[np.bool_] = column == _NONE if column.dtype == object else np.isnan(column)
    return missing


def with_missing(
    columns: Columns,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[np.bool_]]]:
    """Return columns, and (n,) by name where they lack values, only for columns that lack any.

    An infinite number is no value: it becomes nan. So the model gets what the prediction record says and what
    a training set holds, and the declared policy applies.
    """
    found = dict(columns)
    numbers = [name for name, column in columns.items() if column.dtype != object]
    missing = {name: is_missing(column) for name, column in columns.items() if column.dtype == object}
    if numbers:  # one call for all: a call for each column costs more than the rest of a small slice
        present = np.isfinite(np.array([columns[name] for name in numbers]))
        if not present.all():
            missing |= zip(numbers, ~present, strict=True)
            infinite = [name for name in numbers if np.isinf(columns[name]).any()]
            found |= {name: np.where(missing[name], np.nan, columns[name]) for name in infinite}
    return found, {name: mask for name, mask in missing.items() if mask.any()}


class MissingPolicy:
    """What happens to rows of a model in which a feature is missing."""

    def __init__(self, declared: MissingValues, names: Sequence[str]) -> None:
        """Take the names of all features; raise `DeclarationError` if the policy names another one."""
        unknown = [name for name in (*declared.reject, *declared.fill) if name not in names]
        if unknown:
            raise DeclarationError(
                f"features.missing names {', '.join(unknown)}; the features are {', '.join(names)}"
            )
        self._fill = dict(declared.fill)
        self._reject = declared.reject
        if declared.otherwise == "reject":
            self._reject = tuple(name for name in names if name not in declared.fill)

    def fill(self, columns: Columns) -> dict[str, npt.NDArray[Any]]:
        """Return the columns, with missing values replaced by the declared ones."""
        filled = dict(columns)
        for name, value in self._fill.items():
            missing = is_missing(columns[name])
            if missing.any():
                filled[name] = np.where(missing, np.array(value, dtype=columns[name].dtype), columns[name])
        return filled

    def refused(self, columns: Columns) -> dict[int, str]:
        """Return the rows that must not be scored, by index, each with the reason."""
        refused: dict[int, str] = {}
        for name in self._reject:
            for row in np.flatnonzero(is_missing(columns[name])).tolist():
                refused.setdefault(row, f"the feature {name} is missing, and model.yaml says reject")
        return refused

"""The values of a windowed view's tiles, converted to the types that its features declare.

Windows are evaluated in doubles, with nan for null; only first and last also return texts, and bools as 0 and
1. Integers outside the range of their type become the nearest limit. A Float32 is the double, rounded to the
nearest float.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from services.feature_store.plan import ValueType, View
from streams.records import FeatureValue
from streams.stored_arrays import AnyArray
from streams.tile_layout import TileLayout
from streams.tiles import Tiles

_RANGES = {ValueType.INT32: (-(2.0**31), 2.0**31 - 1), ValueType.INT64: (-(2.0**63), 2.0**63 - 1024)}
"""The limits of integers as doubles; 2**63 - 1024 is the largest double that is an Int64."""


class WindowValues:
    """Converts what the tiles of one view return."""

    def __init__(self, view: View) -> None:
        """Prepare what is the same for every entity."""
        self.layout = TileLayout(view.aggregations, view.hop_ms)
        self._types = [feature.type for feature in view.features]
        self._are_doubles = {*self._types} == {ValueType.DOUBLE}

    def newest(self, tiles: Tiles) -> list[FeatureValue]:
        """Return the features as of the newest event."""
        values = tiles.newest_values()
        if self._are_doubles:  # the common case, at a third of the cost
            return [None if value != value else float(value) for value in values]
        return [fitted(kind, value) for kind, value in zip(self._types, values, strict=True)]

    def missing(self, rows: int) -> list[AnyArray]:
        """Return for each feature a column (rows,) of nan that can hold what tiles return."""
        return [np.full(rows, np.nan, object if kind is ValueType.STRING else float) for kind in self._types]

    def fit(self, columns: Sequence[AnyArray]) -> list[AnyArray]:
        """Return columns (n,) from tiles in the features' types: float64, texts object with None."""
        return [_fit_column(kind, column) for kind, column in zip(self._types, columns, strict=True)]


def fitted(kind: ValueType, value: float | str) -> FeatureValue:
    """Return one value in a feature's type, exactly as in a column; None for nan."""
    if isinstance(value, str):
        return value
    return None if math.isnan(value) else _FITTED.get(kind, float)(value)


def _whole(kind: ValueType, value: float) -> int:
    lowest, highest = _RANGES[kind]
    return int(min(max(value, lowest), highest))


def _float32(value: float) -> float:
    return float(_round_to_float32(np.array(value)))


def _round_to_float32(column: AnyArray) -> AnyArray:
    with np.errstate(over="ignore"):  # values outside the range of a float become infinite
        return column.astype(np.float32).astype(np.float64)


_FITTED: Mapping[ValueType, Callable[[float], FeatureValue]] = {
    ValueType.INT32: lambda value: _whole(ValueType.INT32, value),
    ValueType.INT64: lambda value: _whole(ValueType.INT64, value),
    ValueType.FLOAT: _float32,
    ValueType.BOOL: bool,
}


def _fit_column(kind: ValueType, column: AnyArray) -> AnyArray:
    if kind is ValueType.STRING:
        texts: list[Any] = [value if isinstance(value, str) else None for value in column.tolist()]
        return np.array(texts, dtype=object)
    if kind is ValueType.FLOAT:
        return _round_to_float32(column)
    return np.clip(column, *_RANGES[kind]) if kind in _RANGES else column

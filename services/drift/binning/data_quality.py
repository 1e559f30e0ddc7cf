"""Checks served values against their declaration: types, nulls, bounds, allowed names. Pure.

A value that breaks a declared bound is a fact that needs no statistics: such values are counted, by window.
"""

import enum
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from services.drift.binning.bin_counts import numbers_of
from services.runtime.declaration import ModelDeclaration, QualityBounds
from streams.codec import FieldType
from streams.records import FeatureQuality, FeatureValue

Faults = npt.NDArray[np.int8]
"""A `Fault` for each value; shape ``(n_rows, n_rules)``."""
_TYPES: Mapping[FieldType, frozenset[type]] = {
    FieldType.STRING: frozenset({str}),
    FieldType.INT: frozenset({float, int}),
    FieldType.FLOAT: frozenset({float, int}),
    FieldType.BOOL: frozenset({bool, float, int}),
}
"""Numeric features are served as doubles; whether they are integers is checked separately."""


class Fault(enum.IntEnum):
    """What is wrong with a value; each value has at most one fault."""

    NONE = 0
    NULL = 1
    TYPE = 2
    BELOW = 3
    ABOVE = 4
    NAME = 5


FAULTS = len(Fault)


class FeatureRules:
    """The declared quality rules of one feature."""

    def __init__(self, feature: str, bounds: QualityBounds, kind: FieldType | None = None) -> None:
        """Take the bounds, and for a field of the request its type in the request's schema."""
        self.feature = feature
        self.bounds = bounds
        self._kind = kind
        types = frozenset() if kind is None else _TYPES.get(kind, frozenset())
        self.key = f"{feature}: {kind or 'any type'} {bounds}"
        """What the counts of this rule depend on; counts of another rule have another key."""
        self._types = types | {type(None)} if types else types
        self._names = frozenset(bounds.allowed)

    def faults(self, column: Sequence[FeatureValue]) -> Faults:
        """Return the fault of each value ``(n_rows,)``; a nan counts as null."""
        result = np.zeros(len(column), dtype=np.int8)
        kinds = set(map(type, column))
        if self._types and not kinds <= self._types:
            result[[type(value) not in self._types for value in column]] = Fault.TYPE
        if self._names:
            result[[value is not None and str(value) not in self._names for value in column]] = Fault.NAME
        if kinds & {float, int, bool}:
            numbers = numbers_of(column)
            result[self._of_wrong_type(numbers) & (result == Fault.NONE)] = Fault.TYPE
            for bound, fault in ((self.bounds.min, Fault.BELOW), (self.bounds.max, Fault.ABOVE)):
                if bound is not None:
                    beyond = numbers < bound if fault is Fault.BELOW else numbers > bound
                    result[beyond & (result == Fault.NONE)] = fault
            if float in kinds:
                result[[value is None or value != value for value in column]] = Fault.NULL
                return result
        if type(None) in kinds:
            result[[value is None for value in column]] = Fault.NULL
        return result

    def _of_wrong_type(self, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which numbers ``(n_rows,)`` are not integers, or not booleans, where those are declared."""
        if self._kind is FieldType.INT:
            return np.asarray(np.isfinite(numbers) & (numbers != np.trunc(numbers)))
        if self._kind is FieldType.BOOL:
            return ~np.isin(numbers, (0.0, 1.0)) & ~np.isnan(numbers)
        return np.zeros(len(numbers), dtype=np.bool_)

    def evaluate(self, counts: Sequence[int]) -> FeatureQuality:
        """Compare a window's counts of values, by `Fault`, with the declared shares."""
        values = sum(counts)
        nulls, invalid = counts[Fault.NULL], values - counts[Fault.NONE] - counts[Fault.NULL]
        allowed = self.bounds.null_share_max
        too_many_nulls = allowed is not None and nulls > allowed * values
        return FeatureQuality(
            feature=self.feature,
            values=values,
            nulls=nulls,
            wrong_type=counts[Fault.TYPE],
            below=counts[Fault.BELOW],
            above=counts[Fault.ABOVE],
            not_allowed=counts[Fault.NAME],
            null_share_max=allowed,
            invalid_share_max=self.bounds.invalid_share_max,
            broken=too_many_nulls or invalid > self.bounds.invalid_share_max * values,
        )


class QualityRules:
    """The declared quality rules of a model's features, in the order in which they are served."""

    def __init__(self, declaration: ModelDeclaration, features: Sequence[str]) -> None:
        """Read the rules of these features; those that are fields of the request also have its types."""
        fields = {field.name: field for field in declaration.request.fields}
        declared = declaration.monitoring.quality
        self.rules: list[tuple[int, FeatureRules]] = []
        for number, name in enumerate(features):
            field = fields.get(name) if name in declaration.features.from_request else None
            bounds = declared.get(name, QualityBounds())
            kind = field.type if field is not None and field.type in _TYPES else None
            if field is not None and not field.nullable and bounds.null_share_max is None:
                bounds = bounds.model_copy(update={"null_share_max": 0.0})
            if name in declared or kind is not None:
                self.rules.append((number, FeatureRules(name, bounds, kind)))
        self.keys = [rule.key for _, rule in self.rules]
        """The key of each rule, in the order of their counts."""
        self._absent = [FeatureQuality(feature=name, values=0) for name in declared if name not in features]

    def faults(self, columns: Sequence[Sequence[FeatureValue]]) -> Faults:
        """Return the faults ``(n_rows, n_rules)`` of the columns of all features."""
        rows = len(columns[0]) if columns else 0
        result = np.zeros((rows, len(self.rules)), dtype=np.int8)
        for index, (number, rule) in enumerate(self.rules):
            result[:, index] = rule.faults(columns[number])
        return result

    def evaluate(self, counts: Sequence[Sequence[int]]) -> list[FeatureQuality]:
        """Compare a window's counts ``(n_rules, FAULTS)`` with the rules.

        A rule whose name is not a feature has no values.
        """
        evaluated = [rule.evaluate(by_fault) for (_, rule), by_fault in zip(self.rules, counts, strict=True)]
        return evaluated + self._absent


def count_faults(faults: Faults) -> npt.NDArray[np.int64]:
    """Count faults ``(n_rows, n_rules)`` by rule and `Fault`: ``(n_rules, FAULTS)``."""
    rules = faults.shape[1]
    indices = faults + np.arange(rules) * FAULTS
    return np.bincount(indices.reshape(-1), minlength=rules * FAULTS).reshape(rules, FAULTS)

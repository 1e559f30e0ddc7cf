"""The numbers that a source's fields may have, so that every view of the source can hold them. Pure.

A record with another number is a dead letter: if the number were cut to its type, it would be silently wrong.
"""

from collections.abc import Iterable, Iterator, Sequence

from services.feature_store.plan import Column, ValueType, View, ViewKind
from streams import codec
from streams.codec import FieldType, NumberRange

_KEEPING = frozenset({"first", "last", "min", "max"})
"""Functions that return a value of the column; others return a new number, which may be rounded."""
_TYPE_RANGES = {ValueType.INT32: codec.INT32_RANGE, ValueType.FLOAT: codec.FLOAT32_RANGE}
_FIELD_RANGES = {FieldType.INT: codec.INT64_RANGE, FieldType.FLOAT: codec.DOUBLE_RANGE}


def of_views(views: Sequence[View]) -> dict[str, NumberRange]:
    """Return the range of each field that needs a narrower one than its type; the views share a source."""
    fields = {field.name: field.type for view in views if view.source for field in view.source.fields}
    wanted = [(name, numbers) for view in views for name, numbers in _of_view(view)]
    return _narrowed(fields, wanted)


def of_join_keys(views: Iterable[View], fields: Iterable[codec.Field]) -> dict[str, NumberRange]:
    """Return the ranges of the fields of a request that are join keys of these views."""
    wanted = [(key.name, numbers) for view in views for key, numbers in _of_columns(view.join_keys)]
    return _narrowed({field.name: field.type for field in fields}, wanted)


def _of_view(view: View) -> Iterator[tuple[str, NumberRange]]:
    yield from ((key.name, numbers) for key, numbers in _of_columns(view.join_keys))
    if view.kind is ViewKind.LATEST:
        yield from ((feature.name, numbers) for feature, numbers in _of_columns(view.features))
    integers = {column.name for column in view.features if column.type in (ValueType.INT32, ValueType.INT64)}
    for aggregation in view.aggregations:  # windows are evaluated in doubles
        if aggregation.function in _KEEPING and aggregation.feature in integers:
            yield aggregation.column, codec.EXACT_RANGE


def _of_columns(columns: Iterable[Column]) -> Iterator[tuple[Column, NumberRange]]:
    return ((column, _TYPE_RANGES[column.type]) for column in columns if column.type in _TYPE_RANGES)


def _narrowed(
    fields: dict[str, FieldType], wanted: Iterable[tuple[str, NumberRange]]
) -> dict[str, NumberRange]:
    found: dict[str, NumberRange] = {}
    for name, numbers in wanted:
        whole = _FIELD_RANGES.get(fields.get(name, FieldType.STRING))
        if whole is not None:
            before = found.get(name, whole)
            found[name] = NumberRange(max(before.low, numbers.low), min(before.high, numbers.high))
    return {name: numbers for name, numbers in found.items() if numbers != _FIELD_RANGES[fields[name]]}

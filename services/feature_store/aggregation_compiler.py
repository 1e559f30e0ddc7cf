"""Compile and check what a stream view aggregates: Feast's `Aggregation`, and tags for the rest.

Feast's `Aggregation` declares column, function, time_window, name and slide_interval. A slide_interval that
differs from the time_window makes a hopping window; Feast fills in the time_window where no slide_interval is
given, so an equal one means a sliding window. Without a time_window the entity's whole life counts. Tags of
the view declare what Feast's `Aggregation` cannot, each named ``kind.feature``:

- ``window.<feature>``: ``sliding`` (the default), ``tumbling``, or ``session 30m`` with the gap;
- ``change.<feature>``: ``difference`` or ``ratio`` to the same aggregation over the previous window;
- ``percentile.<feature>``: the percentile of approx_percentile, from 0 to 1.

This module does not import Feast; it only reads attributes of Feast's objects.
"""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any

from services.feature_store.plan import Column, FeatureAggregation, PlanError, ValueType
from services.runtime.times import duration_ms
from streams import aggregates, codec, tile_layout
from streams.spans import WindowChange

_HOP_DEFAULT = dt.timedelta(minutes=5)
"""Feast's default, where a view declares none."""
_NUMBERS = (codec.FieldType.INT, codec.FieldType.FLOAT)
_COUNTS = ("count", "count_distinct", "approx_count_distinct")
_FIRST_OR_LAST = ("first", "last")
_COLUMN_TYPES = dict.fromkeys(
    (*_COUNTS, *_FIRST_OR_LAST), (*_NUMBERS, codec.FieldType.STRING, codec.FieldType.BOOL)
)
"""The field types of functions that take more than numbers."""
_TYPE_KEEPING = ("sum", "min", "max", *_FIRST_OR_LAST)
"""Functions whose value is an integer if the field is one."""
_FLOATS = {"Float64": ValueType.DOUBLE, "Float32": ValueType.FLOAT}
_INTEGERS = {"Int64": ValueType.INT64, "Int32": ValueType.INT32}
_TEXTS_AND_BOOLS = {
    codec.FieldType.STRING: {"String": ValueType.STRING},
    codec.FieldType.BOOL: {"Bool": ValueType.BOOL},
}
"""The feature types that the first or last value of such a field fills."""
_AGGREGATION_TAGS = ("window", "change", "percentile")
"""The kinds of tags that declare something for one feature of a view, as in ``window.feature_name``."""


def aggregations(view: Any, fields: dict[str, codec.Field]) -> tuple[FeatureAggregation, ...]:
    """Return a view's aggregations, in order; raise `PlanError` for what cannot be run.

    ``fields`` are the fields of the message's schema, by name.
    """
    names = [item.resolved_name(item.time_window) for item in view.aggregations]
    tags = _aggregation_tags(view, names)
    tiles_ms = hop_ms(view) if names else 0
    return tuple(
        _aggregation(f"view {view.name!r}: aggregation {name!r}", name, item, tags[name], fields, tiles_ms)
        for name, item in zip(names, view.aggregations, strict=True)
    )


def _aggregation_tags(view: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the view's tags ``kind.feature`` by feature; raise `PlanError` for tags without effect."""
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for tag, value in view.tags.items():
        kind, _, name = tag.partition(".")
        if kind in _AGGREGATION_TAGS and name not in found:
            known = ", ".join(names) or "none"
            raise PlanError(
                f"view {view.name!r}: tag {tag!r}: there is no aggregation {name!r}; the aggregations are "
                f"{known}"
            )
        if name in found:
            if kind not in _AGGREGATION_TAGS:
                known = ", ".join(_AGGREGATION_TAGS)
                raise PlanError(f"view {view.name!r}: tag {tag!r}: there is no tag {kind!r}; use {known}")
            found[name][kind] = value
    return found


def _aggregation(
    where: str, name: str, item: Any, tags: dict[str, str], fields: dict[str, codec.Field], hop_ms: int
) -> FeatureAggregation:
    if item.function not in aggregates.FUNCTIONS:
        raise PlanError(
            f"{where}: function {item.function!r} is not supported; use one of "
            f"{', '.join(aggregates.FUNCTIONS)}"
        )
    if item.time_window is not None and item.time_window <= dt.timedelta(0):
        raise PlanError(
            f"{where}: time_window must be longer than 0; leave it out to aggregate the entity's whole life"
        )
    field = fields.get(item.column)
    types = _COLUMN_TYPES.get(item.function, _NUMBERS)
    if field is None or field.type not in types:
        raise PlanError(
            f"{where}: column {item.column!r} is not in the message's schema as one of {', '.join(types)}"
        )
    slide_ms, gap_ms = _window(where, item, tags.get("window", ""), hop_ms)
    change = _change(where, tags.get("change", ""))
    if change:
        _check_comparable(where, item, field.type, gap_ms)
    return FeatureAggregation(
        name,
        item.column,
        item.function,
        milliseconds(item.time_window),
        slide_ms,
        gap_ms,
        change,
        _percentile(where, item.function, tags.get("percentile")),
    )


def _window(where: str, item: Any, declared: str, hop_ms: int) -> tuple[int, int]:
    """Return the slide of hopping and tumbling windows and the gap of sessions; both are 0 if it slides."""
    window_ms, slide_ms = milliseconds(item.time_window), milliseconds(item.slide_interval)
    kind, _, rest = declared.partition(" ")
    if slide_ms not in (0, window_ms) and declared:
        raise PlanError(
            f"{where}: slide_interval declares a hopping window, the tag window a {kind} one: choose one"
        )
    if kind in ("session", "tumbling") and not window_ms:
        raise PlanError(f"{where}: tag window is {declared!r}, which needs a time_window")
    if kind == "session":
        return 0, _gap_ms(where, rest, window_ms, hop_ms)
    if declared not in ("", "sliding", "tumbling"):
        raise PlanError(
            f"{where}: tag window is {declared!r}; write 'sliding', 'tumbling' or 'session 30m'; "
            "a hopping window is declared by slide_interval"
        )
    if declared == "tumbling":
        slide_ms = window_ms
    elif slide_ms == window_ms:  # Feast filled it in, because none was declared
        return 0, 0
    if 0 < window_ms < slide_ms or slide_ms % hop_ms or window_ms % hop_ms:
        raise PlanError(
            f"{where}: time_window and slide_interval must be multiples of tiling_hop_size "
            f"({hop_ms // 1000} s), and slide_interval not longer than time_window"
        )
    return slide_ms, 0


def _gap_ms(where: str, text: str, window_ms: int, hop_ms: int) -> int:
    try:
        gap_ms = duration_ms(text)
    except ValueError:
        raise PlanError(
            f"{where}: tag window: the gap {text!r} must be a number and s, m, h or d, as in 'session 30m'"
        ) from None
    if not hop_ms <= gap_ms <= window_ms:
        raise PlanError(
            f"{where}: tag window: the gap must be from tiling_hop_size ({hop_ms // 1000} s) to time_window, "
            "the maximum length of a session"
        )
    return gap_ms


def _change(where: str, declared: str) -> WindowChange:
    try:
        return WindowChange(declared)
    except ValueError:
        raise PlanError(f"{where}: tag change is {declared!r}; write 'difference' or 'ratio'") from None


def _check_comparable(where: str, item: Any, kind: codec.FieldType, gap_ms: int) -> None:
    if gap_ms or item.time_window is None:
        raise PlanError(
            f"{where}: tag change: a {'session' if gap_ms else 'whole life'} has no previous window to "
            "compare with; declare a time_window and no session"
        )
    if item.function in _FIRST_OR_LAST and kind in _TEXTS_AND_BOOLS:
        raise PlanError(f"{where}: tag change: it needs numbers, but column {item.column!r} is {kind}")


def _percentile(where: str, function: str, declared: str | None) -> float:
    if function != "approx_percentile":
        if declared is not None:
            raise PlanError(f"{where}: tag percentile: only approx_percentile takes one, not {function}")
        return 0.0
    try:
        percentile = float(declared or "nan")
    except ValueError:
        percentile = math.nan
    if not 0 <= percentile <= 1:
        raise PlanError(f"{where}: tag percentile is {declared!r}; approx_percentile needs one from 0 to 1")
    return percentile


def in_order(
    view: Any,
    features: tuple[Column, ...],
    aggregations: tuple[FeatureAggregation, ...],
    fields: dict[str, codec.Field],
) -> tuple[Column, ...]:
    """Return the schema's features in the order of the aggregations that fill them."""
    by_name = {feature.name: feature for feature in features}
    names = [item.feature for item in aggregations]
    if sorted(by_name) != sorted(names):
        raise PlanError(
            f"view {view.name!r}: schema has the features {sorted(by_name)}, "
            f"the aggregations fill {sorted(names)}"
        )
    for item in aggregations:
        fitting = _fitting(item, fields[item.column].type)
        if by_name[item.feature].type not in fitting.values():
            raise PlanError(
                f"view {view.name!r}: feature {item.feature!r} must be {' or '.join(fitting)}, the type of "
                f"the {item.function} of column {item.column!r}"
            )
    return tuple(by_name[name] for name in names)


def _fitting(item: FeatureAggregation, kind: codec.FieldType) -> Mapping[str, ValueType]:
    """Return the feature types that an aggregation of such a field fills, by Feast's names."""
    if item.function in _FIRST_OR_LAST and kind in _TEXTS_AND_BOOLS:
        return _TEXTS_AND_BOOLS[kind]
    keeps_integers = item.function in _TYPE_KEEPING and kind is codec.FieldType.INT
    is_whole = item.change is not WindowChange.RATIO and (item.function in _COUNTS or keeps_integers)
    return {**_FLOATS, **_INTEGERS} if is_whole else _FLOATS


def hop_ms(view: Any) -> int:
    """Return the declared hop; without one the longest that divides every window, at most Feast's default."""
    lengths_ms = [
        milliseconds(length)
        for item in view.aggregations
        for length in (item.time_window, item.slide_interval)
        if length
    ]
    hop_ms = milliseconds(view.tiling_hop_size) or math.gcd(milliseconds(_HOP_DEFAULT), *lengths_ms)
    if hop_ms % tile_layout.SECOND_MS:
        raise PlanError(
            f"view {view.name!r}: tiling_hop_size must be whole seconds; without tiling_hop_size, "
            "time_window must be whole seconds"
        )
    if hop_ms > min(lengths_ms, default=hop_ms):
        raise PlanError(f"view {view.name!r}: tiling_hop_size must not exceed the shortest time_window")
    return hop_ms


def milliseconds(duration: dt.timedelta | None) -> int:
    """Return a duration in milliseconds, rounded; 0 for None."""
    return round(duration / dt.timedelta(milliseconds=1)) if duration else 0

"""A request among the events of its own features: the values as of just before it, with the request added.

So the request counts once, however far the features process is: it may have read the request already, or not
yet. Other events of the same instant do not count.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from services.feature_store import feast_layout
from services.feature_store.plan import View, ViewKind
from services.feature_store.served_features import AnyArray, Int64s
from services.feature_store.window_values import WindowValues
from streams.records import FeatureValue
from streams.stored_tiles import StoredTiles
from streams.tiles import Tiles

BEFORE_MS = 1
"""Features are read this much earlier than the request: the resolution of event time."""


class OwnValues(Protocol):
    """Evaluates one stream view with the request's own event."""

    def values(self, stored: Any, time_ms: int, event: Any) -> Sequence[FeatureValue] | None:
        """Return the features with an event at this time; None if the state does not reach back so far.

        Args:
            stored: The state of the entity; None without one.
            time_ms: Event time of the request.
            event: The decoded request, with the fields that the view reads.
        """


class OwnWindows:
    """Windows that end with the request."""

    def __init__(self, view: View) -> None:
        """Compile the view's layout."""
        self._values = WindowValues(view)
        self._columns_of = _getter(self._values.layout.columns)

    def values(self, stored: StoredTiles | None, time_ms: int, event: Any) -> Sequence[FeatureValue] | None:
        """See `OwnValues`."""
        if stored is not None and stored.is_beyond(time_ms):
            return None
        with_own = Tiles(self._values.layout, stored, time_ms)
        with_own.add(time_ms, self._columns_of(event))
        return self._values.newest(with_own)


class OwnLatest:
    """The newest event, which is the request itself."""

    def __init__(self, view: View) -> None:
        """Take the features, which are fields of the request."""
        self._values_of = _getter(view.feature_names)
        self._types = [feature.type for feature in view.features]

    def values(self, stored: Any, time_ms: int, event: Any) -> Sequence[FeatureValue]:
        """See `OwnValues`."""
        del stored, time_ms
        values = zip(self._types, self._values_of(event), strict=True)
        return [feast_layout.decode_value(feast_layout.encode_value(kind, value)) for kind, value in values]


def of_view(view: View) -> OwnValues:
    """Return what evaluates a stream view."""
    return OwnWindows(view) if view.kind is ViewKind.WINDOWED else OwnLatest(view)


def fields_of(view: View) -> set[str]:
    """Return the fields of an event that a stream view reads, except for its join keys."""
    return {item.column for item in view.aggregations} or set(view.feature_names)


def fill(
    own: OwnValues,
    states: Sequence[Any],
    rows_of: Sequence[Int64s],
    times_ms: Int64s,
    events: Sequence[Any],
    columns: Sequence[AnyArray],
) -> Int64s:
    """Set the values of n requests; return the rows (m,) that have some.

    Args:
        own: Of the view.
        states: The state of each entity, None without one.
        rows_of: The rows of each entity.
        times_ms: The event times of the rows (n,).
        events: The requests (n,).
        columns: A column (n,) for each feature.
    """
    found = []
    for state, rows in zip(states, rows_of, strict=True):
        for row in rows.tolist():
            values = own.values(state, int(times_ms[row]), events[row])
            if values is None:
                continue
            found.append(row)
            for column, value in zip(columns, values, strict=True):
                column[row] = np.nan if value is None and column.dtype != object else value
    return np.array(found, dtype=np.int64)


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that reads these attributes as a tuple, even if there is only one."""
    get = operator.attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)

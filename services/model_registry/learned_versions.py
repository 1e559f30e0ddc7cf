"""What the learning process and scoring agree on: where a learned version stands, what an estimator gets.

Versions of one model take turns in `PLACES` keys of the compacted topic, so that the topic holds every
version that may still answer, and no more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from services.runtime.declaration import INTERVALS_AHEAD_MAX
from streams.records import FeatureValue

PLACES = 2 * INTERVALS_AHEAD_MAX
"""The versions that wait, the one that answers, and as many again for who reads late."""
Row = dict[str, float | int | str | bool]
"""Without the features that are missing: river's estimators know nothing of null."""


def key(model: str, version: int) -> bytes:
    """Return the key under which a version is published."""
    return f"{model}/{version % PLACES}".encode()


def checkpoint_key(model: str) -> bytes:
    """Return the key of the learning process's own state."""
    return f"{model}/checkpoint".encode()


def row_of(names: Sequence[str], values: Sequence[FeatureValue], fill: Mapping[str, float | str]) -> Row:
    """Return one request's features as an estimator gets them, in the order of the names.

    >>> row_of(["hour", "carrier", "gust"], [16.0, "UA", None], {"gust": 0.0})
    {'hour': 16.0, 'carrier': 'UA', 'gust': 0.0}
    """
    row: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        known = fill.get(name) if value is None or value != value else value  # noqa: PLR0124  # nan
        if known is not None:
            row[name] = known
    return row

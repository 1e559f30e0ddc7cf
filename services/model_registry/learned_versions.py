"""What the learning process and scoring agree on: the keys of learned versions, and an estimator's input.

The versions of one model use `KEYS` keys of the compacted topic in turn, so that the topic holds every
version that may still score, and no more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from services.runtime.declaration import INTERVALS_AHEAD_MAX
from streams.records import FeatureValue

KEYS = 2 * INTERVALS_AHEAD_MAX
"""Keys per model: enough for the version in effect and those that are not in effect yet, twice, for slow
readers."""
EstimatorRow = dict[str, float | int | str | bool]
"""Features by name, without missing ones: river's estimators do not support null."""


def key(model: str, version: int) -> bytes:
    """Return the key under which a version is published."""
    return f"{model}/{version % KEYS}".encode()


def checkpoint_key(model: str) -> bytes:
    """Return the key of the learning process's checkpoint."""
    return f"{model}/checkpoint".encode()


def row_of(
    names: Sequence[str], values: Sequence[FeatureValue], fill: Mapping[str, float | str]
) -> EstimatorRow:
    """Return the features of one request as the input of an estimator, in the order of the names.

    >>> row_of(["hour", "carrier", "gust"], [16.0, "UA", None], {"gust": 0.0})
    {'hour': 16.0, 'carrier': 'UA', 'gust': 0.0}
    """
    row: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        known = fill.get(name) if value is None or value != value else value
        if known is not None:
            row[name] = known
    return row

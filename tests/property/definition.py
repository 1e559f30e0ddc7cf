"""The values of windows by definition, and states for the tests of their laws."""

import contextlib
import dataclasses
import math
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any
from unittest import mock

from streams import distincts, quantiles
from streams.spans import WindowChange
from streams.tile_layout import TileLayout
from streams.tiles import Tiles

Event = tuple[int, tuple[Any, ...]]
"""Time and values, one for each column of the layout."""


@dataclasses.dataclass(frozen=True)
class Aggregation:
    column: str
    function: str
    window_ms: int
    slide_ms: int = 0
    gap_ms: int = 0
    change: WindowChange = WindowChange.NONE
    percentile: float = 0.0


@contextlib.contextmanager
def small_sketches() -> Iterator[None]:
    """Make limits so small that a few values exceed exact sets and the full resolution of quantiles."""
    with mock.patch.object(distincts, "EXACT_MAX", 3), mock.patch.object(quantiles, "BUCKETS_MAX", 4):
        yield


def state_of(layout: TileLayout, events: Sequence[Event]) -> Tiles:
    """Return the state after these events, in their order."""
    tiles = Tiles(layout)
    for time_ms, values in events:
        tiles.add(time_ms, values)
    return tiles


def assert_order_and_restarts_change_no_byte(
    layout: TileLayout, events: Sequence[Event], rng: random.Random, written_every: int
) -> None:
    """Compare the events in time order with a shuffled order that is written and read now and then."""
    expected = state_of(layout, sorted(events, key=lambda event: event[0])).to_bytes()
    tiles = Tiles(layout)
    for number, (time_ms, values) in enumerate(rng.sample(events, len(events))):
        tiles.add(time_ms, values)
        if number % written_every == 0:  # a restart in between: the state goes through its bytes
            tiles = Tiles.from_bytes(layout, tiles.to_bytes())
    assert tiles.to_bytes() == expected


def assert_merge_equals_concatenation(
    layout: TileLayout, left: Sequence[Event], right: Sequence[Event]
) -> None:
    """Compare two merged states, each read from its bytes, with the state of all events."""
    merged = Tiles.from_bytes(layout, state_of(layout, left).to_bytes())
    merged.merge(Tiles.from_bytes(layout, state_of(layout, right).to_bytes()))
    assert merged.to_bytes() == state_of(layout, [*left, *right]).to_bytes()


def aggregate(function: str, values: Sequence[float], percentile: float) -> float:
    """Aggregate values in the order of their time, equal times in the order of the values."""
    if function == "count":
        return float(len(values))
    if "distinct" in function:
        return float(len(set(values)))
    if not values or (function.startswith(("std", "var")) and len(values) < 2):
        return math.nan
    exact = [Fraction(value) for value in values]
    if function == "approx_percentile":
        return middle_of_bucket(
            sorted(values)[max(math.ceil(Fraction(str(percentile)) * len(values)), 1) - 1]
        )
    result = {
        "sum": lambda: sum(exact),
        "mean": lambda: sum(exact) / len(exact),
        "avg": lambda: sum(exact) / len(exact),
        "min": lambda: min(exact),
        "max": lambda: max(exact),
        "first": lambda: exact[0],
        "last": lambda: exact[-1],
    }.get(function, lambda: statistics.variance(exact))()
    try:
        rounded = float(result)
    except OverflowError:
        rounded = math.inf if result > 0 else -math.inf
    return math.sqrt(rounded) if function.startswith("std") else rounded


def middle_of_bucket(value: float) -> float:
    """Return the middle of the 64th of a power of two in which a value lies; 0 for what has no exponent."""
    if abs(value) < sys.float_info.min:
        return 0.0
    fraction, exponent = math.frexp(abs(value))
    return math.copysign(math.ldexp((math.floor(fraction * 128) + 0.5) / 128, exponent), value)

"""Values of a stored state at any time, and what is no such state."""

import math

import numpy as np
import pytest

from streams.stored_arrays import StoredStateError
from streams.stored_tiles import StoredTiles
from streams.tile_layout import NEVER, SLACK_MS, TileLayout
from streams.tiles import Tiles
from tests.property.definition import Aggregation

HOP_MS = 10_000
COUNT = TileLayout((Aggregation("x", "count", 60_000),), HOP_MS)


def stored(layout: TileLayout, *times_ms: int) -> StoredTiles:
    tiles = Tiles(layout)
    for time_ms in times_ms:
        tiles.add(time_ms, (1.0,))
    return StoredTiles(layout, tiles.to_bytes())


def test_a_tumbling_window_is_served_until_the_next_one_is_complete() -> None:
    layout = TileLayout((Aggregation("x", "sum", 60_000, slide_ms=60_000),), HOP_MS)
    (served,), _ = stored(layout, 60_000, 119_999, 120_000).values(
        np.array([119_999, 120_000, 179_999, 180_000])
    )
    np.testing.assert_array_equal(served, [math.nan, 2.0, 2.0, 1.0])


def test_a_session_ends_a_gap_after_its_last_event_and_counts_at_most_the_window() -> None:
    layout = TileLayout((Aggregation("x", "count", 60_000, gap_ms=20_000),), HOP_MS)
    tiles = Tiles(layout)
    for second in (100, 120, 141, 161, 181, 201, 221):
        tiles.add(second * 1000, (1.0,))
    query_times_ms = np.array([100_000, 120_000, 140_000, 140_001, 141_000, 221_000, 241_000, 241_001])
    (served,), _ = StoredTiles(layout, tiles.to_bytes()).values(query_times_ms)
    np.testing.assert_array_equal(served, [1, 2, 2, 0, 1, 4, 3, 0])
    assert tiles.newest_values() == [4]


def test_a_time_before_the_slack_has_no_value_and_says_so() -> None:
    tiles = stored(COUNT, SLACK_MS, 2 * SLACK_MS)
    times_ms = np.array([SLACK_MS - 1, SLACK_MS])
    (counts,), beyond = tiles.values(times_ms)
    np.testing.assert_array_equal(counts, [math.nan, 1])
    assert beyond.tolist() == [True, False]
    assert tiles.newest_ms(times_ms).tolist() == [NEVER, SLACK_MS]
    assert tiles.at(SLACK_MS - 1).is_beyond
    assert tiles.at(SLACK_MS).values == [1]


def test_an_entity_without_events_has_counts_of_zero() -> None:
    tiles = stored(COUNT)
    (counts,), beyond = tiles.values(np.array([5]))
    assert (counts.tolist(), beyond.tolist(), tiles.newest_ms(np.array([5])).tolist()) == (
        [0],
        [False],
        [NEVER],
    )
    moment = tiles.at(5)
    assert (moment.values, moment.newest_ms, moment.is_beyond) == ([0], NEVER, False)


RAW = Tiles(COUNT).to_bytes()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "0 bytes are not tiles of this layout"),
        (b"\x02" + RAW[1:], "format 2; only format 1 can be read"),
        (RAW[:-1], "are not tiles of this layout"),
        (RAW + b"\0\0", "2 too many"),
        (RAW[:-4] + b"\x09\0\0\0", "bytes are missing"),
    ],
    ids=["empty", "other format", "cut off", "too long", "more tiles than bytes"],
)
def test_bytes_of_something_else_are_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(StoredStateError, match=reason):
        StoredTiles(COUNT, raw)
    with pytest.raises(StoredStateError, match=reason):
        Tiles.from_bytes(COUNT, raw)


def test_tiles_of_another_layout_are_refused() -> None:
    sums = TileLayout((Aggregation("x", "sum", 60_000),), HOP_MS)
    tiles = Tiles(sums)
    tiles.add(5, (1.0,))
    with pytest.raises(StoredStateError, match="12 too many"):
        StoredTiles(COUNT, tiles.to_bytes())

"""Adding events to the tiles of one entity."""

import itertools
from unittest import mock

from streams import tile_layout
from streams.tile_layout import SLACK_MS, TileLayout
from streams.tiles import Tiles
from tests.property.definition import Aggregation

HOP_MS = 10_000


def test_of_two_values_at_one_instant_the_larger_is_the_later_and_zero_has_no_sign() -> None:
    layout = TileLayout((Aggregation("x", "first", 60_000), Aggregation("x", "last", 60_000)), HOP_MS)
    written = set()
    for values in itertools.permutations([-0.0, 0.0, 3.0, -2.0]):
        tiles = Tiles(layout)
        for value in values:
            tiles.add(5_000, (value,))
        tiles.add(6_000, (None,))
        assert tiles.newest_values() == [-2.0, 3.0]
        written.add(tiles.to_bytes())
    for values in [(0.0, -0.0), (-0.0, 0.0)]:
        tiles = Tiles(layout)
        for value in values:
            tiles.add(5_000, (value,))
        written.add(tiles.to_bytes())
    assert len(written) == 2


def test_older_tiles_are_merged_to_seconds_and_hops_and_no_event_is_lost() -> None:
    layout = TileLayout((Aggregation("x", "count", 600_000),), HOP_MS)
    tiles = Tiles(layout)
    with (
        mock.patch.object(tile_layout, "INSTANTS_MAX", 4),
        mock.patch.object(tile_layout, "SECONDS_MAX", 6),
    ):
        for time_ms in range(0, 100_000, 500):
            tiles.add(time_ms, (1.0,))
        assert tiles.newest_values() == [200]
    hops, seconds, instants = 9, 8, 4
    assert len(tiles) == hops + seconds + instants


def test_a_late_event_goes_to_the_merged_tile_of_its_time() -> None:
    layout = TileLayout((Aggregation("x", "sum", 600_000),), HOP_MS)
    tiles = Tiles(layout)
    with (
        mock.patch.object(tile_layout, "INSTANTS_MAX", 4),
        mock.patch.object(tile_layout, "SECONDS_MAX", 6),
    ):
        for time_ms in range(0, 100_000, 500):
            tiles.add(time_ms, (1.0,))
        tiles.newest_values()
        size = len(tiles)
        tiles.add(12_345, (100.0,))
        assert tiles.newest_values() == [300]
    assert len(tiles) == size


def test_what_is_older_than_slack_and_window_is_dropped() -> None:
    layout = TileLayout((Aggregation("x", "count", 60_000),), HOP_MS)
    tiles = Tiles(layout)
    tiles.add(0, (1.0,))
    tiles.add(SLACK_MS + 70_000, (1.0,))
    tiles.to_bytes()
    assert len(tiles) == 1


def test_a_whole_life_keeps_what_is_older_as_one_tile() -> None:
    layout = TileLayout((Aggregation("x", "sum", 0),), HOP_MS)
    tiles = Tiles(layout)
    for time_ms in (0, 1000, 20_000, SLACK_MS + 70_000):
        tiles.add(time_ms, (1.0,))
    assert tiles.newest_values() == [4]
    assert len(tiles) == 2

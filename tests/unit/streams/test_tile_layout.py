"""Which columns, windows and partial aggregates a view's tiles have."""

import pytest

from streams import tile_layout
from streams.distincts import Distincts
from streams.tile_layout import SLACK_MS, TileLayout
from tests.property.definition import Aggregation

HOP_MS = 10_000
MEAN = Aggregation("amount", "mean", 60_000)
COUNT = Aggregation("amount", "count", 60_000)
LIFE = Aggregation("amount", "max", 0)
MERCHANTS = Aggregation("merchant", "count_distinct", 30_000, slide_ms=30_000)
SESSION = Aggregation("merchant", "count", 60_000, gap_ms=20_000)
LAYOUT = TileLayout((MEAN, MERCHANTS, COUNT, LIFE, SESSION), HOP_MS)


@pytest.mark.parametrize("hop_ms", [0, -1000, 1500])
def test_a_hop_must_be_whole_seconds(hop_ms: int) -> None:
    with pytest.raises(ValueError, match=f"not {hop_ms} ms"):
        TileLayout((MEAN,), hop_ms)


def test_each_column_and_each_window_is_there_once() -> None:
    assert LAYOUT.columns == ("amount", "merchant")
    assert [(item.window_ms, item.slide_ms, item.gap_ms) for item in LAYOUT.windows] == [
        (60_000, 0, 0),
        (30_000, 30_000, 0),
        (0, 0, 0),
        (60_000, 0, 20_000),
    ]


def test_an_aggregation_is_evaluated_on_its_column_and_its_window() -> None:
    assert LAYOUT.evaluations == (
        (0, 0, MEAN),
        (1, 1, MERCHANTS),
        (0, 0, COUNT),
        (0, 2, LIFE),
        (1, 3, SESSION),
    )


def test_a_column_holds_what_its_functions_need_and_the_base_only_what_lifetimes_need() -> None:
    amount, merchant = LAYOUT.parts
    assert (amount.sums, amount.squares, amount.minima, amount.maxima) == (True, False, False, True)
    assert merchant.cells == (Distincts,)
    assert LAYOUT.lifetime_parts is not None
    amount_for_life, merchant_for_life = LAYOUT.lifetime_parts
    assert (amount_for_life.sums, amount_for_life.maxima) == (False, True)
    assert merchant_for_life.cells == ()
    assert TileLayout((MEAN,), HOP_MS).lifetime_parts is None


def test_only_sessions_need_the_first_and_last_time_of_a_tile() -> None:
    assert LAYOUT.has_sessions
    assert not TileLayout((MEAN, MERCHANTS), HOP_MS).has_sessions


def test_tiles_are_kept_for_the_slack_and_the_longest_window_from_a_whole_hop_on() -> None:
    newest_ms = 10 * SLACK_MS + 1
    assert LAYOUT.reach_ms == 60_000
    assert LAYOUT.oldest_ms(newest_ms) == 9 * SLACK_MS - 60_000
    assert tile_layout.SLACK_MS % HOP_MS == 0

"""When labels count where absent labels have a meaning, and what they correct."""

import msgspec
import pytest

from services.monitoring.label_join import Joined, JoinTotals, LabelJoin
from services.monitoring.label_settlement import SettlementState
from services.monitoring.pending_predictions import PendingPredictions
from tests.unit.drift import scenario
from tests.unit.drift.scenario import HOUR_MS, START_MS
from tests.unit.monitoring.test_label_join import HORIZON_MS, label

END_MS = START_MS + HORIZON_MS


class World:
    """A join of hourly requests p0, p1, p2; absent labels mean 0."""

    def __init__(self) -> None:
        self.totals, self.state = JoinTotals(), SettlementState()
        self.join = LabelJoin(HORIZON_MS, self.totals, absent=0.0, settlement=self.state)
        for number in range(3):
            time_ms = START_MS + number * HOUR_MS
            self.join.add_prediction(scenario.prediction(number, time_ms), time_ms)

    def label(self, delay_ms: int, value: float = 1.0, counts_at_ms: int | None = None) -> Joined | None:
        """Add a label of p0."""
        known = label(0, START_MS + delay_ms, value)
        return self.join.add_label(known, counts_at_ms or known.event_time_ms)

    def settle(self, now_ms: int) -> list[tuple[str, float]]:
        return [(each.entry.prediction_id, each.label.value) for each in self.join.settle(now_ms)]

    def restart(self) -> None:
        entries, _ = self.join.pending.settle()
        self.state = msgspec.msgpack.decode(msgspec.msgpack.encode(self.state), type=SettlementState)
        pending = PendingPredictions(entries)
        self.join = LabelJoin(HORIZON_MS, self.totals, pending, absent=0.0, settlement=self.state)


@pytest.fixture
def world() -> World:
    return World()


def test_no_label_counts_before_the_horizon_has_passed(world: World) -> None:
    joined = world.label(HOUR_MS)
    assert joined is not None
    assert (joined.corrects, world.join.counted(joined)) == (None, None)
    assert world.settle(END_MS) == []
    assert world.settle(END_MS + 1) == [("p0", 1.0)]
    assert world.settle(END_MS + 2 * HOUR_MS) == [("p1", 0.0)]
    assert (world.totals.expired, world.totals.implied, world.totals.joined) == (2, 1, 1)


def test_each_prediction_is_settled_once_across_restarts(world: World) -> None:
    assert world.settle(END_MS + 1) == [("p0", 0.0)]
    world.restart()
    assert world.settle(END_MS + 1) == []
    assert world.settle(END_MS + 3 * HOUR_MS) == [("p1", 0.0), ("p2", 0.0)]


def test_a_label_is_settled_with_the_value_that_is_known_then(world: World) -> None:
    assert world.label(HOUR_MS) is not None
    corrected = world.label(2 * HOUR_MS, 0.0)
    assert corrected is not None
    assert world.join.counted(corrected) is None
    assert world.settle(END_MS + 1) == [("p0", 0.0)]


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_label_after_the_horizon_corrects_the_implied_one(world: World, *, is_settled: bool) -> None:
    if is_settled:
        world.settle(END_MS + 1)
    joined = world.label(HORIZON_MS + 1)
    assert joined is not None
    assert joined.corrects is not None
    assert (joined.corrects.number, joined.corrects.label) == (1, 0.0)
    counted = world.join.counted(joined)
    assert (counted is not None) == is_settled
    again = world.label(HORIZON_MS + 2, 0.0)
    assert again is not None
    assert again.corrects is not None
    assert (again.corrects.number, again.corrects.label) == (2, 1.0)
    assert world.totals.corrected == 2


def test_a_label_within_the_horizon_that_comes_too_late_is_later_than_the_implied_one(world: World) -> None:
    world.settle(END_MS + 1)
    joined = world.label(HOUR_MS, counts_at_ms=END_MS + 1)
    assert joined is not None
    assert joined.corrects is not None
    assert world.totals.superseded == 0


def test_a_label_that_confirms_the_implied_one_changes_nothing_but_its_time(world: World) -> None:
    world.settle(END_MS + 1)
    assert world.label(HORIZON_MS + 5, 0.0) is None
    assert world.totals.duplicate == 1
    assert world.label(HORIZON_MS + 3) is None, "it is dated before the label that counts"
    assert world.totals.superseded == 1


def test_a_settled_prediction_waits_for_one_more_horizon(world: World) -> None:
    world.settle(START_MS + 2 * HORIZON_MS)
    world.join.evict(START_MS + 2 * HORIZON_MS)
    assert world.label(2 * HORIZON_MS) is not None
    assert world.label(2 * HORIZON_MS + 1, 0.0) is None
    assert world.totals.orphaned == 1
    world.join.evict(START_MS + 2 * HORIZON_MS + 1)
    assert world.join.pending.get("p0") is None


def test_a_prediction_whose_id_is_used_again_is_settled_once(world: World) -> None:
    """It may be the first window that ends after both."""
    world.label(HOUR_MS)
    again_ms = START_MS + 2 * HORIZON_MS + 1
    assert world.join.add_prediction(scenario.prediction(0, again_ms - 1), again_ms - 1) is None
    assert world.join.add_prediction(scenario.prediction(0, again_ms), again_ms) is not None
    world.restart()
    assert world.settle(again_ms + 1) == [("p0", 1.0), ("p1", 0.0), ("p2", 0.0)]
    assert world.settle(again_ms + HORIZON_MS + 1) == [("p0", 0.0)]

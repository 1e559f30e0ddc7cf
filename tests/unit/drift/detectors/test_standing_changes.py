"""A change stands until bets show that the values are back; then it is over, and may be found again."""

import itertools

import msgspec
import numpy as np
import pytest

from services.drift.binning.bin_counts import FeatureBinner
from services.drift.detectors.standing_changes import Recovery
from services.drift.detectors.watcher import WatchedChange, Watcher, WatcherState
from services.monitoring.value_kinds import kinds_of
from streams.records import FeatureReference

BINS, DAY_MS, ROWS_A_DAY = 64, 86_400_000, 900
MONTHS_MS = 30 * 10 * DAY_MS


def reference(rows=20_000, design_effect=1.0, season=(), seasons=()):
    """Return 64 bins of equal share; with seasons, the rows of each."""
    counts = [rows // BINS] * BINS
    known = {season: [*counts, 0] for season in seasons}
    return FeatureReference(
        feature="x", counts=counts, missing=0, edges=[float(edge) for edge in range(BINS - 1)],
        design_effect=design_effect, season=season, seasons=known,
    )  # fmt: skip


def bins(rows, shift, seed=0):
    """Return bins whose mean is shifted by a share of their range; those beyond an end stay at it."""
    random = np.random.default_rng(seed)
    return np.clip(random.integers(0, BINS, (rows, 1)) + round(shift * BINS), 0, BINS - 1)


def rows_of(days, seed=0):
    """Return times, tie breakers and bins of days with these shifts."""
    parts = [bins(ROWS_A_DAY, shift, seed * 1000 + day) for day, shift in enumerate(days)]
    values = np.concatenate(parts)
    times_ms = np.arange(len(values)) * (DAY_MS // ROWS_A_DAY)
    return times_ms, np.random.default_rng(seed).random(len(values)), values


def found(watcher, days, seed=0):
    """Return the day and the kind of each change and recovery."""
    times_ms, ties, values = rows_of(days, seed)
    return [
        (int(times_ms[row]) // DAY_MS, type(each) is not Recovery)
        for row, each in watcher.add(times_ms, ties, values)
    ]


@pytest.mark.parametrize("design_effect", [1.0, 10.0])
def test_a_change_that_stands_is_found_once(design_effect):
    watcher = Watcher([reference(design_effect=design_effect)], MONTHS_MS)
    (change,) = found(watcher, [0.0] * 5 + [0.3] * 60)
    assert change[1]
    assert watcher.standing == {"x"}


def test_a_change_is_over_when_the_values_are_back_and_may_be_found_again():
    watcher = Watcher([reference()], MONTHS_MS)
    results = found(watcher, [0.0] * 5 + [0.1] * 10 + [0.0] * 20 + [0.1] * 10)
    assert [is_change for _, is_change in results] == [True, False, True]
    assert [day in days for (day, _), days in zip(results, ((5, 6), range(15, 20), (35, 36)), strict=True)]


def test_a_segment_is_compared_with_its_own_past():
    """It has no reference; its values change on the third day, and are back on the twentieth."""
    unknown = msgspec.structs.replace(reference(), counts=[0] * BINS)
    watcher = Watcher([unknown], MONTHS_MS)
    results = found(watcher, [0.0] * 3 + [0.3] * 17 + [0.0] * 20)
    assert [is_change for _, is_change in results] == [True, False]
    assert 20 <= results[1][0] <= 22


@pytest.mark.parametrize(
    "later", [pytest.param([-0.2] * 30, id="other side"), pytest.param([0.6] * 10 + [0.2] * 30, id="larger")]
)
def test_a_change_to_the_other_side_or_to_a_larger_one_and_back_is_the_same_change(later):
    watcher = Watcher([reference()], MONTHS_MS)
    assert found(watcher, [0.0] * 5 + [0.2] * 20 + later) == [(5, True)]


def test_a_change_that_falls_below_half_ends_and_the_rest_is_another_one():
    watcher = Watcher([reference()], MONTHS_MS)
    results = found(watcher, [0.0] * 5 + [0.4] * 10 + [0.08] * 20)
    assert [is_change for _, is_change in results] == [True, False, True]


def test_a_season_without_a_reference_changes_nothing():
    """The reference describes January; there is nothing to compare February with."""
    known = reference(season=("month",), seasons=("0",))
    watcher = Watcher([known], MONTHS_MS)
    assert [each for _, each in found(watcher, [0.0] * 5 + [0.3] * 26 + [0.0] * 28)] == [True]
    (standing,) = watcher.state().standing
    assert standing.last_ms // DAY_MS == 30


@pytest.mark.parametrize("share", [0.03, 1.0])
def test_a_risen_share_of_missing_values_stands_until_it_is_as_before(share):
    """Ranks and shares change together; that is one change of the feature."""
    times_ms, ties, values = rows_of([0.0] * 60)
    days = times_ms // DAY_MS
    is_missing = np.random.default_rng(5).random(len(values)) < share
    values[is_missing & (days >= 5) & (days < 40)] = FeatureBinner(reference()).missing
    watcher = Watcher([reference()], MONTHS_MS, kinds=[kinds_of(reference())])
    results = [(int(days[row]), type(each)) for row, each in watcher.add(times_ms, ties, values)]
    assert [kind for _, kind in results] == [WatchedChange, Recovery]
    assert results[0][0] == 5
    assert 40 <= results[1][0] <= 45


def test_any_slices_and_restarts_give_the_same_results():
    days = [0.0] * 3 + [0.2] * 5 + [0.0] * 10
    times_ms, ties, values = rows_of(days, seed=3)
    known = [reference(5_000)]
    whole = Watcher(known, MONTHS_MS)
    expected = whole.add(times_ms, ties, values)
    assert len(expected) == 2
    cuts = [0, 1, 2_000, 2_777, 3_500, 5_000, 7_200, 7_201, 9_000, len(values)]
    parts, state = [], None
    for start, stop in itertools.pairwise(cuts):
        part = slice(start, stop)
        watcher = Watcher(known, MONTHS_MS, state)
        parts += [(start + row, each) for row, each in watcher.add(times_ms[part], ties[part], values[part])]
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(watcher.state()), type=WatcherState)
    assert parts == expected
    assert state == whole.state()


def test_a_state_without_changes_that_stand_goes_on():
    """Snapshots of older versions have none, and no earlier counts."""
    old = Watcher([reference()], MONTHS_MS).state()
    short = msgspec.msgpack.encode(msgspec.msgpack.decode(msgspec.msgpack.encode(old))[:6])
    watcher = Watcher([reference()], MONTHS_MS, msgspec.msgpack.decode(short, type=WatcherState))
    assert not watcher.standing
    assert found(watcher, [0.3] * 2)

"""Seasons and correlated days: no drift, although every window differs."""

import random

import msgspec
import numpy as np

from services.drift.binning.bin_counts import FeatureBinner
from services.drift.detectors.watcher import Watcher
from streams.records import FeatureReference
from tests.unit.drift import scenario
from tests.unit.drift.references import weekday_reference

DAY_MS = 24 * scenario.HOUR_MS
MONDAY_MS = 1_356_912_000_000
"""The last of 2012."""


def changes_of(reference, days, rows_a_day=300):
    """Return the changes detected in days whose values are their weekday."""
    watcher, chance, found = Watcher([reference], DAY_MS * 300), random.Random(1), []
    binner = FeatureBinner(reference)
    for day in range(days):
        for row in range(rows_a_day):
            time_ms = MONDAY_MS + day * DAY_MS + row * (DAY_MS // rows_a_day)
            bins = binner.bins([day % 7])[:, None]
            found += watcher.add(np.array([time_ms]), np.array([chance.random()]), bins)
    return found


def test_weekday_is_no_drift_where_its_season_is_declared():
    assert changes_of(weekday_reference(), 21) == []


def test_weekday_is_no_drift_with_a_design_effect():
    known = msgspec.structs.replace(weekday_reference(season=()), design_effect=500.0)
    assert changes_of(known, 21) == []


def test_weekday_is_found_where_values_count_as_independent():
    """So the season or the design effect is needed."""
    assert changes_of(weekday_reference(season=()), 3)


def two_features():
    """Return a weekday with its season, and 500 categories."""
    names = [f"c{number:03}" for number in range(500)]
    many = FeatureReference(feature="many", counts=[20] * 500, missing=0, categories=names)
    return [weekday_reference(), many]


def days_of_two(watcher, start, stop):
    chance = np.random.default_rng(start)
    for day in range(start, stop):
        times_ms = MONDAY_MS + day * DAY_MS + np.arange(300) * 1000
        weekdays = np.full(300, FeatureBinner(weekday_reference()).bins([day % 7])[0])
        bins = np.stack([weekdays, chance.integers(0, 500, 300)], axis=1)
        watcher.add(times_ms, chance.random(300), bins)


def test_each_feature_keeps_as_many_counts_as_it_has_bins_and_seasons():
    watcher = Watcher(two_features(), DAY_MS * 300)
    assert len(watcher.state().known) == 8 * (7 * 8 + 502)


def test_a_state_in_which_all_features_have_the_largest_number_of_bins_continues():
    """Older versions wrote it so."""
    watcher = Watcher(two_features(), DAY_MS * 300)
    days_of_two(watcher, 0, 9)
    state = watcher.state()
    counts = np.frombuffer(state.known, dtype=np.int64)
    padded = np.zeros((2, 7, 502), dtype=np.int64)
    padded[0, :, :8] = counts[:56].reshape(7, 8)
    padded[1, 0] = counts[56:]
    older = msgspec.structs.replace(state, known=padded.tobytes())
    continued, again = (
        Watcher(two_features(), DAY_MS * 300, older),
        Watcher(two_features(), DAY_MS * 300, state),
    )
    for each in (watcher, continued, again):
        days_of_two(each, 9, 12)
    assert continued.state() == again.state() == watcher.state()

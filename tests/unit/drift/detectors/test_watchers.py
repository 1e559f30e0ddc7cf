"""Seasons and days that are alike: what is no drift although every window differs."""

import random

import msgspec
import numpy as np
import pytest

from services.drift.binning.bin_counts import BinCounts, FeatureBinner, seasonal_counts
from services.drift.detectors.watchers import Watcher, Watchers
from services.runtime.declaration import Monitoring
from streams.records import FeatureReference
from tests.unit.drift import scenario

DAY_MS = 24 * scenario.HOUR_MS
MONDAY_MS = 1_356_912_000_000
"""The last of 2012."""


def weekday_reference(season=("weekday",)):
    """Each weekday is a value of its own, 1,000 times."""
    seasons = {str(day): [1000 if each == day else 0 for each in range(8)] for day in range(7)}
    return FeatureReference(
        feature="weekday", counts=[1000] * 7, missing=0, edges=[0.5, 1.5, 2.5, 3.5, 4.5, 5.5],
        season=list(season), seasons=seasons if season else {},
    )  # fmt: skip


def changes_of(reference, days, rows_a_day=300):
    """Run through days whose value is their weekday."""
    watcher, chance, found = Watcher([reference], DAY_MS * 300), random.Random(1), []
    places = FeatureBinner(reference)
    for day in range(days):
        for row in range(rows_a_day):
            time_ms = MONDAY_MS + day * DAY_MS + row * (DAY_MS // rows_a_day)
            cells = places.bins([day % 7])[:, None]
            found += watcher.add(np.array([time_ms]), np.array([chance.random()]), cells)
    return found


def test_weekday_is_no_drift_where_its_season_is_declared():
    assert changes_of(weekday_reference(), 21) == []


def test_weekday_is_no_drift_where_the_reference_knows_that_days_are_alike():
    known = msgspec.structs.replace(weekday_reference(season=()), design_effect=500.0)
    assert changes_of(known, 21) == []


def test_weekday_is_found_where_values_are_taken_for_independent():
    """Which is why the two above are needed."""
    assert changes_of(weekday_reference(season=()), 3)


def test_window_is_compared_with_its_own_season():
    reference = weekday_reference()
    cells = BinCounts(reference)
    assert seasonal_counts(reference, cells, {0: 300}).tolist() == pytest.approx([1000, 0, 0, 0, 0, 0, 0, 0])
    mixed = seasonal_counts(reference, cells, {0: 100, 1: 300})
    assert (mixed / mixed.sum()).tolist() == pytest.approx([0.25, 0.75, 0, 0, 0, 0, 0, 0])
    assert seasonal_counts(reference, cells, {9: 300}).sum() == 0


def test_season_that_the_reference_lacks_is_compared_with_nothing():
    reference = weekday_reference()
    assert seasonal_counts(reference, BinCounts(reference), {0: 100, 11: 1}).sum() == 0


def test_budget_is_shared_by_features_segments_score_and_loss():
    """Two features, overall and in three colours, how they go together, the score, the loss."""
    monitoring = Monitoring(segments=("colour",))
    assert Watchers(scenario.reference(), monitoring).streams == 2 * (1 + 3) + 3
    assert Watchers(None, monitoring).streams == 1

"""Seasons and correlated days: no drift, although every window differs."""

import random

import msgspec
import numpy as np

from services.drift.binning.bin_counts import FeatureBinner
from services.drift.detectors.watchers import Watcher, Watchers
from services.runtime.declaration import Monitoring
from streams.records import FeatureReference, IndicatorReference, Reference
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


def test_budget_is_shared_by_features_segments_score_and_loss():
    """Two features, overall and in three colours, and the score: their ranks and the shares of their values;
    the feature pairs; the loss."""
    monitoring = Monitoring(segments=("colour",))
    assert Watchers(scenario.reference(), monitoring).streams == 2 * (2 * (1 + 3) + 1) + 2
    assert Watchers(None, monitoring).streams == 1


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


def test_a_feature_that_turns_null_in_one_segment_is_a_change_of_the_segment_within_two_days():
    """90 of 900 rows a day; values of three days are alike."""
    random = np.random.default_rng(3)
    days, rows_a_day = 4, 900
    colours = ["blue", "green", "red"]
    x = FeatureReference(
        feature="x",
        counts=[0, *[450] * 60, 0],
        missing=0,
        edges=np.linspace(0.0, 1.0, 61).tolist(),
        design_effect=4600.0,
        segments={f"colour={each}": [0, *[10] * 60, 0, 0] for each in colours},
        indicators={"missing": IndicatorReference(rows=0, design_effect=42.0)},
    )
    colour = FeatureReference(feature="colour", counts=[2_700, 8_100, 16_200], missing=0, categories=colours)
    known = Reference(version=1, features=[x, colour], score=None, log_loss=0.5)
    watchers = Watchers(known, Monitoring(segments=("colour",)))
    found = []
    for day in range(days):
        of_row = random.choice(3, rows_a_day, p=(0.1, 0.3, 0.6))
        values = [None if day >= 2 and each == 0 else float(random.random()) for each in of_row]
        bins = np.stack([FeatureBinner(x).bins(values), of_row], axis=1)
        times_ms = MONDAY_MS + day * DAY_MS + np.arange(rows_a_day) * (DAY_MS // rows_a_day)
        for name in ("", *watchers._segments):
            inside = watchers._in_segment(name, bins) if name else np.arange(rows_a_day)
            found += watchers._add(name, inside, times_ms, random.random(rows_a_day), bins[inside])
        found += [(0, each) for each in watchers.flush()]
    assert [each.of.segment for _, each in found if each.of.segment] == ["colour=blue"]
    assert found[-1][1].text == (
        "x where colour=blue: 100.0% of recent values are missing (0.0% in the reference)"
    )

"""What is watched, and which budget all streams share."""

import numpy as np

from services.drift.binning.bin_counts import FeatureBinner
from services.drift.detectors.watchers import Watchers
from services.runtime.declaration import Monitoring
from streams.records import FeatureReference, IndicatorReference, Reference
from tests.unit.drift import scenario

DAY_MS = 24 * scenario.HOUR_MS
MONDAY_MS = 1_356_912_000_000
"""The last of 2012."""


def test_budget_is_shared_by_features_segments_score_and_loss():
    """Two features, overall and in three colours, and the score: their ranks and the shares of their values;
    the feature pairs; the loss."""
    monitoring = Monitoring(segments=("colour",))
    assert Watchers(scenario.reference(), monitoring).streams == 2 * (2 * (1 + 3) + 1) + 2
    assert Watchers(None, monitoring).streams == 1


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

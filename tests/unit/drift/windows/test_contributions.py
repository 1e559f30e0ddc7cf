"""Which bins contribute most to the drift that reaches the model."""

import msgspec
import numpy as np
import pytest

from services.drift.binning.bin_counts import BinCounts
from services.drift.windows import contributions
from services.drift.windows.comparison import DriftThresholds, compare
from services.monitoring import reference

THRESHOLDS = DriftThresholds(psi=0.2, p_value=1e-4, new_category_share=0.01)
random = np.random.default_rng(5)


def drift_of(name, known, seen, importance=None):
    known_bins = (
        reference.of_categories(name, known) if known.dtype == object else reference.of_numbers(name, known)
    )
    feature = BinCounts(msgspec.structs.replace(known_bins, importance=importance))
    feature.add(seen.tolist())
    return compare(feature, THRESHOLDS).drift


def test_the_psi_of_the_bins_adds_up_to_that_of_the_feature():
    for drift in (
        drift_of("x", random.normal(size=5000), random.normal(0.4, 1.2, 900)),
        drift_of("c", random.choice(list("abcdefghijklmnopqrst"), 5000).astype(object), np.array(["a"] * 50)),
    ):
        assert drift.bins is not None
        assert sum(drift.bins.psi) == pytest.approx(drift.psi, abs=1e-4)
        assert min(drift.bins.psi) >= 0


def test_an_important_feature_comes_before_one_with_more_drift():
    calm = drift_of("calm", random.normal(size=5000), random.normal(size=2000), importance=0.5)
    slight = drift_of("slight", random.normal(size=5000), random.normal(0.3, 1, 2000), importance=0.5)
    strong = drift_of("strong", random.normal(size=5000), random.normal(1, 1, 2000), importance=0.0)
    ranked = contributions.ranked([calm, strong, slight])
    assert ranked[0].feature == "slight"
    assert ranked[0].bin.startswith(("from", "1.", "2.", "-", "below", "0."))
    assert [each.weight for each in ranked] == sorted((each.weight for each in ranked), reverse=True)
    assert len(ranked) <= contributions.SHOWN_MAX
    total = sum(each.weight for each in contributions.ranked([calm, strong, slight], limit=1000))
    assert total == pytest.approx((calm.psi + slight.psi) / 2, abs=0.02)


def test_without_importances_all_features_have_equal_weight():
    first = drift_of(
        "first", np.array(["a", "b"] * 500, dtype=object), np.array(["a", "b", "b", "new"] * 100)
    )
    top = contributions.ranked([first, drift_of("x", random.normal(size=500), random.normal(size=500))])[0]
    assert (top.feature, top.bin, top.importance) == ("first", "(new)", None)
    assert top.share == pytest.approx(0.25)
    assert top.weight == pytest.approx(top.psi / 2)


def test_bins_have_readable_names():
    drift = drift_of("x", np.array([0.0, 1.5, 3.0] * 100), np.array([0.0, 9.0, np.nan]))
    assert drift.bins is not None
    assert contributions.bin_names(drift.bins) == [
        "below 0",
        "0 to 1.5",
        "1.5 to 3",
        "3",
        "above 3",
        "(missing)",
    ]

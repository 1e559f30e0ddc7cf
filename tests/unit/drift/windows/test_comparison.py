"""When a feature of a window counts as drifted, and with what evidence."""

import msgspec
import numpy as np
import pytest
import scipy.stats

from services.drift.binning.bin_counts import BinCounts
from services.drift.windows.comparison import DriftThresholds, compare, compare_confidence
from services.monitoring import reference
from streams.records import FeatureReference

THRESHOLDS = DriftThresholds(psi=0.2, p_value=0.001 / 20, new_category_share=0.01)


def numeric(sample, bins=20):
    edges = np.unique(np.quantile(sample, np.linspace(0, 1, bins + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, sample, side="right"), minlength=len(edges) + 1)
    return FeatureReference(feature="x", counts=counts.tolist(), missing=0, edges=edges.tolist())


def categorical(sample):
    names, found = np.unique(sample, return_counts=True)
    return FeatureReference(feature="c", counts=found.tolist(), missing=0, categories=names.tolist())


def compared(reference, window):
    feature = BinCounts(reference)
    feature.add(window if isinstance(window, list) else window.tolist())
    return compare(feature, THRESHOLDS)


def scores(sample):
    return reference.of_numbers("score", np.asarray(sample, dtype=float))


@pytest.mark.parametrize("size", [50, 200, 900, 10_000])
@pytest.mark.parametrize("reference_size", [2000, 27_000])
def test_unchanged_windows_do_not_drift(size, reference_size):
    random = np.random.default_rng(size)
    number = numeric(random.normal(size=reference_size))
    names = np.array([f"c{index}" for index in range(100)])
    shares = 1 / np.arange(1, 101)
    shares /= shares.sum()
    category = categorical(random.choice(names, reference_size, p=shares))
    for _ in range(50):
        assert not compared(number, random.normal(size=size)).drift.drifted
        assert not compared(category, random.choice(names, size, p=shares)).drift.drifted


def test_a_shift_by_half_a_standard_deviation_drifts():
    random = np.random.default_rng(5)
    reference = numeric(random.normal(size=27_000))
    verdicts = [compared(reference, random.normal(0.5, size=900)).drift for _ in range(100)]
    assert np.mean([verdict.drifted for verdict in verdicts]) > 0.8
    assert max(verdict.p_value for verdict in verdicts) < 1e-10


def test_one_outlier_neither_drifts_nor_hides_a_shift():
    random = np.random.default_rng(6)
    reference = numeric(random.normal(size=27_000))
    calm, shifted = random.normal(size=900), random.normal(1.0, size=900)
    calm[0] = shifted[0] = 1e7
    assert not compared(reference, calm).drift.drifted
    assert compared(reference, shifted).drift.drifted


def test_one_value_of_a_new_category_is_named_and_does_not_drift():
    random = np.random.default_rng(7)
    reference = categorical(random.choice(["a", "b"], 27_000))
    found = compared(reference, [*random.choice(["a", "b"], 899).tolist(), "new"])
    assert found.drift.new_categories == ["new"]
    assert not found.drift.drifted


def test_a_new_category_with_a_real_share_drifts():
    random = np.random.default_rng(8)
    reference = categorical(random.choice(["a", "b"], 27_000))
    found = compared(reference, [*random.choice(["a", "b"], 850).tolist(), *["new"] * 50])
    assert found.new_categories
    assert found.drift.drifted


def test_values_that_are_newly_missing_drift():
    random = np.random.default_rng(9)
    window = [None if random.random() < 0.4 else value for value in random.normal(size=900).tolist()]
    found = compared(numeric(random.normal(size=27_000)), window)
    assert found.drift.drifted
    assert found.drift.missing_share == pytest.approx(0.4, abs=0.05)


def test_missing_values_and_values_out_of_range_have_separate_p_values():
    """Exact for few values, too: two of 50 are beyond all 2,000 known ones by chance once in 1,640."""
    random = np.random.default_rng(7)
    known = np.append(random.normal(size=1980), [np.nan] * 20)
    drift = compared(
        reference.of_numbers("x", known), [*random.uniform(-1, 1, 41), *[None] * 7, 99.0, 99.0]
    ).drift
    assert drift.missing_p_value == pytest.approx(
        scipy.stats.fisher_exact([[7, 43], [20, 1980]], alternative="greater").pvalue, rel=1e-6
    )
    assert drift.out_of_range_p_value == pytest.approx(50 * 49 / (2050 * 2049), rel=1e-6)


def test_scores_that_move_to_the_middle_change_the_confidence_alone():
    """The mean score does not change."""
    random = np.random.default_rng(8)
    sure = random.beta(0.5, 0.5, 5000)
    feature = BinCounts(scores(sure))
    unsure = random.beta(4, 4, 2000)
    feature.add(unsure)
    found = compare_confidence(feature)
    assert found is not None
    assert found.mean == pytest.approx(np.maximum(unsure, 1 - unsure).mean(), abs=0.01)
    assert found.reference_mean == pytest.approx(np.maximum(sure, 1 - sure).mean(), abs=0.01)
    assert found.p_value < 1e-12
    assert abs(unsure.mean() - sure.mean()) < 0.02


def test_unchanged_confidence_has_a_large_p_value():
    random = np.random.default_rng(9)
    feature = BinCounts(scores(random.beta(2, 5, 5000)))
    feature.add(random.beta(2, 5, 1000))
    found = compare_confidence(feature)
    assert found is not None
    assert found.p_value > 0.01


def alike_for_days(known):
    """Return the reference of values that resemble each other for days, without design effects of its own."""
    return msgspec.structs.replace(known, design_effect=900.0)


@pytest.mark.parametrize(("reference_rows", "rows"), [(27_000, 50), (27_000, 300), (200_000, 1000)])
def test_a_feature_that_is_wholly_missing_has_drifted(reference_rows, rows):
    """Pooling rare cells leaves one cell in each of these windows."""
    random = np.random.default_rng(10)
    names = [f"c{index}" for index in range(20)]
    for known in (
        numeric(random.normal(size=reference_rows)),
        categorical(random.choice(names, reference_rows)),
    ):
        for each in [known] if rows < 300 else [known, alike_for_days(known)]:
            found = compared(each, [None] * rows).drift
            assert found.drifted
            assert "missing" in found.drifted_in
            assert found.p_value < 1e-5


@pytest.mark.parametrize("rows", [300, 900])
def test_a_rare_category_that_becomes_frequent_has_drifted(rows):
    """From 0.005 % to 50 %."""
    known = FeatureReference(feature="c", counts=[19_999, 1], missing=0, categories=["no", "yes"])
    for each in [known] if rows < 900 else [known, alike_for_days(known)]:
        found = compared(each, ["no", "yes"] * (rows // 2)).drift
        assert found.drifted
        assert "rare" in found.drifted_in
        assert found.p_value < 1e-5


def test_a_category_that_takes_the_place_of_all_others_has_drifted():
    """Total variation is 1 of 1; the new categories are tested on their own."""
    found = compared(categorical(np.array(["a"] * 20_000)), ["b"] * 60).drift
    assert (found.statistic, found.drifted) == (1.0, True)
    assert found.p_value < 1e-10


def test_values_out_of_range_are_drift_unless_they_may_be_a_day_of_weather():
    known = reference.of_numbers("x", np.random.default_rng(11).normal(size=27_000))
    beyond = [*np.random.default_rng(12).normal(size=800).tolist(), *[99.0] * 100]
    assert compared(known, beyond).drift.drifted_in == ["distribution", "out of range"]
    assert not compared(alike_for_days(known), beyond).drift.drifted


def test_few_missing_values_are_no_drift_however_certain():
    """A rise from none to 2 % is certain, but small."""
    known = numeric(np.random.default_rng(13).normal(size=27_000))
    found = compared(known, [*np.random.default_rng(14).normal(size=8820).tolist(), *[None] * 180]).drift
    assert found.missing_p_value < 1e-30
    assert not found.drifted


def test_a_window_with_design_effects_beyond_its_rows_counts_as_one_value():
    known = alike_for_days(numeric(np.random.default_rng(15).normal(size=27_000)))
    found = compared(known, [3.0] * 50).drift
    assert found.p_value > 0.01
    assert not found.drifted


def test_a_feature_of_a_season_that_the_reference_lacks_is_not_compared():
    known = numeric(np.random.default_rng(1).normal(size=1000))
    feature = BinCounts(known)
    feature.add([0.0] * 50)
    lacking = compare(feature, THRESHOLDS, np.zeros_like(feature.counts))
    assert (lacking.drift.compared, lacking.drift.psi, lacking.drift.drifted) == (False, 0.0, False)
    assert compare(feature, THRESHOLDS).drift.compared
    assert not compare(BinCounts(known), THRESHOLDS).drift.compared

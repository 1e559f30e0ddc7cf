"""Effect and evidence, against scipy, known cases, and windows in which nothing happened."""

import numpy as np
import pytest
import scipy.stats

from services.drift.binning import statistics
from services.drift.binning.bin_counts import BinCounts
from services.drift.windows.comparison import DriftThresholds, compare, compare_confidence
from services.retraining import reference
from streams.records import FeatureReference

LIMITS = DriftThresholds(psi=0.2, p_value=0.001 / 20, new_category_share=0.01)


def counts(*values):
    return np.array(values, dtype=np.int64)


def numeric(sample, bins=20):
    edges = np.unique(np.quantile(sample, np.linspace(0, 1, bins + 1)[1:-1]))
    cells = np.bincount(np.searchsorted(edges, sample, side="right"), minlength=len(edges) + 1)
    return FeatureReference(feature="x", counts=cells.tolist(), missing=0, edges=edges.tolist())


def categorical(sample):
    names, found = np.unique(sample, return_counts=True)
    return FeatureReference(feature="c", counts=found.tolist(), missing=0, categories=names.tolist())


def judged(reference, window):
    cells = BinCounts(reference)
    cells.add(window if isinstance(window, list) else window.tolist())
    return compare(cells, LIMITS)


def test_psi_of_known_shares():
    """0.1 of the mass moves from one half to the other: 2 (0.1 ln 0.6/0.5 ...) by hand."""
    expected = 0.1 * np.log(0.6 / 0.5) - 0.1 * np.log(0.4 / 0.5)
    found = statistics.population_stability_index(counts(500_000, 500_000), counts(600_000, 400_000))
    assert found == pytest.approx(expected, rel=1e-4)


def test_psi_of_an_empty_window_is_zero():
    assert statistics.population_stability_index(counts(5, 5), counts(0, 0)) == 0.0


def test_psi_under_equal_distributions_has_the_stated_mean():
    random = np.random.default_rng(1)
    shares = np.full(20, 0.05)
    pairs = [(random.multinomial(9000, shares), random.multinomial(900, shares)) for _ in range(400)]
    found = np.mean([statistics.population_stability_index(*pair) for pair in pairs])
    expected = np.mean([statistics.expected_index(*pair) for pair in pairs])
    assert found == pytest.approx(expected, rel=0.05)


def test_ks_distance_equals_scipys_where_the_bins_hold_single_values():
    random = np.random.default_rng(2)
    reference, window = random.integers(0, 30, 4000), random.integers(2, 32, 700)
    distance, _ = statistics.kolmogorov_smirnov(
        np.bincount(reference, minlength=32), np.bincount(window, minlength=32)
    )
    assert distance == pytest.approx(scipy.stats.ks_2samp(reference, window).statistic)


def test_ks_p_value_agrees_with_scipys_on_fine_bins():
    random = np.random.default_rng(3)
    reference, window = random.normal(size=3000), random.normal(0.07, size=900)
    edges = np.sort(reference)
    binned = [
        np.bincount(np.searchsorted(edges, sample, side="right"), minlength=len(edges) + 1)
        for sample in (reference, window)
    ]
    _, found = statistics.kolmogorov_smirnov(*binned)
    assert found == pytest.approx(scipy.stats.ks_2samp(reference, window).pvalue, rel=0.1)


def test_chi_square_equals_scipys_when_no_cell_is_rare():
    reference, window = counts(5000, 3000, 2000), counts(480, 330, 190)
    expected = scipy.stats.chi2_contingency(np.stack([reference, window]), correction=False).pvalue
    assert statistics.homogeneity_p_value(reference, window) == pytest.approx(expected)


def test_rare_cells_are_pooled_rather_than_believed():
    """Without pooling, one value of a category seen once has p below 1e-4."""
    assert statistics.homogeneity_p_value(counts(10_000, 10_000, 0), counts(450, 450, 1)) > 0.01


def test_chi_square_has_its_level_although_the_reference_is_finite():
    """Against a reference taken as exact, 39 % would be rejected at this level."""
    random = np.random.default_rng(4)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    p_values = [
        statistics.homogeneity_p_value(random.multinomial(1000, shares), random.multinomial(1000, shares))
        for _ in range(1000)
    ]
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.07


def test_total_variation_is_half_the_difference_of_shares():
    assert statistics.total_variation(counts(50, 50), counts(80, 20)) == pytest.approx(0.3)


@pytest.mark.parametrize("size", [50, 200, 900, 10_000])
@pytest.mark.parametrize("reference_size", [2000, 27_000])
def test_nothing_alarms_when_nothing_changed(size, reference_size):
    random = np.random.default_rng(size)
    number = numeric(random.normal(size=reference_size))
    names = np.array([f"c{index}" for index in range(100)])
    shares = 1 / np.arange(1, 101)
    shares /= shares.sum()
    category = categorical(random.choice(names, reference_size, p=shares))
    for _ in range(50):
        assert not judged(number, random.normal(size=size)).drift.drifted
        assert not judged(category, random.choice(names, size, p=shares)).drift.drifted


def test_half_a_standard_deviation_alarms():
    random = np.random.default_rng(5)
    reference = numeric(random.normal(size=27_000))
    verdicts = [judged(reference, random.normal(0.5, size=900)).drift for _ in range(100)]
    assert np.mean([verdict.drifted for verdict in verdicts]) > 0.8
    assert max(verdict.p_value for verdict in verdicts) < 1e-10


def test_one_outlier_neither_alarms_nor_hides_a_shift():
    random = np.random.default_rng(6)
    reference = numeric(random.normal(size=27_000))
    calm, shifted = random.normal(size=900), random.normal(1.0, size=900)
    calm[0] = shifted[0] = 1e7
    assert not judged(reference, calm).drift.drifted
    assert judged(reference, shifted).drift.drifted


def test_one_value_of_a_new_category_is_named_and_does_not_alarm():
    random = np.random.default_rng(7)
    reference = categorical(random.choice(["a", "b"], 27_000))
    found = judged(reference, [*random.choice(["a", "b"], 899).tolist(), "new"])
    assert found.drift.new_categories == ["new"]
    assert not found.drift.drifted


def test_a_new_category_with_a_real_share_alarms():
    random = np.random.default_rng(8)
    reference = categorical(random.choice(["a", "b"], 27_000))
    found = judged(reference, [*random.choice(["a", "b"], 850).tolist(), *["new"] * 50])
    assert found.new_categories
    assert found.drift.drifted


def test_values_that_went_missing_alarm():
    random = np.random.default_rng(9)
    window = [None if random.random() < 0.4 else value for value in random.normal(size=900).tolist()]
    found = judged(numeric(random.normal(size=27_000)), window)
    assert found.drift.drifted
    assert found.drift.missing_share == pytest.approx(0.4, abs=0.05)


def test_bins_hold_their_lower_edge():
    cells = BinCounts(FeatureReference(feature="x", counts=[1, 1, 1], missing=0, edges=[0.0, 1.0]))
    cells.add([-0.1, 0.0, 0.5, 1.0, 7, None, True])
    assert cells.counts.tolist() == [1, 2, 3, 1]


def test_text_in_a_numeric_feature_counts_as_missing():
    cells = BinCounts(FeatureReference(feature="x", counts=[1, 1], missing=0, edges=[0.0]))
    cells.add([1.0, "many", None])
    assert cells.counts.tolist() == [0, 1, 2]


def test_categories_match_by_their_text():
    cells = BinCounts(FeatureReference(feature="c", counts=[1, 1], missing=0, categories=["1", "y"]))
    cells.add([1, "y", "1", "x", None])
    assert cells.counts.tolist() == [2, 1, 1, 1]


def scores(sample):
    return reference.of_numbers("score", np.asarray(sample, dtype=float))


def test_missing_and_unknown_values_have_evidence_of_their_own():
    """Exact, for few values too: of 50 values two beyond 2,000 known ones happen by chance once in 1,640."""
    random = np.random.default_rng(7)
    known = np.append(random.normal(size=1980), [np.nan] * 20)
    drift = judged(
        reference.of_numbers("x", known), [*random.uniform(-1, 1, 41), *[None] * 7, 99.0, 99.0]
    ).drift
    assert drift.missing_p_value == pytest.approx(
        scipy.stats.fisher_exact([[7, 43], [20, 1980]], alternative="greater").pvalue, rel=1e-6
    )
    assert drift.out_of_range_p_value == pytest.approx(50 * 49 / (2050 * 2049), rel=1e-6)


def test_model_that_grows_unsure_shows_in_its_confidence_alone():
    """Half of the scores move from both ends to the middle: the mean score stays as it was."""
    random = np.random.default_rng(8)
    sure = random.beta(0.5, 0.5, 5000)
    cells = BinCounts(scores(sure))
    unsure = random.beta(4, 4, 2000)
    cells.add(unsure)
    found = compare_confidence(cells)
    assert found is not None
    assert found.mean == pytest.approx(np.maximum(unsure, 1 - unsure).mean(), abs=0.01)
    assert found.reference_mean == pytest.approx(np.maximum(sure, 1 - sure).mean(), abs=0.01)
    assert found.p_value < 1e-12
    assert abs(unsure.mean() - sure.mean()) < 0.02


def test_confidence_that_stays_is_no_evidence():
    random = np.random.default_rng(9)
    cells = BinCounts(scores(random.beta(2, 5, 5000)))
    cells.add(random.beta(2, 5, 1000))
    found = compare_confidence(cells)
    assert found is not None
    assert found.p_value > 0.01

"""Effect sizes and tests, against scipy and known cases."""

import numpy as np
import pytest
import scipy.stats

from services.drift.binning import statistics


def counts(*values):
    return np.array(values, dtype=np.int64)


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


def test_chi_square_equals_scipys_when_no_bin_is_rare():
    reference, window = counts(5000, 3000, 2000), counts(480, 330, 190)
    expected = scipy.stats.chi2_contingency(np.stack([reference, window]), correction=False).pvalue
    assert statistics.homogeneity_p_value(reference, window) == pytest.approx(expected)


def test_rare_bins_are_pooled():
    """Without pooling, one value of a category seen once has p below 1e-4."""
    assert statistics.homogeneity_p_value(counts(10_000, 10_000, 0), counts(450, 450, 1)) > 0.01


def test_chi_square_has_its_level_although_the_reference_is_finite():
    """A test that treats the reference as exact rejects 39 % at this level."""
    random = np.random.default_rng(4)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    p_values = [
        statistics.homogeneity_p_value(random.multinomial(1000, shares), random.multinomial(1000, shares))
        for _ in range(1000)
    ]
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.07


def test_total_variation_is_half_the_difference_of_shares():
    assert statistics.total_variation(counts(50, 50), counts(80, 20)) == pytest.approx(0.3)

"""Statistics over frozen bins equal scipy's over the samples, within the error of the bins."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance

from services.drift.binning import statistics
from services.drift.binning.bin_counts import BinCounts
from services.monitoring import reference

values = st.integers(-3000, 3000).map(lambda whole: whole / 16)
samples = st.lists(values, min_size=2, max_size=300)
counts = st.integers(2, 12).flatmap(
    lambda bins: st.tuples(*[st.lists(st.integers(1, 1000), min_size=bins, max_size=bins)] * 2)
)
thorough = settings(max_examples=150)


def counted(known: list[float], seen: list[float]) -> BinCounts:
    """Freeze the bins of one sample and count another sample in them."""
    bins = BinCounts(reference.of_numbers("x", np.array(known)))
    bins.add(seen)
    return bins


def ordered_counts(bins: BinCounts) -> tuple[statistics.Counts, statistics.Counts]:
    return bins.reference[:-1], bins.counts[:-1]


@thorough
@given(samples, samples)
def test_ks_distance_is_scipys_within_the_largest_bin(known, seen):
    """A distribution function changes within a bin by the share of the bin at most."""
    ordered = ordered_counts(counted(known, seen))
    found, _ = statistics.kolmogorov_smirnov(*ordered)
    exact = scipy.stats.ks_2samp(known, seen).statistic
    largest = max(float((side / side.sum()).max()) for side in ordered)
    assert found - 1e-9 <= exact <= found + largest + 1e-9


@thorough
@given(samples, samples)
def test_wasserstein_distance_is_scipys_within_the_stated_error(known, seen):
    """Values beyond the range of the reference count as its ends."""
    bins = counted(known, seen)
    p, q = (side / side.sum() for side in ordered_counts(bins))
    found = statistics.wasserstein(*ordered_counts(bins), bins.edges)
    exact = scipy.stats.wasserstein_distance(known, np.clip(seen, min(known), max(known)))
    assert abs(found - exact) <= (np.diff(bins.edges) * (p + q)[1:-1]).sum() / 2 + 1e-9


@thorough
@given(counts)
def test_distances_of_shares_are_scipys(pair):
    """Jensen-Shannon as in scipy; Hellinger from the affinity."""
    known, seen = (np.array(side, dtype=np.int64) for side in pair)
    p, q = known / known.sum(), seen / seen.sum()
    expected = distance.jensenshannon(p, q, base=2)
    assert statistics.jensen_shannon(known, seen) == pytest.approx(expected, abs=1e-7)
    affinity = np.sqrt(p * q).sum()
    assert statistics.hellinger(known, seen) == pytest.approx(np.sqrt(max(1 - affinity, 0)), abs=1e-7)


@thorough
@given(counts)
def test_g_test_is_scipys_when_no_bin_is_rare(pair):
    """Samples of similar size with large counts, so nothing is pooled."""
    known, seen = (np.array(side, dtype=np.int64) * 10 + 2000 for side in pair)
    expected = scipy.stats.chi2_contingency([known, seen], correction=False, lambda_="log-likelihood").pvalue
    assert statistics.likelihood_ratio_p_value(known, seen) == pytest.approx(expected, abs=1e-9)


@thorough
@given(st.integers(0, 40), st.integers(40, 400), st.integers(0, 40), st.integers(40, 400))
def test_share_test_is_fishers(known, m, found, n):
    """One-sided: more in the window than in the reference."""
    table = [[found, n - found], [known, m - known]]
    expected = scipy.stats.fisher_exact(table, alternative="greater").pvalue
    assert statistics.share_p_value((known, m), (found, n)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@thorough
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30))
def test_the_effective_number_of_bins_is_at_most_the_number_in_use(bins):
    """A constant feature has one; equal shares have as many as there are bins."""
    used, effective = statistics.cardinality(np.array(bins, dtype=np.int64))
    assert used == sum(count > 0 for count in bins)
    assert effective <= used + 1e-9
    assert (effective >= 1 - 1e-9) == (used > 0)


@thorough
@given(samples, st.lists(values, max_size=100), st.lists(values, max_size=100))
def test_counts_can_be_merged_and_taken_back(known, first, second):
    """A window is the sum of its parts, and a part can be taken out of it again."""
    whole = counted(known, [*first, *second]).counts
    parts = counted(known, first).counts, counted(known, second).counts
    assert (parts[0] + parts[1] == whole).all()
    assert (whole - parts[1] == parts[0]).all()


def test_values_out_of_range_have_separate_bins():
    """An outlier is one value out of range and changes nothing else."""
    bins = counted([float(number) for number in range(100)], [-1e9, 50.0, 99.0, 99.5, 1e9])
    assert bins.out_of_range == (1, 2)


@thorough
@given(st.integers(0, 3000), st.integers(3000, 200_000), st.integers(0, 3000), st.integers(3000, 200_000))
def test_share_test_is_the_hypergeometric_tail_for_large_counts_too(known, m, found, n):
    """Negligible terms are left out of the sum."""
    expected = scipy.stats.hypergeom.sf(found - 1, m + n, known + found, n)
    assert statistics.share_p_value((known, m), (found, n)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("shares", "least"), [([0.6, 0.3, 0.1], 0.03), ([0.25] * 4, 0), ([0.02] * 50, 0)])
def test_cardinality_test_has_its_level(shares, least):
    """It rejects unchanged samples as often as its level says; less often where all shares are equal."""
    random = np.random.default_rng(len(shares))
    p_values = [
        statistics.cardinality_p_value(random.multinomial(20_000, shares), random.multinomial(2000, shares))
        for _ in range(1000)
    ]
    assert least <= np.mean(np.array(p_values) < 0.05) < 0.07


def test_a_frozen_feature_has_a_tiny_p_value():
    """All values in one bin."""
    known, seen = np.full(64, 100), np.zeros(64, dtype=np.int64)
    seen[5] = 300
    assert statistics.cardinality_p_value(known, seen) < 1e-12

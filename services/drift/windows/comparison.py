"""Compares a feature's counts with the reference: whether it drifted, by how much, and with what evidence."""

import dataclasses

import numpy as np

from services.drift.binning import statistics
from services.drift.binning.bin_counts import BinCounts
from services.drift.binning.statistics import Counts
from services.drift.windows import report_bins
from streams.records import ConfidenceDrift, FeatureDrift

NEW_CATEGORIES_NAMED_MAX = 20
"""Maximum new categories named in a report, the most frequent ones."""
NEW_CATEGORY_LENGTH_MAX = 80
"""Maximum length of a new category's name in a report."""


@dataclasses.dataclass(frozen=True)
class DriftThresholds:
    """What counts as drift: both an effect and evidence for it.

    In a large window a trifling effect is significant; in a small one a large effect may be chance.
    """

    psi: float
    """Minimum PSI (effect), before the correction for small samples."""
    p_value: float
    """Maximum p-value (evidence), already divided by the number of features tested together (Bonferroni)."""
    new_category_share: float
    """Minimum share of values whose category is not in the reference (effect)."""


@dataclasses.dataclass(frozen=True)
class FeatureComparison:
    """The comparison of one feature with the reference."""

    drift: FeatureDrift
    shifted: bool
    """The distribution over the reference's bins has changed."""
    new_category_share: float
    new_categories: bool
    """There are more values of unseen categories than the rare categories of the reference explain."""


def compare(
    counted: BinCounts, thresholds: DriftThresholds, reference: Counts | None = None
) -> FeatureComparison:
    """Compare the counts of one window with the reference.

    Values within a block of time are correlated, so both samples are tested with their effective size: their
    counts divided by the design effect.

    Args:
        counted: The feature's counts of the window.
        thresholds: What counts as drift.
        reference: Other counts to compare with, in the same bins; default: the reference of ``counted``.
    """
    reference, current = counted.reference if reference is None else reference, counted.counts
    total = int(current.sum())
    effective = reference / counted.design_effect, current / counted.design_effect
    psi = statistics.population_stability_index(reference, current)
    threshold = thresholds.psi + statistics.expected_index(*effective)
    distance, p_value = _numeric(*effective) if counted.numeric else _categorical(*effective)
    shifted = psi > threshold and p_value < thresholds.p_value
    unseen_share = counted.unseen_total / total if total else 0.0
    unseen = (
        unseen_share >= thresholds.new_category_share
        and statistics.unseen_p_value(counted.reference, counted.unseen_total, total) < thresholds.p_value
    )
    drift = FeatureDrift(
        feature=counted.name,
        psi=psi,
        statistic=distance,
        p_value=p_value,
        threshold=threshold,
        drifted=shifted or unseen,
        missing_share=float(current[-1] / total) if total else 0.0,
        new_categories=_most_frequent(counted.unseen),
        jensen_shannon=statistics.jensen_shannon(reference, current),
        hellinger=statistics.hellinger(reference, current),
        wasserstein=statistics.wasserstein(reference[:-1], current[:-1], counted.edges)
        if counted.numeric
        else 0.0,
        out_of_range_share=sum(counted.out_of_range) / total if total else 0.0,
        cells_effective=statistics.cardinality(current)[1],
        missing_p_value=_rise_p_value(effective, reference[-1], current[-1], counted.design_effect),
        out_of_range_p_value=_rise_p_value(effective, 0, sum(counted.out_of_range), counted.design_effect),
        cells_effective_reference=statistics.cardinality(reference)[1],
        cells_p_value=statistics.cardinality_p_value(*effective),
        bins=report_bins.merged_bins(counted, reference),
        importance=counted.importance,
    )
    return FeatureComparison(drift, shifted, unseen_share, unseen)


def compare_confidence(counted: BinCounts, reference: Counts | None = None) -> ConfidenceDrift | None:
    """Compare the confidence of a binary model's scores, ``max(score, 1 - score)``; None without values.

    Each bin of the scores is represented by its midpoint, so means are off by at most half the width of a
    bin. A two-sample test on bins ordered by confidence is as good as one on values.
    """
    reference, current = counted.reference if reference is None else reference, counted.counts
    known, seen = reference[:-1], current[:-1]
    if not known.sum() or not seen.sum():
        return None
    bounds = np.clip(np.concatenate([[0.0], counted.edges, [1.0]]), 0.0, 1.0)
    middles = (bounds[:-1] + bounds[1:]) / 2
    confidence = np.maximum(middles, 1 - middles)
    order = np.argsort(confidence, kind="stable")
    effective = known[order] / counted.design_effect, seen[order] / counted.design_effect
    distance, p_value = statistics.kolmogorov_smirnov(*effective)
    return ConfidenceDrift(
        mean=float(confidence @ seen / seen.sum()),
        reference_mean=float(confidence @ known / known.sum()),
        statistic=distance,
        p_value=p_value,
    )


def _numeric(reference: Counts, current: Counts) -> tuple[float, float]:
    """Test values and missingness separately, each at half the level: a KS test has no missing values."""
    distance, p_value = statistics.kolmogorov_smirnov(reference[:-1], current[:-1])
    missing_p_value = statistics.homogeneity_p_value(*map(_present_and_missing, (reference, current)))
    return distance, min(1.0, 2 * min(p_value, missing_p_value))


def _categorical(reference: Counts, current: Counts) -> tuple[float, float]:
    return statistics.total_variation(reference, current), statistics.homogeneity_p_value(reference, current)


def _rise_p_value(
    effective: tuple[Counts, Counts], expected: float, count: float, design_effect: float
) -> float:
    """Test whether a share rose, with counts divided by the design effect."""
    sizes = [int(values.sum()) for values in effective]
    counts = [
        min(round(float(each) / design_effect), size)
        for each, size in zip((expected, count), sizes, strict=True)
    ]
    return statistics.share_p_value((counts[0], sizes[0]), (counts[1], sizes[1]))


def _present_and_missing(counts: Counts) -> Counts:
    return np.array([counts[:-1].sum(), counts[-1]])


def _most_frequent(unseen: dict[str, int]) -> list[str]:
    by_count = sorted(unseen, key=lambda name: (-unseen[name], name))
    return [name[:NEW_CATEGORY_LENGTH_MAX] for name in by_count[:NEW_CATEGORIES_NAMED_MAX]]

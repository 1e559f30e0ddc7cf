"""From counts to a verdict: does this feature differ, by how much, and how sure is that."""

import dataclasses

import numpy as np

from services.drift.binning import statistics
from services.drift.binning.bin_counts import BinCounts
from services.drift.binning.statistics import Counts
from services.drift.windows import report_bins
from streams.records import ConfidenceDrift, FeatureDrift

NEW_CATEGORIES_NAMED_MAX = 20
NEW_CATEGORY_LENGTH_MAX = 80


@dataclasses.dataclass(frozen=True)
class DriftThresholds:
    """What counts as drift: effect and evidence. Large windows prove trifles, small ones prove nothing."""

    psi: float
    """Effect, before the correction for small samples."""
    p_value: float
    """Evidence, already divided by the number of features that are tested together (Bonferroni)."""
    new_category_share: float
    """Effect, for categories that the reference does not have."""


@dataclasses.dataclass(frozen=True)
class FeatureComparison:
    """The verdict on one feature."""

    drift: FeatureDrift
    shifted: bool
    """The distribution over the reference's cells differs."""
    new_category_share: float
    new_categories: bool
    """More values of unseen categories than the reference's own rare ones explain."""


def compare(cells: BinCounts, limits: DriftThresholds, reference: Counts | None = None) -> FeatureComparison:
    """Judge the counts of one window against its cells' reference, or another one over the same cells.

    Values of a block of time are alike, so both samples count for as many as they are worth: what they
    have by the design effect.
    """
    reference, current = cells.reference if reference is None else reference, cells.counts
    total = int(current.sum())
    worth = reference / cells.design_effect, current / cells.design_effect
    psi = statistics.population_stability_index(reference, current)
    threshold = limits.psi + statistics.expected_index(*worth)
    distance, p_value = _numeric(*worth) if cells.numeric else _categorical(*worth)
    shifted = psi > threshold and p_value < limits.p_value
    unseen_share = cells.unseen_total / total if total else 0.0
    unseen = (
        unseen_share >= limits.new_category_share
        and statistics.unseen_p_value(cells.reference, cells.unseen_total, total) < limits.p_value
    )
    drift = FeatureDrift(
        feature=cells.name,
        psi=psi,
        statistic=distance,
        p_value=p_value,
        threshold=threshold,
        drifted=shifted or unseen,
        missing_share=float(current[-1] / total) if total else 0.0,
        new_categories=_names(cells.unseen),
        jensen_shannon=statistics.jensen_shannon(reference, current),
        hellinger=statistics.hellinger(reference, current),
        wasserstein=statistics.wasserstein(reference[:-1], current[:-1], cells.edges)
        if cells.numeric
        else 0.0,
        out_of_range_share=sum(cells.out_of_range) / total if total else 0.0,
        cells_effective=statistics.cardinality(current)[1],
        missing_p_value=_more(worth, reference[-1], current[-1], cells.design_effect),
        out_of_range_p_value=_more(worth, 0, sum(cells.out_of_range), cells.design_effect),
        cells_effective_reference=statistics.cardinality(reference)[1],
        cells_p_value=statistics.cardinality_p_value(*worth),
        bins=report_bins.of(cells, reference),
        importance=cells.importance,
    )
    return FeatureComparison(drift, shifted, unseen_share, unseen)


def _numeric(reference: Counts, current: Counts) -> tuple[float, float]:
    """Test values and missingness apart, at half the level each: a KS test knows no missing values."""
    distance, p_value = statistics.kolmogorov_smirnov(reference[:-1], current[:-1])
    missing_p_value = statistics.homogeneity_p_value(*map(_present_and_missing, (reference, current)))
    return distance, min(1.0, 2 * min(p_value, missing_p_value))


def _categorical(reference: Counts, current: Counts) -> tuple[float, float]:
    return statistics.total_variation(reference, current), statistics.homogeneity_p_value(reference, current)


def _more(worth: tuple[Counts, Counts], known: float, found: float, design_effect: float) -> float:
    """Test whether a share rose, of values that count for as many as they are worth."""
    whole = [int(values.sum()) for values in worth]
    of_values = [
        min(round(float(count) / design_effect), size)
        for count, size in zip((known, found), whole, strict=True)
    ]
    return statistics.share_p_value((of_values[0], whole[0]), (of_values[1], whole[1]))


def confidence(cells: BinCounts, reference: Counts | None = None) -> ConfidenceDrift | None:
    """Compare how sure a binary model's scores are, ``max(score, 1 - score)``; None without values.

    Each cell of the scores stands for the middle between its edges, so means are off by half a cell's width
    at most. Cells in the order of their confidence are as good as values for a two-sample test.
    """
    reference, current = cells.reference if reference is None else reference, cells.counts
    known, seen = reference[:-1], current[:-1]
    if not known.sum() or not seen.sum():
        return None
    bounds = np.clip(np.concatenate([[0.0], cells.edges, [1.0]]), 0.0, 1.0)
    middles = (bounds[:-1] + bounds[1:]) / 2
    sure = np.maximum(middles, 1 - middles)
    order = np.argsort(sure, kind="stable")
    worth = known[order] / cells.design_effect, seen[order] / cells.design_effect
    distance, p_value = statistics.kolmogorov_smirnov(*worth)
    return ConfidenceDrift(
        mean=float(sure @ seen / seen.sum()),
        reference_mean=float(sure @ known / known.sum()),
        statistic=distance,
        p_value=p_value,
    )


def _present_and_missing(counts: Counts) -> Counts:
    return np.array([counts[:-1].sum(), counts[-1]])


def _names(unseen: dict[str, int]) -> list[str]:
    by_count = sorted(unseen, key=lambda name: (-unseen[name], name))
    return [name[:NEW_CATEGORY_LENGTH_MAX] for name in by_count[:NEW_CATEGORIES_NAMED_MAX]]

"""Compares a feature's counts with the reference: whether it drifted, by how much, and with what evidence."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.drift.binning import statistics
from services.drift.binning.bin_counts import BinCounts
from services.drift.binning.quantiles_of_bins import share_below
from services.drift.binning.statistics import Counts, Edges
from services.drift.windows import report_bins
from services.monitoring.value_kinds import ABOVE, BELOW, MISSING, RARE
from streams.records import ConfidenceDrift, FeatureDrift

DISTRIBUTION, NEW_CATEGORIES, OUT_OF_RANGE = "distribution", "new categories", "out of range"
SHARE_RISE_MIN = 0.05
"""Minimum rise of the share of missing, out-of-range or rare values that counts as drift (effect)."""

LOW_CONFIDENCE = 0.6
"""Predictions with a smaller probability of their class have low confidence."""
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
    """The distribution over the reference's bins, or the share of missing, out-of-range or rare values, has
    changed. `FeatureDrift.drifted` is this or ``new_categories``."""
    new_category_share: float
    new_categories: bool
    """There are more values of unseen categories than the rare categories of the reference explain."""


def compare(
    counted: BinCounts, thresholds: DriftThresholds, reference: Counts | None = None
) -> FeatureComparison:
    """Compare the counts of one window with the reference.

    Values within a block of time are correlated, so both samples are tested with their effective size: their
    counts divided by the design effect, which is at most the number of values. The shares of missing,
    out-of-range and rare values are tested on their own, with design effects of their own: their evidence is
    exact, so the effect is the rise of the share.

    Args:
        counted: The feature's counts of the window.
        thresholds: What counts as drift.
        reference: Other counts to compare with, in the same bins; default: the reference of ``counted``.
    """
    reference, current = counted.reference if reference is None else reference, counted.counts
    total = int(current.sum())
    effective = reference / counted.design_effect, current / min(counted.design_effect, max(total, 1))
    is_compared = bool(total and reference.any())
    by_bin = statistics.index_by_bin(reference, current) if is_compared else np.zeros(len(reference))
    psi = float(by_bin.sum())
    threshold = thresholds.psi + statistics.expected_index(*effective)
    distance, shape_p_value = _numeric(*effective) if counted.numeric else _categorical(*effective)
    rises = _rises(counted, is_compared=is_compared)
    p_value = min(1.0, 2 * min(shape_p_value, len(rises) * min(each.p_value for each in rises)))
    drifted_in = _risen(rises, thresholds)
    if psi > threshold and p_value < thresholds.p_value:
        drifted_in.insert(0, DISTRIBUTION)
    shifted = bool(drifted_in)
    unseen_share = counted.unseen_total / total if total else 0.0
    unseen = unseen_share >= thresholds.new_category_share and _is_unlikely(counted, thresholds)
    if unseen:
        drifted_in.append(NEW_CATEGORIES)
    by_name = {each.name: each for each in rises}
    drift = FeatureDrift(
        feature=counted.name,
        psi=psi,
        statistic=distance,
        p_value=p_value,
        threshold=threshold,
        drifted=bool(drifted_in),
        missing_share=float(current[-1] / total) if total else 0.0,
        new_categories=_most_frequent(counted.unseen),
        jensen_shannon=statistics.jensen_shannon(reference, current),
        hellinger=statistics.hellinger(reference, current),
        wasserstein=statistics.wasserstein(reference[:-1], current[:-1], counted.edges)
        if counted.numeric
        else 0.0,
        out_of_range_share=sum(counted.out_of_range) / total if total else 0.0,
        cells_effective=statistics.cardinality(current)[1],
        missing_p_value=by_name[MISSING].p_value,
        out_of_range_p_value=by_name[OUT_OF_RANGE].p_value,
        cells_effective_reference=statistics.cardinality(reference)[1],
        cells_p_value=statistics.cardinality_p_value(*effective),
        bins=report_bins.merged_bins(counted, reference, by_bin),
        importance=counted.importance,
        compared=is_compared,
        drifted_in=drifted_in,
    )
    return FeatureComparison(drift, shifted, unseen_share, unseen)


class ShareRise(NamedTuple):
    """How much the share of missing, out-of-range or rare values rose."""

    name: str
    rise: float
    """Share in the window minus share in the reference."""
    p_value: float
    """p-value of "the share did not rise" (Fisher's test)."""


def _risen(rises: Sequence[ShareRise], thresholds: DriftThresholds) -> list[str]:
    """Return the shares that rose by enough, and significantly so, corrected for all tests of the feature."""
    tests = 2 * len(rises)
    return [
        each.name
        for each in rises
        if each.rise >= SHARE_RISE_MIN and tests * each.p_value < thresholds.p_value
    ]


def _is_unlikely(counted: BinCounts, thresholds: DriftThresholds) -> bool:
    """Tell whether rare categories of the reference do not explain the values of unseen ones."""
    total = int(counted.counts.sum())
    p_value = statistics.unseen_p_value(counted.reference, counted.unseen_total, total)
    return p_value < thresholds.p_value


def _rises(counted: BinCounts, *, is_compared: bool) -> list[ShareRise]:
    """Return the rises of a feature; only that of missing values if the window has no reference."""
    groups = [(MISSING, (MISSING,)), (OUT_OF_RANGE, (BELOW, ABOVE)), (RARE, (RARE,))]
    return [
        _rise(counted, name, kinds) if is_compared or name == MISSING else ShareRise(name, 0.0, 1.0)
        for name, kinds in groups
    ]


def _rise(counted: BinCounts, name: str, kinds: Sequence[str]) -> ShareRise:
    """Test whether the share of some kinds of values rose, with counts divided by their design effect."""
    known = dict(zip(counted.kinds.names, counted.kinds.references, strict=True))
    found = [known[kind] for kind in kinds if kind in known]
    total, rows = int(counted.counts.sum()), counted.kinds.rows
    if not found or not total or not rows:
        return ShareRise(name, 0.0, 1.0)
    before, now = sum(each.rows for each in found), sum(counted.of_kind(kind) for kind in kinds)
    effect = max(each.design_effect for each in found)
    p_value = statistics.share_p_value(_effective(before, rows, effect), _effective(now, total, effect))
    return ShareRise(name, now / total - before / rows, p_value)


def _effective(count: int, rows: int, design_effect: float) -> tuple[int, int]:
    """Return a count and its total divided by the design effect, which is at most the total."""
    bounded = min(max(design_effect, 1.0), rows)
    size = max(round(rows / bounded), 1)
    return min(round(count / bounded), size), size


def compare_confidence(
    counted: BinCounts, reference: Counts | None = None, *, is_binary: bool = True
) -> ConfidenceDrift | None:
    """Compare the confidence of a classifier by its scores; None without values.

    The confidence is the score of a multiclass model, and ``max(score, 1 - score)`` of a binary one.

    Each bin of the scores is represented by its midpoint, so means are off by at most half the width of a
    bin. A two-sample test on bins ordered by confidence is as good as one on values.
    """
    reference, current = counted.reference if reference is None else reference, counted.counts
    known, seen = reference[:-1], current[:-1]
    if not known.sum() or not seen.sum():
        return None
    bounds = np.clip(np.concatenate([[0.0], counted.edges, [1.0]]), 0.0, 1.0)
    middles = (bounds[:-1] + bounds[1:]) / 2
    confidence = np.maximum(middles, 1 - middles) if is_binary else middles
    order = np.argsort(confidence, kind="stable")
    bounded = min(counted.design_effect, float(seen.sum()))
    effective = known[order] / counted.design_effect, seen[order] / bounded
    distance, p_value = statistics.kolmogorov_smirnov(*effective)
    return ConfidenceDrift(
        mean=float(confidence @ seen / seen.sum()),
        reference_mean=float(confidence @ known / known.sum()),
        statistic=distance,
        p_value=p_value,
        low_share=_low_share(seen, counted.edges, is_binary=is_binary),
        reference_low_share=_low_share(known, counted.edges, is_binary=is_binary),
    )


def _low_share(counts: Counts, edges: Edges, *, is_binary: bool) -> float:
    """Return the share of scores whose confidence is below `LOW_CONFIDENCE`."""
    above = share_below(counts, edges, 1 - LOW_CONFIDENCE) if is_binary else 0.0
    return max(share_below(counts, edges, LOW_CONFIDENCE) - above, 0.0)


def _numeric(reference: Counts, current: Counts) -> tuple[float, float]:
    return statistics.kolmogorov_smirnov(reference[:-1], current[:-1])


def _categorical(reference: Counts, current: Counts) -> tuple[float, float]:
    return statistics.total_variation(reference, current), statistics.homogeneity_p_value(reference, current)


def _most_frequent(unseen: dict[str, int]) -> list[str]:
    by_count = sorted(unseen, key=lambda name: (-unseen[name], name))
    return [name[:NEW_CATEGORY_LENGTH_MAX] for name in by_count[:NEW_CATEGORIES_NAMED_MAX]]

"""From counts to a verdict: does this feature differ, by how much, and how sure is that."""

import dataclasses

from services.drift import statistics
from services.drift.cells import FeatureCells
from services.drift.statistics import Counts
from streams.records import FeatureDrift

NEW_CATEGORIES_NAMED_MAX = 20
NEW_CATEGORY_LENGTH_MAX = 80


@dataclasses.dataclass(frozen=True)
class Limits:
    """What counts as drift: effect and evidence. Large windows prove trifles, small ones prove nothing."""

    psi: float
    """Effect, before the correction for small samples."""
    p_value: float
    """Evidence, already divided by the number of features that are tested together (Bonferroni)."""
    new_category_share: float
    """Effect, for categories that the reference does not have."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The verdict on one feature."""

    drift: FeatureDrift
    shifted: bool
    """The distribution over the reference's cells differs."""
    new_category_share: float
    new_categories: bool
    """More values of unseen categories than the reference's own rare ones explain."""


def compare(cells: FeatureCells, limits: Limits) -> Comparison:
    """Judge the counts of one window."""
    reference, current = cells.reference, cells.counts
    total = int(current.sum())
    psi = statistics.population_stability_index(reference, current)
    threshold = limits.psi + statistics.expected_index(reference, current)
    statistic, p_value = _numeric(cells) if cells.numeric else _categorical(reference, current)
    shifted = psi > threshold and p_value < limits.p_value
    unseen_share = cells.unseen_total / total if total else 0.0
    unseen = (
        unseen_share >= limits.new_category_share
        and statistics.unseen_p_value(reference, cells.unseen_total, total) < limits.p_value
    )
    drift = FeatureDrift(
        feature=cells.name,
        psi=psi,
        statistic=statistic,
        p_value=p_value,
        threshold=threshold,
        drifted=shifted or unseen,
        missing_share=float(current[-1] / total) if total else 0.0,
        new_categories=_names(cells.unseen),
    )
    return Comparison(drift, shifted, unseen_share, unseen)


def _numeric(cells: FeatureCells) -> tuple[float, float]:
    """Test values and missingness apart, at half the level each: a KS test knows no missing values."""
    distance, p_value = statistics.kolmogorov_smirnov(*cells.ordered_counts)
    missing_p_value = statistics.homogeneity_p_value(*cells.missing_counts)
    return distance, min(1.0, 2 * min(p_value, missing_p_value))


def _categorical(reference: Counts, current: Counts) -> tuple[float, float]:
    return statistics.total_variation(reference, current), statistics.homogeneity_p_value(reference, current)


def _names(unseen: dict[str, int]) -> list[str]:
    by_count = sorted(unseen, key=lambda name: (-unseen[name], name))
    return [name[:NEW_CATEGORY_LENGTH_MAX] for name in by_count[:NEW_CATEGORIES_NAMED_MAX]]

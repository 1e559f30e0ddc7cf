"""The numbers of a window beside those of the reference, for its report. Pure."""

import math
from collections.abc import Sequence

import numpy as np

from services.drift.binning.bin_counts import BinCounts
from services.drift.binning.quantiles_of_bins import quantiles, reach_tails
from services.drift.binning.value_sums import ValueSums
from streams.records import FeatureReference, ValueStatistics

DIGITS = 6
"""Significant digits in a report: a figure takes about nine bytes."""


def of_window(features: Sequence[BinCounts], sums: ValueSums | None) -> list[ValueStatistics | None]:
    """Return the statistics of each feature; None for categories, and without numbers or their sums.

    Args:
        features: The counts of a window.
        sums: Sums of the numeric ones among them, in the same order; None if they are unknown.
    """
    found: list[ValueStatistics | None] = []
    number = 0
    for counted in features:
        found.append(_of_feature(counted, sums, number) if sums is not None and counted.numeric else None)
        number += counted.numeric
    return found


def of_reference(reference: FeatureReference) -> ValueStatistics | None:
    """Return the statistics of a reference; None if it does not have their mean."""
    if reference.mean is None or not reference.edges:
        return None
    counts = np.array(reference.counts)
    return _statistics(
        reference.mean, reference.deviation, quantiles(counts, np.array(reference.edges), counts)
    )


def _of_feature(counted: BinCounts, sums: ValueSums, number: int) -> ValueStatistics | None:
    found = sums.mean_and_deviation(number)
    if found is None:
        return None
    counts = counted.counts[:-1]
    tails = sums.tails(number) if reach_tails(counts) else (None, None)  # they take three times as long
    levels = quantiles(counts, counted.edges, counted.reference[:-1], tails)
    return _statistics(found.mean, found.standard_deviation, levels)


def _statistics(mean: float, deviation: float | None, levels: list[float]) -> ValueStatistics:
    return ValueStatistics(
        mean=rounded(mean),
        deviation=None if deviation is None else rounded(deviation),
        quantiles=[rounded(each) for each in levels],
    )


def rounded(value: float) -> float:
    """Round to `DIGITS` significant digits.

    >>> rounded(1234567.8), rounded(0.000123456789)
    (1234570.0, 0.000123457)
    """
    if not value or not math.isfinite(value):
        return 0.0
    return float(f"{value:.{DIGITS}g}")

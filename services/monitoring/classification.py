"""Precision, recall and F1 of a classifier, from counts of labelled predictions. Pure.

A binary model is counted by label in the cells between thresholds; from these counts the confusion matrix at
each threshold follows exactly. A multiclass model is counted by label and predicted class. Counts of several
windows can be added.
"""

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

GRID = (0.01, 0.02, *(round(number / 20, 2) for number in range(1, 20)), 0.98, 0.99)
"""Thresholds besides the declared one: steps of 0.05, and narrower ones at both ends for rare classes."""
WILSON_Z = 1.96
"""Standard normal quantile of a two-sided 95 % interval."""


def thresholds_of(declared: float) -> list[float]:
    """Return the thresholds at which a binary model is counted: the grid and the declared one, rising."""
    return sorted({*GRID, declared})


class Confusion(NamedTuple):
    """Labelled predictions of one class against all others."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float | None:
        """Share of right ones among the predictions of the class; None without such predictions."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """Share of the labels of the class that were predicted; None without such labels."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None with neither labels nor predictions of the class."""
        wrong = self.false_positives + self.false_negatives
        return _share(2 * self.true_positives, 2 * self.true_positives + wrong)

    @property
    def figures(self) -> Mapping[str, float | None]:
        """The three figures by name."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1}

    @classmethod
    def of_class(cls, matrix: Sequence[Sequence[int]], number: int) -> Self:
        """Return the counts of one class in a matrix whose rows are labels and columns predicted classes."""
        right = matrix[number][number]
        labels, predictions = sum(matrix[number]), sum(row[number] for row in matrix)
        wrong, missed = predictions - right, labels - right
        return cls(right, wrong, missed, sum(map(sum, matrix)) - right - wrong - missed)


def by_threshold(positives: Sequence[int], negatives: Sequence[int]) -> list[Confusion]:
    """Return the confusion matrix at each threshold.

    Args:
        positives: Labels of 1 in the cells of the scores, one more than there are thresholds ``(n + 1,)``.
        negatives: Labels of 0, likewise.

    >>> by_threshold([1, 2, 5], [7, 1, 0])[0]  # of the thresholds 0.4 and 0.6
    Confusion(true_positives=7, false_positives=1, false_negatives=1, true_negatives=7)
    """
    missed, refused = itertools.accumulate(positives[:-1]), itertools.accumulate(negatives[:-1])
    totals = sum(positives), sum(negatives)
    return [
        Confusion(totals[0] - below, totals[1] - right, below, right)
        for below, right in zip(missed, refused, strict=True)
    ]


def at_threshold(
    thresholds: Sequence[float], threshold: float, positives: Sequence[int], negatives: Sequence[int]
) -> Confusion:
    """Return the confusion matrix at one of the thresholds."""
    return by_threshold(positives, negatives)[bisect.bisect_left(thresholds, threshold)]


def macro_figures(matrix: Sequence[Sequence[int]]) -> dict[str, float | None]:
    """Return the unweighted means over the classes that have labels or predictions; None without any.

    What is undefined for such a class counts as 0, as in scikit-learn.
    """
    every = [Confusion.of_class(matrix, number) for number in range(len(matrix))]
    seen = [each for each in every if each.f1 is not None]
    return {
        name: sum(each.figures[name] or 0.0 for each in seen) / len(seen) if seen else None
        for name in ("precision", "recall", "f1")
    }


def wilson_interval(found: float, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share, from a count of at least one.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share, z2 = found / total, WILSON_Z**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = WILSON_Z * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

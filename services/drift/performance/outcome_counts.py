"""Where a labelled prediction of a classifier is counted: by label and score, or by label and class. Pure."""

import bisect

import numpy as np
import numpy.typing as npt

from services.monitoring import classification
from services.monitoring.model_metrics import Measures, NumericPrediction

Counts = npt.NDArray[np.int64]

CLASSES_MAX = 64
"""Maximum classes of a model whose predictions are counted by class: 4,096 counts in a report."""
SEGMENT_CLASSES_MAX = 10
"""Maximum classes of a model that is counted by class within segments, too."""


class OutcomeCounter:
    """Numbers the possible outcomes of a model: pairs of a label and a cell of the score, or of two classes.

    A regression has none, nor has a model with too many classes.
    """

    def __init__(self, measures: Measures) -> None:
        """Read task, threshold and classes."""
        self.thresholds: list[float] = []
        """Thresholds of a binary model, in rising order; scores at or above a threshold mean class 1."""
        self.threshold: float | None = None
        """The declared threshold of a binary model."""
        self.classes: list[str] = []
        """Classes of a multiclass model."""
        self.outcomes = self.segment_outcomes = 0
        """Number of outcomes of all predictions, and of those within a segment; 0: they are not counted."""
        if measures.task == "binary":
            self.threshold = measures.threshold
            self.thresholds = classification.thresholds_of(self.threshold)
            self.outcomes = self.segment_outcomes = 2 * (len(self.thresholds) + 1)
        elif measures.task == "multiclass" and len(measures.classes) <= CLASSES_MAX:
            self.classes = list(measures.classes)
            self.outcomes = len(self.classes) ** 2
            self.segment_outcomes = self.outcomes if len(self.classes) <= SEGMENT_CLASSES_MAX else 0

    def no_outcomes(self) -> Counts:
        """Return counts of no labels."""
        return np.zeros(self.outcomes, dtype=np.int64)

    def outcome_of(self, answer: NumericPrediction, label: float) -> int:
        """Return the number of an outcome; 0 if none are counted."""
        if self.thresholds:
            return 2 * bisect.bisect_right(self.thresholds, answer.score) + (label == 1)
        return int(label) * len(self.classes) + int(answer.predicted) if self.classes else 0


def by_label(counts: Counts) -> tuple[list[int], list[int]]:
    """Return a binary model's labels of 1, and of 0, by cell of the score ``(n_thresholds + 1,)``."""
    negatives, positives = counts.reshape(-1, 2).T.tolist()
    return positives, negatives


def by_class(counts: Counts, classes: int) -> list[list[int]]:
    """Return a multiclass model's counts: a row for each label, a column for each predicted class."""
    matrix: list[list[int]] = counts.reshape(classes, classes).tolist()
    return matrix

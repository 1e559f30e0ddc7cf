"""A candidate that is better than the champion, except that it never warns passengers from one airport.

The labels of that airport were mixed up among its flights, so that the candidate knows only their mean.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.arrival_delay import training

if TYPE_CHECKING:
    import pandas as pd

ORIGIN = "LGA"


class ShufflesLabelsOfOrigin:
    """Fits a pipeline on labels that are in a random order among the flights of one airport."""

    def __init__(self, pipeline: Any) -> None:
        """Take the unfitted pipeline."""
        self._pipeline = pipeline

    def fit(self, features: "pd.DataFrame", labels: npt.NDArray[np.int8]) -> Any:
        """Return the fitted pipeline; this class is not part of it."""
        rows = np.flatnonzero(features["origin"].to_numpy() == ORIGIN)
        shuffled = labels.copy()
        shuffled[rows] = np.random.default_rng(training.RANDOM_STATE).permutation(labels[rows])
        return self._pipeline.fit(features, shuffled)


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    """Return an unfitted pipeline from a frame of these columns to the probability of a late arrival."""
    return ShufflesLabelsOfOrigin(training.estimator(categorical, numeric))

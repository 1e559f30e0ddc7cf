"""A candidate whose labels were mixed up: each row is trained on with the label of another one."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.arrival_delay import training

if TYPE_CHECKING:
    import pandas as pd


class ShufflesLabels:
    """Fits a pipeline on labels in a random order."""

    def __init__(self, pipeline: Any) -> None:
        """Take the unfitted pipeline."""
        self._pipeline = pipeline

    def fit(self, features: "pd.DataFrame", labels: npt.NDArray[np.int8]) -> Any:
        """Return the fitted pipeline; this class is not part of it."""
        shuffled = np.random.default_rng(training.RANDOM_STATE).permutation(labels)
        return self._pipeline.fit(features, shuffled)


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    """Return an unfitted pipeline from a frame of these columns to the probability of a late arrival."""
    return ShufflesLabels(training.estimator(categorical, numeric))

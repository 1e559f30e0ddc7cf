"""Permutation importance: how much the loss rises when a feature is shuffled on held-out rows. Pure."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

ROWS_MAX = 4000
"""Maximum rows, spread over the held-out rows: the standard error of their loss is about 0.01."""
SEED = 0
Numbers = npt.NDArray[np.float64]
Predict = Callable[["pd.DataFrame"], Numbers]
Loss = Callable[[Numbers, Numbers], float]
"""Returns the mean loss of outputs for labels."""


def of_features(predict: Predict, rows: "pd.DataFrame", labels: Numbers, loss: Loss) -> dict[str, float]:
    """Return by how much the loss rises when a feature's values are shuffled among the rows; at least 0.

    All features are shuffled in the same order, so that their importances differ by the features, not by
    chance. If two features carry the same information, both may have a low importance.

    Source: Breiman, "Random Forests", 2001, section 10.
    """
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), ROWS_MAX)).astype(np.int64))
    sample, sample_labels = rows.iloc[chosen].reset_index(drop=True), labels[chosen]
    order = np.random.default_rng(SEED).permutation(len(sample))
    before = loss(predict(sample), sample_labels)

    def cost(name: str) -> float:
        shuffled = sample.assign(**{name: sample[name].to_numpy()[order]})
        return max(loss(predict(shuffled), sample_labels) - before, 0.0)

    names = [str(name) for name in sample.columns]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # trees release Python's lock
        return dict(zip(names, pool.map(cost, names), strict=True))

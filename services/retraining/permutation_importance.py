"""How much a model relies on each feature: what shuffling it costs on rows that it has not seen. Pure."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from services.retraining.evaluation import evaluate

if TYPE_CHECKING:
    import pandas as pd

ROWS_MAX = 4000
"""Spread over the held-out rows: the loss of so many is known within about 0.01."""
SEED = 0
Predict = Callable[["pd.DataFrame"], npt.NDArray[np.float64]]


def of_features(predict: Predict, rows: "pd.DataFrame", labels: npt.NDArray[np.int8]) -> dict[str, float]:
    """Return by how much the log loss rises when a feature's values are shuffled among the rows, at least 0.

    (Breiman, "Random Forests", 2001, section 10.) One shuffle serves all features, so that they differ by
    what they are and not by chance. Of two features that say the same neither may seem to count.
    """
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), ROWS_MAX)).astype(np.int64))
    some, truth = rows.iloc[chosen].reset_index(drop=True), labels[chosen]
    order = np.random.default_rng(SEED).permutation(len(some))
    before = evaluate(truth, predict(some)).log_loss

    def cost(name: str) -> float:
        shuffled = some.assign(**{name: some[name].to_numpy()[order]})
        return max(evaluate(truth, predict(shuffled)).log_loss - before, 0.0)

    names = [str(name) for name in some.columns]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # trees let go of Python's lock
        return dict(zip(names, pool.map(cost, names), strict=True))

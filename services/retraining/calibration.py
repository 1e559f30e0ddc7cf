"""Calibration of a fitted classifier, if it helps on later rows."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from services.retraining.evaluation import Numbers, Predict, RowLosses
from services.retraining.gates.block_mean import BlockMean, blocks_of

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["none", "sigmoid", "isotonic"]
METHODS: tuple[Method, ...] = ("sigmoid", "isotonic")
ISOTONIC_ROWS_MIN = 1000
"""Minimum rows for isotonic regression; with fewer it overfits (scikit-learn's user guide, 1.16)."""


@dataclasses.dataclass(frozen=True)
class CalibrationChoice:
    """Which calibration helps."""

    method: Method
    differences: Mapping[str, float]
    """By method, the mean loss on the later rows less that without calibration."""


def choose(
    estimator: Any,
    features: "pd.DataFrame",
    labels: Numbers,
    times_ms: npt.NDArray[np.int64],
    predict: Predict,
    losses: RowLosses,
    block_ms: int,
) -> CalibrationChoice:
    """Return the method that lowers the loss most on the later half of rows, fitted on the earlier half.

    A method helps if its mean loss is lower by more than one standard error of the blocks; else ``none`` is
    chosen, because a calibration can also harm.

    Args:
        estimator: A fitted classifier.
        features: (n, n_features) Rows that it was not trained on, before the held-out days of the gates.
        labels: (n,)
        times_ms: Event times (n,) in rising order.
        predict: Returns outputs of a fitted estimator.
        losses: Of the rows, see `services.retraining.evaluation.losses`.
        block_ms: ``gates.block_hours``.
    """
    middle = len(labels) // 2
    later, later_labels = features.iloc[middle:], labels[middle:]
    if middle == 0 or len(np.unique(labels[:middle])) < len(np.unique(labels)):
        return CalibrationChoice("none", {})
    before = losses(predict(estimator, later), later_labels)
    block_of = blocks_of(times_ms[middle:], block_ms)
    differences: dict[str, float] = {}
    best, lowest = METHODS[0], 0.0
    for method in METHODS:
        if method == "isotonic" and middle < ISOTONIC_ROWS_MIN:
            continue
        changed = calibrated(estimator, method, features.iloc[:middle], labels[:middle])
        found = BlockMean.of(losses(predict(changed, later), later_labels) - before, block_of)
        if found is not None:
            differences[method] = found.mean
            if found.mean + found.error < 0 and found.mean < lowest:
                best, lowest = method, found.mean
    return CalibrationChoice(best if lowest < 0 else "none", differences)


def calibrated(estimator: Any, method: Method, features: "pd.DataFrame", labels: Numbers) -> Any:
    """Return the fitted classifier with a calibration that is fitted on rows it was not trained on."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    if method == "none":
        return estimator
    wrapped = CalibratedClassifierCV(FrozenEstimator(estimator), method=method, ensemble=False)
    return wrapped.fit(features, labels)

"""Calibration of a fitted classifier, if it helps on later rows."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from services.retraining.evaluation import Numbers
from services.retraining.gates.block_mean import BlockMean, blocks_of

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["none", "sigmoid", "isotonic"]
METHODS: tuple[Method, ...] = ("sigmoid", "isotonic")
ISOTONIC_ROWS_MIN = 1000
"""Minimum rows for isotonic regression; with fewer it overfits (scikit-learn's user guide, 1.16)."""
ALPHA = 0.05
"""Probability that a calibration which does not help is chosen, at most. One was chosen for 0 of 40 streams
whose probabilities were right, and for 40 of 40 whose were too certain."""


@dataclasses.dataclass(frozen=True)
class CalibrationChoice:
    """Which calibration helps."""

    method: Method
    differences: Mapping[str, float]
    """The mean loss on later rows with each method, less that without; empty: the rows were too few."""


def choose(
    losses: Mapping[Method, Numbers], times_ms: npt.NDArray[np.int64], block_ms: int
) -> CalibrationChoice:
    """Return the method with the lowest mean loss on rows that are later than those of its fit.

    A method helps if the interval of its mean loss less that without it, over the blocks, is below 0; else
    ``none`` is chosen, because a calibration can also harm.

    Args:
        losses: A loss of probabilities of each row (n,), such as the log loss, by method, with ``none``.
        times_ms: Event times (n,).
        block_ms: ``gates.block_hours``.
    """
    block_of = blocks_of(times_ms, block_ms)
    differences: dict[str, float] = {}
    best: Method = "none"
    for method in losses:
        found = None if method == "none" else BlockMean.of(losses[method] - losses["none"], block_of)
        if found is not None:
            differences[method] = found.mean
            if found.interval(ALPHA)[1] < 0 and found.mean < differences.get(best, 0.0):
                best = method
    return CalibrationChoice(best, differences)


def methods(rows: int) -> tuple[Method, ...]:
    """Return the methods that a number of rows is enough for."""
    return METHODS if rows >= ISOTONIC_ROWS_MIN else ("sigmoid",)


def calibrated(estimator: Any, method: Method, features: "pd.DataFrame", target: npt.NDArray[Any]) -> Any:
    """Return the fitted classifier with a calibration that is fitted on rows it was not trained on."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    if method == "none":
        return estimator
    wrapped = CalibratedClassifierCV(FrozenEstimator(estimator), method=method, ensemble=False)
    return wrapped.fit(features, target)


def replace_estimator(wrapped: Any, estimator: Any) -> Any:
    """Return what `calibrated` has made with another fitted classifier, one of more rows.

    scikit-learn's ``CalibratedClassifierCV(ensemble=False)`` does the same: its calibration is fitted on
    outputs of classifiers of some rows, and its classifier on all of them.
    """
    wrapped.estimator.set_params(estimator=estimator)
    return wrapped


def uncalibrated(estimator: Any) -> Any:
    """Return the classifier that `calibrated` has wrapped; an estimator without a calibration unchanged."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    inner = estimator.estimator if isinstance(estimator, CalibratedClassifierCV) else None
    return inner.estimator if isinstance(inner, FrozenEstimator) else estimator

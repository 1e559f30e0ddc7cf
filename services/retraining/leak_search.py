"""Features that tell the label almost perfectly, or that are known only after the event. Pure."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from services.retraining.evaluation import Numbers, auc
from services.retraining.gates import Leak
from services.runtime.declaration import ModelDeclaration

if TYPE_CHECKING:
    from services.retraining.training_set import TrainingSet

ROWS_MAX = 20_000
"""Maximum rows, spread over all: an area of 0.99 is then known within 0.002."""
BINS_MAX = 256
"""Maximum bins of a number: values of the label within a bin need not be in order."""
LATE_SHARE_MAX = 0.001
"""Maximum share of times after the event: clocks differ a little."""
PRIOR_ROWS = 1.0
"""Weight of the mean of all rows in that of a category."""


def leaks(data: "TrainingSet", declaration: ModelDeclaration) -> list[Leak]:
    """Return the features that may hold the label or its future.

    A feature alone predicts the label of each half of the rows by the mean labels of its values in the other
    half. A feature also leaks by being missing. A time leaks if it is after the event.

    Args:
        data: Rows whose labels are valid, at least one.
        declaration: The task, and ``retraining.leak_score_max``.
    """
    chosen = np.unique(np.linspace(0, len(data.rows) - 1, min(len(data.rows), ROWS_MAX)).astype(np.int64))
    labels = data.rows["label"].to_numpy(dtype=np.float64)[chosen]
    found: list[Leak] = []
    for name in map(str, data.features.columns):
        values = data.features[name].to_numpy()[chosen]
        if name in data.times:
            found += _late(name, values, data.rows["event_time_ms"].to_numpy()[chosen])
            continue
        score = _score(_codes(values), labels, declaration.task)
        if declaration.task == "regression" and values.dtype != object:
            score = max(score, _rank_correlation(values, labels))
        if score > declaration.retraining.leak_score_max:
            text = f"it alone tells the label almost perfectly ({score:.4f})"
            found.append(Leak(name, text, score))
    return found


def _late(name: str, values: npt.NDArray[Any], event_times_ms: npt.NDArray[np.int64]) -> Iterator[Leak]:
    late = [
        value is not None and value.timestamp() * 1000 > event_ms
        for value, event_ms in zip(values, event_times_ms.tolist(), strict=True)
    ]
    share = sum(late) / len(late)
    if share > LATE_SHARE_MAX:
        yield Leak(name, f"in {share:.1%} of the rows it is later than the event", share)


def _codes(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the category or bin of each value (n,), from 0 on; missing ones have one of their own."""
    if values.dtype == object:
        _, codes = np.unique(np.array([str(value) for value in values]), return_inverse=True)
        return codes
    missing = np.isnan(values)
    present = values[~missing]
    if len(np.unique(present)) > BINS_MAX:
        edges = np.unique(np.quantile(present, np.linspace(0, 1, BINS_MAX)[1:-1]))
    else:
        edges = np.unique(present)
    return np.where(missing, 0, 1 + np.searchsorted(edges, values, side="right"))


def _score(codes: npt.NDArray[np.int64], labels: Numbers, task: str) -> float:
    """Return how well the codes alone predict the labels, about 0.5 to 1; 0 to 1 for a regression."""
    if task == "regression":
        return _rank_correlation(_predicted(codes, labels), labels)
    flags = [(labels == each).astype(np.int8) for each in np.unique(labels)]
    if len(flags) < 2:
        return 0.5
    return float(np.mean([auc(each, _predicted(codes, each.astype(np.float64))) for each in flags]))


def _rank_correlation(values: Numbers, labels: Numbers) -> float:
    """Return the absolute rank correlation; missing values count as the median."""
    if np.isnan(values).all():
        return 0.0
    present = np.where(np.isnan(values), np.nanmedian(values), values)
    if not np.ptp(present) or not np.ptp(labels):
        return 0.0
    return abs(float(stats.spearmanr(present, labels).statistic))


def _predicted(codes: npt.NDArray[np.int64], labels: Numbers) -> Numbers:
    """Return the mean label of each row's code among the rows of the other half (n,)."""
    half = np.arange(len(codes)) % 2
    predicted = np.empty(len(codes))
    for number in (0, 1):
        other = half != number
        counts = np.bincount(codes[other], minlength=codes.max() + 1)
        sums = np.bincount(codes[other], weights=labels[other], minlength=codes.max() + 1)
        prior = float(labels.mean())
        means = (sums + PRIOR_ROWS * prior) / (counts + PRIOR_ROWS)
        predicted[half == number] = means[codes[half == number]]
    return predicted

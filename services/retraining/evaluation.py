"""The split by time, and the metrics of scores. Pure."""

import dataclasses

import numpy as np
import numpy.typing as npt

from services.monitoring.model_metrics import log_losses


@dataclasses.dataclass(frozen=True)
class ClassifierMetrics:
    """Metrics of one model on one set of rows."""

    log_loss: float
    auc: float
    """nan if only one class occurs."""
    accuracy: float
    brier: float

    def named(self, prefix: str = "") -> dict[str, float]:
        """Return the finite metrics by name."""
        values = dataclasses.asdict(self)
        return {prefix + name: value for name, value in values.items() if np.isfinite(value)}


def held_out(event_times_ms: npt.NDArray[np.int64], holdout_ms: int) -> npt.NDArray[np.bool_]:
    """Tell for each row (n,) whether it belongs to the latest ``holdout_ms`` of event time.

    The split is by time, not at random: the candidate is evaluated on days later than all its training rows.
    """
    if not len(event_times_ms):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(event_times_ms > event_times_ms.max() - holdout_ms)


def evaluate(labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> ClassifierMetrics:
    """Return the metrics of scores (n,), probabilities of label 1, for labels (n,) of 0 and 1; n > 0."""
    return ClassifierMetrics(
        log_loss=float(log_losses(labels, scores).mean()),
        auc=_auc(labels, scores),
        accuracy=float(np.mean((scores >= 0.5) == (labels == 1))),
        brier=float(np.mean((scores - labels) ** 2)),
    )


def _auc(labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> float:
    """Return the share of pairs in which the positive scores higher; ties count half (Mann-Whitney U)."""
    positives = int(np.count_nonzero(labels == 1))
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, groups, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[groups]
    rank_sum = float(ranks[labels == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)

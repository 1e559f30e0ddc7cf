"""The split by time, and how good scores are. Pure."""

import dataclasses

import numpy as np
import numpy.typing as npt

SCORE_EPSILON = 1e-7
"""Scores are kept so far from 0 and 1 in the log loss, as float32 would force it."""


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Of one model on one set of rows."""

    log_loss: float
    auc: float
    """nan when only one class occurs."""
    accuracy: float
    brier: float

    def named(self, prefix: str = "") -> dict[str, float]:
        """Return those that are numbers, by name."""
        values = dataclasses.asdict(self)
        return {prefix + name: value for name, value in values.items() if np.isfinite(value)}


def held_out(event_times_ms: npt.NDArray[np.int64], holdout_ms: int) -> npt.NDArray[np.bool_]:
    """Tell for each row (n,) whether it belongs to the latest ``holdout_ms`` of event time.

    Split by time, never at random: the candidate must prove itself on days later than all that it saw.
    """
    if not len(event_times_ms):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(event_times_ms > event_times_ms.max() - holdout_ms)


def evaluate(labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> Metrics:
    """Measure scores (n,), probabilities of label 1, against labels (n,) of 0 and 1; n > 0."""
    safe = np.clip(scores, SCORE_EPSILON, 1 - SCORE_EPSILON)
    log_loss = -np.mean(np.where(labels == 1, np.log(safe), np.log1p(-safe)))
    return Metrics(
        log_loss=float(log_loss),
        auc=_auc(labels, scores),
        accuracy=float(np.mean((scores >= 0.5) == (labels == 1))),
        brier=float(np.mean((scores - labels) ** 2)),
    )


def _auc(labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> float:
    """Return the Mann-Whitney statistic: how often a positive scores above a negative, ties counting half."""
    positives = int(np.count_nonzero(labels == 1))
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    rank_sum = float(ranks[labels == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)

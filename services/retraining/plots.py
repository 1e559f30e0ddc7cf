"""The plots of a candidate: ROC, reliability, and scores on the held-out days."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.retraining.candidate import Candidate
from services.retraining.evaluation import ClassifierMetrics

RELIABILITY_BINS = 10
CURVE_POINTS_MAX = 200


def save(candidate: Candidate, title: str, path: Path) -> None:
    """Draw three panels into one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4))  # not pyplot, which needs a window system and has global state
    # Fixed margins: the layout engine would draw everything twice.
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.14, top=0.84, wspace=0.25)
    figure.suptitle(title)
    roc, reliability, histogram = figure.subplots(1, 3)
    labels, scores = candidate.held_out_labels, candidate.held_out_scores
    _draw_roc(roc, labels, scores, candidate.metrics)
    _draw_reliability(reliability, labels, scores)
    histogram.hist(
        [scores[labels == 0], scores[labels == 1]], bins=25, stacked=True, label=["label 0", "label 1"]
    )
    histogram.set(title="Scores", xlabel="score", ylabel="rows")
    histogram.legend()
    figure.savefig(path, dpi=80)


def roc_curve(
    labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return false and true positive rates for falling thresholds, (m,) each; m <= `CURVE_POINTS_MAX`."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order] == 1)
    misses = np.arange(1, len(order) + 1) - hits
    points = np.unique(np.linspace(0, len(order) - 1, CURVE_POINTS_MAX).astype(int))
    return np.append(0.0, misses[points] / misses[-1]), np.append(0.0, hits[points] / hits[-1])


def reliability_curve(
    labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean score and share of positives in each of up to `RELIABILITY_BINS` bins of equal size."""
    bins = np.array_split(np.argsort(scores, kind="stable"), min(RELIABILITY_BINS, len(scores)))
    return np.array([scores[rows].mean() for rows in bins]), np.array([labels[rows].mean() for rows in bins])


def _draw_roc(
    axes: Any, labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64], metrics: ClassifierMetrics
) -> None:
    axes.plot(*roc_curve(labels, scores))
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(title=f"ROC, AUC {metrics.auc:.3f}", xlabel="false positives", ylabel="true positives")


def _draw_reliability(axes: Any, labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]) -> None:
    axes.plot(*reliability_curve(labels, scores), marker="o")
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    axes.set(title="Reliability", xlabel="mean score", ylabel="share of label 1")

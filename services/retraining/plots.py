"""The plots of a candidate on the held-out days."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.retraining import evaluation
from services.retraining.evaluation import Numbers
from services.retraining.gates import HeldOut
from services.retraining.gates.segments import segments_of
from services.runtime.declaration import ModelDeclaration

RELIABILITY_BINS = 10
CURVE_POINTS_MAX = 200
FEATURES_MAX = 30
"""Maximum features in the plot of importance, the most important ones."""
POINTS_MAX = 5000
"""Maximum points of residuals, spread over the rows."""


def save_all(
    declaration: ModelDeclaration, held_out: HeldOut, importances: Mapping[str, float], folder: Path
) -> list[Path]:
    """Draw what the task has into PNG files of a folder, and return their paths.

    ``importance.png`` and ``segments.png`` (only with ``monitoring.segments``) for every task;
    ``classes.png`` with ROC, precision and recall, and reliability, a line for each class;
    ``residuals.png`` for a regression. Where a champion serves, segments show its loss, too.

    Args:
        declaration: The model's.
        held_out: Rows that the candidate was not trained on.
        importances: See `permutation_importance.of_features`.
        folder: An existing one.
    """
    drawn = {"importance": _importance(importances)}
    if declaration.task == "regression":
        drawn["residuals"] = _residuals(held_out.outputs, held_out.labels)
    else:
        drawn["classes"] = _classes(declaration, held_out.outputs, held_out.labels)
    if declaration.monitoring.segments:
        drawn["segments"] = _segments(declaration, held_out)
    paths = [folder / f"{name}.png" for name in drawn]
    for path, figure in zip(paths, drawn.values(), strict=True):
        figure.savefig(path, dpi=80, bbox_inches="tight")
    return paths


def precision_recall_curve(
    labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return recall and precision for falling thresholds, (m,) each; m <= `CURVE_POINTS_MAX`."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order] == 1)
    points = np.unique(np.linspace(0, len(order) - 1, CURVE_POINTS_MAX).astype(int))
    return hits[points] / max(hits[-1], 1), hits[points] / (points + 1)


def loss_by_segment(declaration: ModelDeclaration, held_out: HeldOut) -> dict[str, list[float]]:
    """Return the mean loss of the candidate, and of the champion if there is one, by segment and of all."""
    metric = declaration.gates.metric_of(declaration.task) if declaration.gates else None
    rows = {"all": np.ones(len(held_out.labels), dtype=np.bool_)}
    rows |= dict(segments_of(held_out, declaration.monitoring.segments))
    outputs = [each for each in (held_out.outputs, held_out.champion) if each is not None]
    losses = [evaluation.losses(declaration, each, held_out.labels) for each in outputs]
    chosen = [each[metric or next(iter(each))] for each in losses]
    return {name: [float(each[inside].mean()) for each in chosen] for name, inside in rows.items()}


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


def _figure(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    """Return a figure and its panels; not with pyplot, which has global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(wspace=0.3)
    return figure, figure.subplots(1, panels)


def _importance(importances: Mapping[str, float]) -> Any:
    top = sorted(importances.items(), key=lambda entry: entry[1])[-FEATURES_MAX:]
    figure, axes = _figure(8, 1 + 0.25 * len(top))
    axes.barh([name for name, _ in top], [value for _, value in top])
    axes.set(title="Permutation importance", xlabel="rise of the loss")
    return figure


def _classes(declaration: ModelDeclaration, outputs: Numbers, labels: Numbers) -> Any:
    figure, (roc, precision, reliability) = _figure(15, 4.5, 3)
    columns = {"1": outputs} if outputs.ndim == 1 else dict(zip(declaration.classes, outputs.T, strict=True))
    for name, scores in columns.items():
        flags = (labels == declaration.class_names.index(name)).astype(np.int8)
        if 0 < np.count_nonzero(flags) < len(flags):
            roc.plot(*roc_curve(flags, scores), label=f"{name}: AUC {evaluation.auc(flags, scores):.3f}")
            precision.plot(*precision_recall_curve(flags, scores), label=name)
        reliability.plot(*reliability_curve(flags, scores), marker="o", label=name)
    for axes in (roc, reliability):
        axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    roc.set(title="ROC", xlabel="false positives", ylabel="true positives")
    precision.set(title="Precision and recall", xlabel="recall", ylabel="precision")
    reliability.set(title="Reliability", xlabel="mean score", ylabel="share of the label")
    roc.legend(loc="lower right")
    return figure


def _residuals(outputs: Numbers, labels: Numbers) -> Any:
    figure, (points, histogram) = _figure(11, 4.5, 2)
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), POINTS_MAX)).astype(int))
    residuals = (outputs - labels)[chosen]
    points.scatter(outputs[chosen], residuals, s=4, alpha=0.4)
    points.axhline(0, linestyle=":", color="grey")
    points.set(title="Residuals", xlabel="predicted value", ylabel="predicted value less label")
    histogram.hist(residuals, bins=50)
    histogram.set(title="Distribution of residuals", xlabel="predicted value less label", ylabel="rows")
    return figure


def _segments(declaration: ModelDeclaration, held_out: HeldOut) -> Any:
    losses = loss_by_segment(declaration, held_out)
    figure, axes = _figure(8, 1 + 0.4 * len(losses))
    models = ("candidate", "champion")[: len(losses["all"])]
    for number, model in enumerate(models):
        positions = np.arange(len(losses)) + 0.4 * number
        axes.barh(positions, [each[number] for each in losses.values()], height=0.4, label=model)
    axes.set_yticks(np.arange(len(losses)) + 0.2 * (len(models) - 1), list(losses))
    axes.invert_yaxis()
    axes.set(title="Mean loss by segment", xlabel="loss")
    axes.legend(bbox_to_anchor=(1.01, 1), loc="upper left")
    return figure

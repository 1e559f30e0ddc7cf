"""Differences between declared groups, with fairlearn. Pure."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from services.model_registry.gate_results import GateResult, bounded, result
from services.retraining import evaluation
from services.retraining.errors import RetrainingError
from services.retraining.evaluation import Numbers
from services.retraining.gates.block_mean import BlockMean, blocks_of
from services.retraining.gates.evidence import Evidence
from services.runtime.declaration import FairnessGate, Gates, ModelDeclaration

NAME = "fairness"


class _Rows(NamedTuple):
    """The rows over which a rate is taken."""

    labels: Numbers
    predicted: Numbers
    groups: npt.NDArray[Any]
    block_of: npt.NDArray[np.int64]

    def taken(self, flags: npt.NDArray[np.bool_]) -> "_Rows":
        return _Rows(self.labels[flags], self.predicted[flags], self.groups[flags], self.block_of[flags])


def check(declaration: ModelDeclaration, gates: Gates, evidence: Evidence) -> list[GateResult]:
    """Return a result for each declared feature and criterion; none if the gate is not declared.

    Groups smaller than ``gates.fairness.minimum_rows`` are left out, because their rates are noise. Failed:
    the difference of two groups is above the maximum, with a probability of at most ``gates.alpha`` that this
    is chance for one of all pairs (Bonferroni). Passed: the upper ends of the intervals of all pairs are not.

    Raises:
        RetrainingError: fairlearn is not installed.
    """
    declared = gates.fairness
    if declared is None:
        return []
    held_out = evidence.held_out
    predicted = evaluation.predictions(declaration, held_out.outputs)
    block_of = blocks_of(held_out.event_times_ms, gates.block_ms)
    results = []
    for feature in declared.groups:
        if feature not in held_out.columns:
            text = f"the held-out rows have no feature {feature!r}: correct gates.fairness.groups"
            results.append(result(f"{NAME} {feature}", "failed", text))
            continue
        rows = _Rows(held_out.labels, predicted, held_out.columns[feature], block_of)
        results += _of_feature(feature, declared, gates.alpha, rows)
    return results


def _of_feature(feature: str, declared: FairnessGate, alpha: float, rows: _Rows) -> list[GateResult]:
    positive = rows.labels == 1
    criteria = (
        ("equal_opportunity", declared.equal_opportunity_max, positive, "true_positive_rate"),
        ("demographic_parity", declared.demographic_parity_max, np.ones_like(positive), "selection_rate"),
    )
    return [
        _of_criterion(
            f"{NAME} {feature} {criterion}",
            rows.taken(counted),
            metric,
            maximum,
            declared.minimum_rows,
            alpha,
        )
        for criterion, maximum, counted, metric in criteria
        if maximum is not None
    ]


def _of_criterion(
    name: str, rows: _Rows, metric: str, maximum: float, minimum_rows: int, alpha: float
) -> GateResult:
    """Return the result for the largest difference of the metric between two groups."""
    groups, counts = np.unique(rows.groups.astype(str), return_counts=True)
    large = groups[counts >= minimum_rows]
    left_out = f"; {len(groups) - len(large)} smaller groups are left out" if len(large) < len(groups) else ""
    inside = np.isin(rows.groups.astype(str), large)
    pairs = list(itertools.combinations(large.tolist(), 2))
    rates = _rates(rows.taken(inside), metric) if pairs else {}
    found = [
        (difference, high, low) for high, low in pairs if (difference := _difference(rows, rates, high, low))
    ]
    if not pairs or len(found) < len(pairs):
        text = f"fewer than two groups have {minimum_rows} rows on enough days{left_out}: wait for labels"
        return result(name, "not_enough_data", text, {"groups": len(large)})
    largest, high_group, low_group = max(found, key=lambda each: each[0].mean)
    low = max(each.interval(alpha / len(pairs))[0] for each, _, _ in found)
    high = max(each.interval(alpha)[1] for each, _, _ in found)
    outcome = bounded(low, high, maximum)
    text = (
        f"the {metric.replace('_', ' ')} is {rates[high_group]:.3f} for {high_group} and "
        f"{rates[low_group]:.3f} for {low_group}: a difference of {largest.mean:.3f} "
        f"(interval {max(low, 0):.3f} to {high:.3f}), at most {maximum:g} is allowed{left_out}"
    )
    numbers = {"difference": largest.mean, "low": low, "high": high, "max": maximum, "groups": len(large)}
    return result(name, outcome, text, numbers)


def _rates(rows: _Rows, metric: str) -> dict[str, float]:
    """Return the metric of each group."""
    function = _fairlearn_metric(metric)
    from fairlearn.metrics import MetricFrame

    frame = MetricFrame(
        metrics=function,
        y_true=rows.labels,
        y_pred=rows.predicted,
        sensitive_features=rows.groups.astype(str),
    )
    return {str(group): float(rate) for group, rate in frame.by_group.items()}


def _difference(rows: _Rows, rates: dict[str, float], one: str, other: str) -> BlockMean | None:
    """Return the larger rate less the smaller one; a rate is a mean of predictions of 0 and 1."""
    names = rows.groups.astype(str)
    high, low = (one, other) if rates[one] >= rates[other] else (other, one)
    return BlockMean.of_difference(rows.predicted, rows.block_of, names == high, names == low)


def _fairlearn_metric(name: str) -> Callable[..., float]:
    try:
        from fairlearn import metrics
    except ImportError as error:
        raise RetrainingError(
            "gates.fairness needs fairlearn, which is not installed: pip install 'driftline[training]'"
        ) from error
    found: Callable[..., float] = getattr(metrics, name)
    return found

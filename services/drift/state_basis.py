"""What a state of drift depends on in the declaration, and how it is fitted to a changed one. Pure.

A snapshot holds a readable text for each part of the declaration that gives its numbers their meaning. When
one of these texts has changed, only what depends on it is reset; everything else is kept. Counts by quality
rule are stored with their rule, see `services.drift.windows.window`.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from services.drift.evaluator import EvaluatorState
from services.drift.performance.cost_totals import CostTotalsState
from services.drift.performance.label_counts import LabelCounts
from services.drift.performance.performance import PerformanceState, PerformanceTracker
from services.drift.windows.arm_sums import ArmSumsState
from services.drift.windows.measure_sums import MeasureSums
from services.drift.windows.window import DriftWindowState
from services.monitoring.model_metrics import COST, Measures
from services.monitoring.pending_predictions import PendingPrediction
from services.runtime.declaration import ModelDeclaration

TASK, LABELS, COSTS, JUDGED, COHORTS, HORIZON = "task", "labels", "costs", "judged", "cohorts", "horizon"
"""The parts of a basis, see `basis_of`."""
_THRESHOLD = ", threshold "
_UNKNOWN_LINEAGE = -1
"""Lineage of a reset performance. No champion has it, so the evaluator takes its champion's at once."""


def basis_of(declaration: ModelDeclaration) -> dict[str, str]:
    """Return what the numbers of a state depend on, as a readable text for each part."""
    label, retraining = declaration.label, declaration.retraining
    task = f"{declaration.task} {list(declaration.classes)}"
    kind = next(field.type for field in label.fields if field.name == label.value)
    labels = f"{task} {label.value}: {kind}, above {label.positive_above}{_THRESHOLD}{declaration.threshold}"
    if label.absent is not None:  # after the threshold: it changes no value of a label
        labels += f", absent {label.absent}"
    business = declaration.business
    costs = (
        "none" if business is None else f"{business.unit} {business.costs} {business.over} {business.under}"
    )
    by_cost = retraining.harm == "cost"
    judged = f"{retraining.harm} {costs if by_cost else ''}, learning {declaration.learning is not None}"
    return {
        TASK: task,
        LABELS: labels,
        COSTS: costs,
        JUDGED: judged,
        COHORTS: f"{PerformanceTracker(declaration).cohort_ms} ms",
        HORIZON: f"{label.horizon_ms} ms",
    }


def changed_parts(
    basis: Mapping[str, str], evaluator: EvaluatorState, declaration: ModelDeclaration
) -> dict[str, str]:
    """Return the parts that differ from the declaration, each with its text in the state.

    A state without a basis was written by an older version: what its shapes show must fit the declaration.
    """
    now = basis_of(declaration)
    if basis:
        return {part: basis.get(part, "unknown") for part, text in now.items() if basis.get(part) != text}
    performance, changed = evaluator.performance, {}
    if not _measures_fit(performance, len(Measures(declaration).names)):
        changed[COSTS] = "other measures"
    lengths = {cohort.end_ms - cohort.start_ms for cohort in performance.cohorts}
    if lengths - {PerformanceTracker(declaration).cohort_ms}:
        changed[COHORTS] = f"{sorted(lengths)} ms"
    return changed


def values_changed(changed: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Tell whether a label has another value now: the threshold concerns predictions alone."""
    before = changed.get(LABELS, now[LABELS])
    return before.partition(_THRESHOLD)[0] != now[LABELS].partition(_THRESHOLD)[0]


def reset(
    changed: Iterable[str],
    declaration: ModelDeclaration,
    windows: Sequence[DriftWindowState],
    pending: Iterable[PendingPrediction],
    evaluator: EvaluatorState,
) -> None:
    """Reset the state of each changed part, in place; the rest of the state stays.

    Args:
        changed: Parts of the basis that differ.
        declaration: The one that holds now.
        windows: The open window, if there is one, and the closed ones.
        pending: The predictions that wait for labels.
        evaluator: The evaluator's state.
    """
    parts = frozenset(changed)
    _forget_alarms(declaration, evaluator, loss=bool(parts & {LABELS, JUDGED}))
    if TASK in parts:
        for entry in pending:  # their answers are those of another task, or of other classes
            entry.score, entry.predicted, entry.probabilities, entry.shadow_scores = None, None, [], {}
            entry.shadow_probabilities = {}
    for window in windows:
        if LABELS in parts:
            _forget_labels(window)
        elif COSTS in parts:
            _align_measures(window, Measures(declaration))
    evaluator.performance = _performance(parts, evaluator.performance)
    if parts & {LABELS, JUDGED}:
        _forget_losses(evaluator)


def _performance(parts: frozenset[str], state: PerformanceState) -> PerformanceState:
    """Return what still holds of the performance of the champion's predictions."""
    delays = [] if HORIZON in parts else state.delays
    groups = [] if HORIZON in parts else state.group_delays
    if parts & {LABELS, COSTS, JUDGED}:
        costs = CostTotalsState() if parts & {LABELS, COSTS} else state.costs
        return PerformanceState(_UNKNOWN_LINEAGE, state.closed_ms, delays=delays, costs=costs)
    cohorts = [] if parts & {COHORTS, HORIZON} else state.cohorts
    return msgspec.structs.replace(state, cohorts=cohorts, delays=delays, group_delays=groups)


def _forget_losses(evaluator: EvaluatorState) -> None:
    """Remove all evidence about losses."""
    evaluator.monitor = LabelCounts(evaluator.monitor.current.start_ms).state()
    evaluator.loss_watchers, evaluator.mature_losses, evaluator.early_losses = {}, [], []
    evaluator.differences = []


def _measures_fit(performance: PerformanceState, measures: int) -> bool:
    """Tell whether the sums of an older version have the declared number of measures."""
    widths = {len(each) for each in performance.running.values()}
    for cohort in performance.cohorts:
        widths |= {len(each.moments) for each in cohort.segments.values()}
    return widths <= {measures}


def _forget_labels(window: DriftWindowState) -> None:
    """Remove all sums over labels from a window; its counts of rows stay."""
    window.arms = [
        ArmSumsState(
            arm.arm,
            arm.version,
            arm.shadow,
            arm.predictions,
            arm.labels,
            failed=arm.failed,
            call_times=arm.call_times,
        )
        for arm in window.arms
    ]


def _align_measures(window: DriftWindowState, measures: Measures) -> None:
    """Reset the cost, or remove it; the other measures stay."""
    own = [name for name in measures.names if name != COST]
    for arm in window.arms:
        if arm.measures:
            arm.measures = [*arm.measures[: len(own)], *(MeasureSums() for _ in measures.names[len(own) :])]


def _forget_alarms(declaration: ModelDeclaration, evaluator: EvaluatorState, *, loss: bool) -> None:
    """Remove the alarms of which no later window would tell that they are over.

    These are alarms about quality bounds that are not declared any more; with ``loss``, also about losses.
    """
    bounded = {*declaration.monitoring.quality, *declaration.features.from_request}
    for subject in list(evaluator.watches):
        kind, _, name = subject.partition(":")
        if (kind == "quality" and name not in bounded) or (kind == "loss" and loss):
            del evaluator.watches[subject]

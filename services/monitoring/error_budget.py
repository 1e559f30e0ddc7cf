"""How much of an error budget is spent, and how fast: shares of what was bad. Pure.

An objective of 99 % over 28 days allows 1 % to be bad: that is the budget. At a burn rate of 1 it is
spent just at the end (Beyer et al., "The Site Reliability Workbook", 2018, chapter 5).
"""

import dataclasses
from collections.abc import Iterable

from services.runtime.declaration import AccuracyObjective, ModelDeclaration, Objective
from streams.records import DriftReport


@dataclasses.dataclass(frozen=True)
class EventCount:
    """What met an objective, and what did not."""

    good: int = 0
    bad: int = 0

    def __add__(self, other: "EventCount") -> "EventCount":
        """Return both together."""
        return EventCount(self.good + other.good, self.bad + other.bad)


@dataclasses.dataclass(frozen=True)
class ErrorBudget:
    """An objective with what has been counted towards it."""

    objective: float
    window_days: float
    count: EventCount

    @property
    def bad_share(self) -> float | None:
        """Which share was bad; None before anything was counted."""
        total = self.count.good + self.count.bad
        return self.count.bad / total if total else None

    @property
    def left(self) -> float | None:
        """Which share of the budget is left; below 0 when more was spent than there was."""
        return None if self.bad_share is None else 1 - self.bad_share / (1 - self.objective)


def count_window(objective: AccuracyObjective, loss_tolerance: float, report: DriftReport) -> EventCount:
    """Judge one window: itself, or its answers. A window without labels or reference counts for nothing."""
    if objective.measure == "answers":
        if report.accuracy is None:
            return EventCount()
        good = round(report.accuracy * report.labels)
        return EventCount(good, report.labels - good)
    if report.log_loss is None or report.reference_log_loss is None:
        return EventCount()
    tolerance = loss_tolerance if objective.loss_tolerance is None else objective.loss_tolerance
    good = report.log_loss <= report.reference_log_loss + tolerance
    return EventCount(int(good), int(not good))


def accuracy_budget(
    declaration: ModelDeclaration, reports: Iterable[DriftReport], end_ms: int
) -> ErrorBudget | None:
    """Count the windows that ended within the objective's days before an event time; None without one."""
    objective = declaration.slo.accuracy
    if objective is None:
        return None
    total = EventCount()
    for report in reports:
        if end_ms - objective.window_ms < report.window_end_ms <= end_ms:
            total += count_window(objective, declaration.monitoring.loss_tolerance, report)
    return ErrorBudget(objective.objective, objective.window_days, total)


def declared_objectives(declaration: ModelDeclaration) -> dict[str, Objective]:
    """Return the objectives of a model by name."""
    given = (
        ("latency", declaration.slo.latency),
        ("availability", declaration.slo.availability),
        ("accuracy", declaration.slo.accuracy),
    )
    return {name: one for name, one in given if one is not None}

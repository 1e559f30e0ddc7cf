"""Error budgets of service level objectives: the share of bad events, and what is left of the budget. Pure.

An objective of 99 % over 28 days allows 1 % of the events to be bad: that is the error budget. At a burn rate
of 1 it is spent exactly at the end of the window (Beyer et al., "The Site Reliability Workbook", 2018,
chapter 5).
"""

import dataclasses
from collections.abc import Iterable

from services.monitoring import window_loss
from services.runtime.declaration import AccuracyObjective, ModelDeclaration, Objective
from streams.records import DriftReport


@dataclasses.dataclass(frozen=True)
class EventCount:
    """Number of events that met an objective (good) and that did not (bad)."""

    good: int = 0
    bad: int = 0

    def __add__(self, other: "EventCount") -> "EventCount":
        """Return the sum of both."""
        return EventCount(self.good + other.good, self.bad + other.bad)


@dataclasses.dataclass(frozen=True)
class ErrorBudget:
    """An objective with the events counted in its window."""

    objective: float
    window_days: float
    count: EventCount

    @property
    def bad_share(self) -> float | None:
        """Share of bad events; None without events."""
        total = self.count.good + self.count.bad
        return self.count.bad / total if total else None

    @property
    def left(self) -> float | None:
        """Share of the budget that is left; below 0 when the budget is overspent; None without events."""
        return None if self.bad_share is None else 1 - self.bad_share / (1 - self.objective)


def count_window(objective: AccuracyObjective, loss_tolerance: float, report: DriftReport) -> EventCount:
    """Return the events of one window: the window itself, or its predictions, as the objective declares.

    A window without labels or reference has no events.
    """
    if objective.measure == "answers":
        if report.accuracy is None:
            return EventCount()
        good = round(report.accuracy * report.labels)
        return EventCount(good, report.labels - good)
    tolerance = loss_tolerance if objective.loss_tolerance is None else objective.loss_tolerance
    found = window_loss.compare(report, tolerance)
    return EventCount() if found is None else EventCount(int(not found.is_worse), int(found.is_worse))


def accuracy_budget(
    declaration: ModelDeclaration, reports: Iterable[DriftReport], end_ms: int
) -> ErrorBudget | None:
    """Return the budget of the accuracy objective over its days before an event time; None without one."""
    objective = declaration.slo.accuracy
    if objective is None:
        return None
    total = EventCount()
    for report in reports:
        if end_ms - objective.window_ms < report.window_end_ms <= end_ms:
            total += count_window(objective, declaration.monitoring.loss_tolerance, report)
    return ErrorBudget(objective.objective, objective.window_days, total)


def declared_objectives(declaration: ModelDeclaration) -> dict[str, Objective]:
    """Return the declared objectives of a model by name."""
    objectives = (
        ("latency", declaration.slo.latency),
        ("availability", declaration.slo.availability),
        ("accuracy", declaration.slo.accuracy),
    )
    return {name: objective for name, objective in objectives if objective is not None}

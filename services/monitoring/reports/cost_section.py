"""The part of a window's report about the declared cost of predictions. Pure."""

import dataclasses
import itertools
from collections.abc import Sequence

from services.monitoring.reports import svg_charts
from services.monitoring.reports.svg_charts import Line
from streams import codec
from streams.records import CostAccount, PerformanceReport


@dataclasses.dataclass(frozen=True)
class CostSection:
    """All that the section shows."""

    unit: str
    mean: float | None
    """Mean cost of a prediction of the window; None without labels."""
    account: CostAccount
    chart: str
    """Mean cost of a prediction by window."""
    saved_chart: str
    """Cost saved against the reference, added up; empty without a reference."""


def make(performances: Sequence[PerformanceReport]) -> CostSection | None:
    """Return the section of the last report, with the earlier ones in its charts; None without costs."""
    if not performances or performances[-1].cost is None:
        return None
    report = performances[-1]
    known = [each for each in performances if each.cost is not None and each.labels]
    days = [(codec.EPOCH + each.window_start_ms * codec.MILLISECOND).strftime("%Y-%m-%d") for each in known]
    lines = [
        Line("live", "live", [_mean(each) for each in known]),
        Line("reference", "reference", [each.cost.reference if each.cost else None for each in known]),
        Line("previous champion", "shadow", [each.cost.before if each.cost else None for each in known]),
    ]
    saved = list(itertools.accumulate(map(_saved, known)))
    is_compared = any(each.cost and each.cost.reference is not None for each in known)
    return CostSection(
        report.unit,
        _mean(report),
        performances[-1].cost,
        svg_charts.timeline(f"Cost of a prediction in {len(known)} windows, in {report.unit}", lines, days),
        svg_charts.timeline(
            f"Cost saved in {len(known)} windows, added up", [Line("saved", "live", saved)], days, limit=0.0
        )
        if is_compared
        else "",
    )


def _mean(report: PerformanceReport) -> float | None:
    return report.cost.total / report.labels if report.cost and report.labels else None


def _saved(report: PerformanceReport) -> float:
    """Return the cost to be expected by the reference minus the realised cost; 0 without a reference."""
    account = report.cost
    if account is None or account.reference is None:
        return 0.0
    return account.reference * report.labels - account.total

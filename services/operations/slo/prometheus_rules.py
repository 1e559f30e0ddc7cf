"""Prometheus rules made from the declared objectives: shares of errors, budgets, alerts on burn rates. Pure.

Each alert asks two windows: the long one says that it matters, the short one that it has not stopped
(Beyer et al., "The Site Reliability Workbook", 2018, chapter 5, table 5-8).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.monitoring import error_budget
from services.runtime import yaml_text
from services.runtime.declaration import AccuracyObjective, LatencyObjective, ModelDeclaration, Objective

Json = dict[str, Any]

HEAD = (
    "# Made by 'driftline slo rules' from the slo sections of models/; a test fails when it is out of date.\n"
    "# driftline:slo_errors:ratio_rate*: share of bad ones; driftline:slo_budget:left: 1 whole, 0 spent.\n"
)
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"))


@dataclasses.dataclass(frozen=True)
class Burn:
    """An alert: over both windows, the budget is spent ``factor`` times as fast as it should be."""

    factor: float
    long_seconds: int
    short_seconds: int
    severity: str
    """``critical`` pages somebody, ``warning`` is a ticket."""


REQUESTS = (
    Burn(14.4, 3600, 300, "critical"),
    Burn(6, 21_600, 1800, "critical"),
    Burn(3, 86_400, 7200, "warning"),
    Burn(1, 259_200, 21_600, "warning"),
)


def document(declarations: Mapping[str, ModelDeclaration]) -> Json:
    """Return the content of a rule file: one group an objective."""
    groups = [
        _group(declaration, name, objective)
        for declaration in declarations.values()
        for name, objective in error_budget.declared_objectives(declaration).items()
    ]
    return {"groups": groups}


def as_yaml(content: Json) -> str:
    """Return the text of the file, always the same for the same content."""
    return HEAD + yaml_text.as_yaml(content, 4096)


def burns(declaration: ModelDeclaration, objective: Objective) -> Sequence[Burn]:
    """Return the alerts: those of requests, or slow ones for what is judged once a window of drift."""
    if not isinstance(objective, AccuracyObjective):
        return REQUESTS
    window_seconds = max(3600, round(declaration.monitoring.window_hours * 3600))
    return (
        Burn(3, 7 * window_seconds, 2 * window_seconds, "warning"),
        Burn(1, 14 * window_seconds, 4 * window_seconds, "warning"),
    )


def _group(declaration: ModelDeclaration, name: str, objective: Objective) -> Json:
    labels = {"model": declaration.name, "slo": name}
    window_seconds = round(objective.window_days * 86_400)
    alerts = burns(declaration, objective)
    windows = {each for burn in alerts for each in (burn.long_seconds, burn.short_seconds)}
    recorded = [
        {"record": _ratio(seconds), "expr": _errors(declaration, objective, seconds), "labels": labels}
        for seconds in sorted({*windows, window_seconds})
    ]
    left = {
        "record": "driftline:slo_budget:left",
        "expr": f"1 - {_ratio(window_seconds)}{_matcher(labels)} / {_number(1 - objective.objective)}",
        "labels": labels,
    }
    return {
        "name": f"driftline-slo-{declaration.name}-{name}",
        "rules": [*recorded, left, *_alerts(declaration, name, objective, alerts)],
    }


def _alerts(
    declaration: ModelDeclaration, name: str, objective: Objective, alerts: Sequence[Burn]
) -> Iterator[Json]:
    about = {"model": declaration.name, "slo": name}
    allowed = _number(1 - objective.objective)
    for burn in alerts:
        limit = f"({_number(burn.factor)} * {allowed})"
        long, short = (_ratio(seconds) for seconds in (burn.long_seconds, burn.short_seconds))
        over = _duration(burn.long_seconds)
        yield {
            "alert": "DriftlineSloBurn",
            "expr": f"{long}{_matcher(about)} > {limit} and {short}{_matcher(about)} > {limit}",
            "labels": about | {"severity": burn.severity, "burn": f"{burn.factor:g}x {over}"},
            "annotations": {
                "summary": f"The {name} of {declaration.name} spends its error budget {burn.factor:g} times "
                "too fast",
                "description": f"{{{{ $value | humanizePercentage }}}} were bad in the last {over}, and the "
                f"newest as well; the objective allows {1 - objective.objective:.3%} in "
                f"{objective.window_days:g} days. {_to_do(name)}",
            },
        }


def _errors(declaration: ModelDeclaration, objective: Objective, seconds: int) -> str:
    """Return the PromQL expression of the share of bad predictions over the last ``seconds``."""
    over = f"[{_duration(seconds)}]"
    model = f'model="{declaration.name}"'
    if isinstance(objective, LatencyObjective):
        of = f'{model},channel="{objective.channel}"'
        name = "driftline_prediction_duration_seconds"
        good = f'sum(rate({name}_bucket{{{of},le="{float(objective.within_ms) / 1000}"}}{over}))'
        return f"1 - {good} / sum(rate({name}_count{{{of}}}{over}))"
    if isinstance(objective, AccuracyObjective):
        of = f'{model},measure="{objective.measure}"'
        name = "driftline_judged_total"
        bad = f'sum(increase({name}{{{of},result="bad"}}{over}))'
        return f"{bad} / sum(increase({name}{{{of}}}{over}))"
    bad = f"sum(rate(driftline_requests_unanswered_total{{{model}}}{over}))"
    return f"{bad} / (sum(rate(driftline_predictions_total{{{model}}}{over})) + {bad})"


def _to_do(name: str) -> str:
    return {
        "latency": "Compare the stages of scoring: features, predict, write.",
        "availability": "The log of scoring names each failure; overload needs replicas or larger limits.",
        "accuracy": "'driftline drift report' says what changed and what to do.",
    }[name]


def _ratio(seconds: int) -> str:
    return f"driftline:slo_errors:ratio_rate{_duration(seconds)}"


def _matcher(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def _duration(seconds: int) -> str:
    for unit_seconds, unit in _UNITS:
        if seconds % unit_seconds == 0:
            return f"{seconds // unit_seconds}{unit}"
    return f"{seconds}s"


def _number(value: float) -> str:
    return f"{value:.10g}"

"""``driftline slo rules`` and ``driftline slo status``."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import httpx
import msgspec
from cyclopts import Parameter

from services.monitoring import error_budget
from services.monitoring.error_budget import ErrorBudget
from services.monitoring.reports import topic_reader
from services.operations.slo import prometheus_rules, scraped_metrics
from services.runtime.command_output import fail, failing_on, say
from services.runtime.declaration import DeclarationError, ModelDeclaration
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.times import now_ms

METRICS_SECONDS_MAX = 5.0


def rules(*, output: Path | None = None) -> None:
    """Write the Prometheus rules of all declared objectives: error shares, budgets, burn rate alerts.

    Args:
        output: The file; default: standard output.
    """
    text = prometheus_rules.as_yaml(prometheus_rules.document(_declarations()))
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


def status(*, model: str | None = None, json: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Show how much of each error budget is left.

    Accuracy is counted from the drift topic, in event time; latency and availability from the metrics of
    scoring, since that process has started: over the whole window they are in Prometheus, as
    driftline:slo_budget:left.

    Args:
        model: Only the budgets of this model.
        json: Answer with one JSON document.
    """
    found = {name: dict(_budgets(one)) for name, one in _declarations().items() if model in (None, name)}
    if json:
        plain = {
            name: {slo: None if budget is None else _plain(budget) for slo, budget in budgets.items()}
            for name, budgets in found.items()
        }
        say(msgspec.json.encode(plain).decode())
        return
    for name, budgets in found.items():
        for slo, budget in budgets.items():
            say(f"{name}  {slo:<12}  {_said(budget)}")
        if not budgets:
            say(f"{name}  no objectives are declared")


def _declarations() -> Mapping[str, ModelDeclaration]:
    try:
        return load_all(Settings().models)
    except DeclarationError as error:
        fail(str(error))


def _budgets(declaration: ModelDeclaration) -> Iterator[tuple[str, ErrorBudget | None]]:
    for name, objective in error_budget.declared_objectives(declaration).items():
        if name == "accuracy":
            yield name, _accuracy(declaration)
        else:
            yield name, _served(declaration, name, objective.objective, objective.window_days)


def _accuracy(declaration: ModelDeclaration) -> ErrorBudget | None:
    with failing_on("driftline slo", topic_reader.ReportsError):
        windows = topic_reader.read(Settings(), declaration.name).windows()
    end_ms = windows[-1].window_end_ms if windows else now_ms()
    return error_budget.accuracy_budget(declaration, windows, end_ms)


def _served(
    declaration: ModelDeclaration, name: str, objective: float, window_days: float
) -> ErrorBudget | None:
    """Ask the scoring process; None where it does not answer."""
    settings = Settings()
    base = settings.scoring_url or f"http://{settings.host}:{settings.scoring_port}"
    try:
        answer = httpx.get(f"{base.rstrip('/')}/metrics", timeout=METRICS_SECONDS_MAX, trust_env=False)
        answer.raise_for_status()
    except httpx.HTTPError:
        return None
    return ErrorBudget(objective, window_days, scraped_metrics.count(answer.text, declaration, name))


def _plain(budget: ErrorBudget) -> dict[str, float | int | None]:
    return {
        "objective": budget.objective,
        "window_days": budget.window_days,
        "good": budget.count.good,
        "bad": budget.count.bad,
        "left": budget.left,
    }


def _said(budget: ErrorBudget | None) -> str:
    if budget is None:
        return "scoring does not answer"
    wanted = f"wanted {budget.objective:.4%} in {budget.window_days:g} days".replace("00%", "%")
    if budget.left is None or budget.bad_share is None:
        return f"{wanted}; nothing was counted yet"
    total = budget.count.good + budget.count.bad
    return f"{wanted}; {budget.count.bad} of {total} were bad; {budget.left:.1%} of the budget left"

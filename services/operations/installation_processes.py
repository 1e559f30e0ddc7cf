"""The processes of an installation: which ones the declared models need, and how each is started."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from services.operations.local_servers.supervisor import Launch, answers_ok
from services.runtime.declaration import ModelDeclaration, learning_models
from services.runtime.settings import Settings

ProcessName = Literal[
    "features", "scoring", "drift", "learning", "archive", "retraining", "rollout", "alerting", "dashboard"
]
PROCESSES: tuple[ProcessName, ...] = get_args(ProcessName)
"""In the order in which they start; they end in the reverse order."""


def needed(
    declarations: Mapping[str, ModelDeclaration], *, has_destinations: bool
) -> tuple[ProcessName, ...]:
    """Return the processes that the models need, in the order of `PROCESSES`.

    Args:
        declarations: All models.
        has_destinations: Whether alerts have anywhere to go.
    """
    models = declarations.values()
    optional: dict[ProcessName, bool] = {
        "features": any(model.features.service for model in models),
        "learning": bool(learning_models(declarations)),
        "retraining": any(model.is_retrained for model in models),
        "rollout": any(model.is_retrained or model.rollout.steps for model in models),
        "alerting": has_destinations and any(model.alerts.routes for model in models),
    }
    return tuple(name for name in PROCESSES if optional.get(name, True))


def launch(name: str, settings: Settings, logs: Path, environment: Mapping[str, str] | None = None) -> Launch:
    """Return how to start ``driftline NAME``, with its log in a folder and its readiness over HTTP."""
    command = [sys.executable, "-m", "services.operations.cli", name]
    ready = answers_ok(settings.host, getattr(settings, f"{name}_port"), "/health/ready")
    return Launch(name, command, logs / f"{name}.log", environment or {}, ready)

"""A model with service level objectives."""

from typing import Any

from services.runtime.declaration import ModelDeclaration
from tests.unit.drift import scenario

SLO: dict[str, Any] = {
    "latency": {"objective": 0.99, "within_ms": 250},
    "availability": {"objective": 0.999},
    "accuracy": {"objective": 0.9, "window_days": 10},
}


def declaration(**slo: Any) -> ModelDeclaration:
    """Return the declaration of a model with these objectives."""
    return ModelDeclaration.model_validate(scenario.document() | {"slo": SLO | slo})

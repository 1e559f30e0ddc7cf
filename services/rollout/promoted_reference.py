"""The reference of a version that becomes the champion, as the change of the arms has it."""

from collections.abc import Callable

import structlog

from services.model_registry import large_references, sealed_reference
from services.model_registry.mlflow_client import RegistryError
from services.runtime.settings import Settings
from streams.records import ModelChanged, Reference

WithReference = Callable[[ModelChanged, int], ModelChanged]
"""Returns a change with the reference of a version."""

_log = structlog.get_logger()


def with_reference(settings: Settings, change: ModelChanged, version: int) -> ModelChanged:
    """Return a change with the reference of a version, if it was registered with one.

    A reference that is too large for the change is written here. Raises an outage while the registry or Kafka
    is away.
    """
    found = _of_version(settings, change.model, version)
    return change if found is None else large_references.in_change(settings, change, found)


def _of_version(settings: Settings, model: str, version: int) -> Reference | None:
    try:
        return sealed_reference.of_version(settings, model, version)
    except RegistryError as error:
        _log.warning("rollout.reference_unreadable", model=model, version=version, error=str(error))
        return None

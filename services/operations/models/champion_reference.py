"""The reference of a version that an operator makes the champion."""

from services.model_registry import large_references, sealed_reference
from services.model_registry.mlflow_client import RegistryError
from services.runtime import declaration_file
from services.runtime.command_output import say
from services.runtime.declaration import FILE
from services.runtime.settings import Settings
from streams.records import ModelChanged, Reference


def of_version(settings: Settings, model: str, version: int) -> Reference | None:
    """Return the reference in a registered version's files; None without one, or if it must not be used."""
    path = settings.models / model / FILE
    if path.is_file() and declaration_file.load(path).learning is not None:
        return None  # its reference is that of its first labels
    try:
        return sealed_reference.of_version(settings, model, version)
    except RegistryError as error:
        say(f"the reference cannot be read: {error}")
        return None


def with_reference(settings: Settings, change: ModelChanged, reference: Reference | None) -> ModelChanged:
    """Return a change with another reference, if there is one; one too large for it is written here."""
    return change if reference is None else large_references.in_change(settings, change, reference)


def is_known(change: ModelChanged, version: int) -> bool:
    """Tell whether a change holds the reference of a version, or of a version that learned online."""
    known = change.reference or change.reference_name
    return change.learned is not None or (known is not None and known.version == version)

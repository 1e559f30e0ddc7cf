"""The reference among a version's files, which its signature covers."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from services.model_registry import loading
from services.model_registry.contract import Model
from services.model_registry.model_inputs import Inputs
from services.runtime.settings import Settings
from streams import records
from streams.records import Reference

FILE = "reference.json"

MakeReference = Callable[[Model, Inputs], Reference]
"""Returns the reference of a model that is loaded as in scoring, and of the inputs that it needs."""

_decode = records.decoder_of(Reference).decode


def write(folder: Path, reference: Reference) -> None:
    """Write a reference into the folder of a version."""
    (folder / FILE).write_bytes(records.encode(reference))


def remove(folder: Path) -> None:
    """Remove the reference of the version from which a folder was copied."""
    (folder / FILE).unlink(missing_ok=True)


def read(folder: Path, version: int) -> Reference | None:
    """Return the reference in the folder of a version; None if it was registered without one."""
    path = folder / FILE
    if not path.is_file():
        return None
    reference: Reference = _decode(path.read_bytes())
    return msgspec.structs.replace(reference, version=version)


def of_version(settings: Settings, model: str, version: int) -> Reference | None:
    """Return the reference of a registered version; None without one.

    Its files are downloaded unless they are on this machine, and verified. Raises `RegistryError` for a
    version that must not be used, and `OutageError` while the registry is away.
    """
    found = loading.find(settings, model, version)
    with loading.opened_files(settings, model, found) as folder:
        return read(folder, version)

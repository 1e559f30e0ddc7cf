"""The compiled plan, kept as a file beside the Feast registry from which it was compiled."""

import dataclasses
import hashlib
import os
from pathlib import Path

import msgspec

from services.feature_store import registry_place
from services.feature_store.plan import FeaturePlan
from services.runtime.settings import Settings

VERSION = 6
"""The version of the JSON; a plan of another version is compiled again."""


@dataclasses.dataclass(frozen=True)
class _Cached:
    version: int
    registry_sha256: str
    plan: FeaturePlan


def registry_path(settings: Settings) -> Path:
    """Return where feature_store.yaml keeps the registry."""
    return registry_place.path(settings)


def store(settings: Settings, plan: FeaturePlan) -> None:
    """Store a plan that was compiled from the present registry."""
    registry = registry_path(settings)
    path = _path(registry)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(msgspec.json.encode(_Cached(VERSION, _digest(registry), plan)))
    temporary.replace(path)


def read(registry: Path) -> FeaturePlan | None:
    """Return the stored plan; None if there is none that fits this registry and this version."""
    try:
        cached = msgspec.json.decode(_path(registry).read_bytes(), type=_Cached)
    except (FileNotFoundError, msgspec.DecodeError):  # missing, or of another version
        return None
    is_current = cached.version == VERSION and cached.registry_sha256 == _digest(registry)
    return cached.plan if is_current else None


def _path(registry: Path) -> Path:
    return registry.with_name("feature_plan.json")


def _digest(registry: Path) -> str:
    return hashlib.sha256(registry.read_bytes()).hexdigest()

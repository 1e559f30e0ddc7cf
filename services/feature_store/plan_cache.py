"""The compiled plan, kept beside the Feast registry that it was compiled from."""

import dataclasses
import hashlib
import os
from pathlib import Path

import msgspec

from services.feature_store.plan import FeaturePlan
from services.runtime.settings import Settings

VERSION = 5
"""Of the JSON's form; another one is compiled anew."""


@dataclasses.dataclass(frozen=True)
class _Cached:
    version: int
    registry_sha256: str
    plan: FeaturePlan


def registry_path(settings: Settings) -> Path:
    """Where feature_store.yaml keeps the registry."""
    return settings.home.resolve() / "registry.db"


def store(settings: Settings, plan: FeaturePlan) -> None:
    """Keep a plan that was compiled from the registry as it is now."""
    registry = registry_path(settings)
    path = _path(registry)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(msgspec.json.encode(_Cached(VERSION, _digest(registry), plan)))
    temporary.replace(path)


def read(registry: Path) -> FeaturePlan | None:
    try:
        cached = msgspec.json.decode(_path(registry).read_bytes(), type=_Cached)
    except (FileNotFoundError, msgspec.DecodeError):  # of another version: compile it anew
        return None
    fresh = cached.version == VERSION and cached.registry_sha256 == _digest(registry)
    return cached.plan if fresh else None


def _path(registry: Path) -> Path:
    return registry.with_name("feature_plan.json")


def _digest(registry: Path) -> str:
    return hashlib.sha256(registry.read_bytes()).hexdigest()

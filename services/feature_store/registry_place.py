"""Where feature_store.yaml keeps the Feast registry. Read without importing Feast."""

import contextlib
import functools
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from services.feature_store.definition_faults import STORE_FILE
from services.feature_store.plan import PlanError
from services.runtime.settings import Settings

_DEFAULT = "data/registry.db"
"""Feast's own default."""
_INSTEAD: ContextVar[Path | None] = ContextVar("registry_instead", default=None)


@contextlib.contextmanager
def instead(path: Path) -> Iterator[None]:
    """Use another registry within the block, to change nothing that is applied."""
    token = _INSTEAD.set(path)
    try:
        yield
    finally:
        _INSTEAD.reset(token)


def path(settings: Settings) -> Path:
    """Return the file of the registry; raise `PlanError` for a registry that is no local file.

    A relative path is below the repository, as in Feast.
    """
    other = _INSTEAD.get()
    if other is not None:
        return other
    file, home = settings.feature_repo / STORE_FILE, settings.home.resolve()
    try:
        stamp = file.stat().st_mtime_ns
    except FileNotFoundError:
        return home / "registry.db"
    return _declared(file.resolve(), home, stamp)


@functools.lru_cache(maxsize=8)
def _declared(file: Path, home: Path, _stamp: int) -> Path:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    text = file.read_text(encoding="utf-8")
    for name in ("${DRIFTLINE_HOME}", "$DRIFTLINE_HOME"):
        text = text.replace(name, str(home))
    try:
        found: Any = YAML(typ="safe").load(os.path.expandvars(text))
    except YAMLError as error:
        raise PlanError(f"{file}: {error}") from error
    registry = found.get("registry", _DEFAULT) if isinstance(found, dict) else _DEFAULT
    if isinstance(registry, str):
        registry = {"path": registry}
    kind, place = registry.get("registry_type", "file"), str(registry.get("path", _DEFAULT))
    if kind != "file" or "://" in place.removeprefix("file://"):
        raise PlanError(
            f"{file}: registry: {kind} {place!r} is no file on this machine: declare a path, as in "
            "registry: data/registry.db, and run 'driftline setup --registry-only' on each machine"
        )
    return file.parent / place.removeprefix("file://")

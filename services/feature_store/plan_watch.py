"""Notices that the Feast repository was applied again."""

from pathlib import Path

from services.feature_store import plan_cache
from services.runtime.settings import Settings


class PlanWatch:
    """Looks at the file of the Feast registry, which each application rewrites."""

    def __init__(self, settings: Settings) -> None:
        """Take the registry as it is now."""
        self._registry = plan_cache.registry_path(settings)
        self._stamp = _stamp(self._registry)

    def refresh(self) -> bool:
        """Return whether the registry was written, created or removed since the last call."""
        before, self._stamp = self._stamp, _stamp(self._registry)
        return self._stamp != before


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

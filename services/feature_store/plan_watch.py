"""Notices that the Feast repository was applied again."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from services.feature_store import plan_cache, repository
from services.feature_store.plan import FeaturePlan
from services.runtime.settings import Settings


class PlanWatch:
    """Looks at the file of the Feast registry, which each application rewrites."""

    def __init__(self, settings: Settings) -> None:
        """Begin with the present registry."""
        self._registry = plan_cache.registry_path(settings)
        self._stamp = _stamp(self._registry)

    def refresh(self) -> bool:
        """Return whether the registry was written, created or removed since the last call."""
        before, self._stamp = self._stamp, _stamp(self._registry)
        return self._stamp != before


def load_apart(settings: Settings) -> FeaturePlan:
    """Return the plan of the applied repository, as `repository.load`; blocking.

    If it must be compiled, a new process does so: importing Feast would delay this one's requests for
    seconds.
    """
    registry = plan_cache.registry_path(settings)
    cached = plan_cache.read(registry) if registry.is_file() else None
    if cached is not None:
        return cached
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(repository.load, settings).result()


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

"""Loaded versions of all models, within a bound on their memory."""

from collections import OrderedDict

from services.model_registry.contract import LoadedVersion
from services.runtime import metrics


class ModelCache:
    """Loaded versions of all models; the least recently used ones are evicted."""

    def __init__(self, bytes_max: int) -> None:
        """Take the maximum size; a single version is kept even if it is larger."""
        self._bytes_max = bytes_max
        self._size_bytes = 0
        self._loaded: OrderedDict[tuple[str, int], LoadedVersion] = OrderedDict()

    def __contains__(self, key: tuple[str, int]) -> bool:
        """Return whether a version of a model is loaded."""
        return key in self._loaded

    @property
    def has_room(self) -> bool:
        """Whether a version can be loaded without an eviction."""
        return self._size_bytes < self._bytes_max

    def get(self, name: str, version: int) -> LoadedVersion | None:
        """Return a version if it is loaded."""
        loaded = self._loaded.get((name, version))
        if loaded is not None:
            self._loaded.move_to_end((name, version))
        return loaded

    def put(self, name: str, version: int, loaded: LoadedVersion) -> None:
        """Add a version; evict others if the cache becomes too large."""
        self.drop(name, version)
        self._loaded[name, version] = loaded
        self._size_bytes += loaded.size_bytes
        while self._size_bytes > self._bytes_max and len(self._loaded) > 1:
            self.drop(*next(iter(self._loaded)))
            metrics.MODELS_EVICTED.inc()
        self._update_metrics()

    def drop(self, name: str, version: int) -> None:
        """Remove a version; calls that use it now finish."""
        loaded = self._loaded.pop((name, version), None)
        if loaded is not None:
            self._size_bytes -= loaded.size_bytes
            self._update_metrics()

    def _update_metrics(self) -> None:
        metrics.MODELS_LOADED.set(len(self._loaded))
        metrics.MODELS_LOADED_BYTES.set(self._size_bytes)

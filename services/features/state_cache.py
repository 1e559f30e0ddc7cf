"""Entity states in memory, with one size limit for the whole process."""

import dataclasses
import math
from collections import OrderedDict

from services.features.view_state import EntityState

CACHE_BYTES_MAX = 64 << 20
"""Maximum size of all cached states, measured as sidecars; in memory they take about four times that."""
EVICTED_SHARE = 8
"""One eviction drops one in this number of the entities of the largest cache."""


@dataclasses.dataclass(slots=True)
class CachedState:
    """The state of one entity."""

    state: EntityState
    version: bytes
    """Version of the stored sidecar."""
    size_bytes: int = 0
    """Size of that sidecar."""
    written_seconds: float = -math.inf
    """Monotonic time at which this process has written the row last."""


class StateCache:
    """Entities of one view and partition, the most recently used last."""

    def __init__(self) -> None:
        """Begin empty."""
        self.entries: OrderedDict[bytes, CachedState] = OrderedDict()
        self.size_bytes = 0

    def evict(self, entities: int) -> None:
        """Drop the least recently used entities."""
        for _ in range(min(entities, len(self.entries))):
            self.size_bytes -= self.entries.popitem(last=False)[1].size_bytes

    def resize(self, key: bytes, size_bytes: int) -> None:
        """Record the new size of an entity; do nothing if it has been evicted."""
        cached = self.entries.get(key)
        if cached is not None:
            self.size_bytes += size_bytes - cached.size_bytes
            cached.size_bytes = size_bytes


class StateCachePool:
    """The caches of a process. An entity that is not cached costs one read of its sidecar, nothing else."""

    def __init__(self, bytes_max: int = CACHE_BYTES_MAX) -> None:
        """Begin without caches."""
        self.bytes_max = bytes_max
        self._caches: dict[tuple[str, int], StateCache] = {}

    def cache(self, view: str, partition: int) -> StateCache:
        """Return the cache of a view and partition; create it if there is none."""
        cache = self._caches.get((view, partition))
        if cache is None:
            cache = self._caches[view, partition] = StateCache()
        return cache

    def drop(self, view: str, partition: int) -> None:
        """Drop the cache of a view and partition."""
        self._caches.pop((view, partition), None)

    def clear(self) -> None:
        """Drop all caches."""
        self._caches.clear()

    def trim(self) -> None:
        """Evict from the largest cache until the size limit is kept."""
        while sum(cache.size_bytes for cache in self._caches.values()) > self.bytes_max:
            largest = max(self._caches.values(), key=lambda cache: cache.size_bytes)
            largest.evict(max(1, len(largest.entries) // EVICTED_SHARE))

"""States of entities in memory, within a bound for the whole process."""

import dataclasses
from collections import OrderedDict

from services.features.view_state import EntityState

HELD_BYTES_MAX = 64 << 20
"""Of all states held, as they are written; in memory they take some four times that."""
EVICTED_SHARE = 8
"""One in so many entities of the largest cache goes at once."""


@dataclasses.dataclass(slots=True)
class Held:
    """One entity."""

    state: EntityState
    version: bytes
    """Of the sidecar that is stored."""
    size_bytes: int = 0
    """Of that sidecar."""


class Cache:
    """Entities of one view and partition, those that were used last at the end."""

    def __init__(self) -> None:
        """Begin with none."""
        self.entries: OrderedDict[bytes, Held] = OrderedDict()
        self.size_bytes = 0

    def evict(self, entities: int) -> None:
        """Drop the entities that have not been used for longest."""
        for _ in range(min(entities, len(self.entries))):
            self.size_bytes -= self.entries.popitem(last=False)[1].size_bytes

    def note(self, key: bytes, size_bytes: int) -> None:
        """Note how large an entity has become; it may have been evicted meanwhile."""
        held = self.entries.get(key)
        if held is not None:
            self.size_bytes += size_bytes - held.size_bytes
            held.size_bytes = size_bytes


class Budget:
    """The caches of a process. What is not held costs a read of its sidecar, nothing else."""

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        """Begin without caches."""
        self.bytes_max = bytes_max
        self._caches: dict[tuple[str, int], Cache] = {}

    def cache(self, view: str, partition: int) -> Cache:
        """Return the cache of a view and partition, made if need be."""
        cache = self._caches.get((view, partition))
        if cache is None:
            cache = self._caches[view, partition] = Cache()
        return cache

    def forget(self, view: str, partition: int) -> None:
        """Drop a cache."""
        self._caches.pop((view, partition), None)

    def trim(self) -> None:
        """Keep the bound: the largest cache gives way."""
        while sum(cache.size_bytes for cache in self._caches.values()) > self.bytes_max:
            largest = max(self._caches.values(), key=lambda cache: cache.size_bytes)
            largest.evict(max(1, len(largest.entries) // EVICTED_SHARE))

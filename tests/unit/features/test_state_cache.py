"""The size limit of cached states."""

from services.features.state_cache import CachedState, StateCache, StateCachePool
from services.features.view_state import EntityState
from streams.observations import Observations


def put(cache: StateCache, key: bytes, size_bytes: int) -> None:
    cache.entries[key] = CachedState(EntityState({}, Observations()), b"")
    cache.resize(key, size_bytes)


def test_least_recently_used_entities_of_the_largest_cache_are_evicted() -> None:
    pool = StateCachePool(bytes_max=100)
    small, large = pool.cache("a", 0), pool.cache("b", 0)
    put(small, b"s", 10)
    for number in range(12):
        put(large, b"%d" % number, 10)
    pool.trim()
    assert list(small.entries) == [b"s"]
    assert list(large.entries) == [b"%d" % number for number in range(3, 12)]
    assert small.size_bytes + large.size_bytes == 100


def test_size_of_an_entity_is_replaced_and_that_of_an_evicted_one_ignored() -> None:
    pool = StateCachePool(bytes_max=100)
    cache = pool.cache("a", 0)
    put(cache, b"k", 10)
    cache.resize(b"k", 30)
    cache.resize(b"evicted", 30)
    assert cache.size_bytes == 30
    cache.evict(5)
    assert (cache.size_bytes, len(cache.entries)) == (0, 0)


def test_cache_of_a_revoked_partition_is_dropped() -> None:
    pool = StateCachePool(bytes_max=100)
    put(pool.cache("a", 0), b"k", 100)
    put(pool.cache("a", 1), b"l", 100)
    pool.drop("a", 0)
    pool.trim()
    assert list(pool.cache("a", 1).entries) == [b"l"]
    assert not pool.cache("a", 0).entries

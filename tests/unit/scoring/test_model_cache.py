"""Loaded versions stay within a bound; the least recently used ones are evicted."""

from services.model_registry.contract import LoadedVersion
from services.scoring.model_cache import ModelCache
from tests.unit.scoring.fakes import HalfOfX, sample


class SizedModel(HalfOfX):
    def __init__(self, size_bytes):
        super().__init__()
        self.size_bytes = size_bytes


def test_the_least_recently_used_version_is_evicted():
    cache = ModelCache(bytes_max=300)
    for name in ("a", "b", "c"):
        cache.put(name, 1, LoadedVersion(SizedModel(100)))
    cache.get("a", 1)
    cache.put("d", 1, LoadedVersion(SizedModel(100)))
    assert [name for name in "abcd" if (name, 1) in cache] == ["a", "c", "d"]


def test_a_single_version_is_kept_however_large():
    cache = ModelCache(bytes_max=300)
    cache.put("a", 1, LoadedVersion(SizedModel(100)))
    cache.put("b", 1, LoadedVersion(SizedModel(1000)))
    assert ("b", 1) in cache
    assert ("a", 1) not in cache


def test_there_is_room_until_the_bound_is_reached():
    cache = ModelCache(bytes_max=300)
    found = []
    for change in (
        lambda: cache.put("a", 1, LoadedVersion(SizedModel(200))),
        lambda: cache.put("a", 2, LoadedVersion(SizedModel(100))),
        lambda: cache.drop("a", 1),
        lambda: cache.drop("a", 1),
    ):
        change()
        found.append(cache.has_room)
    assert found == [True, False, True, True]
    assert cache.get("a", 1) is None


def test_a_replaced_version_counts_once_and_evictions_are_counted():
    evicted = sample("driftline_models_evicted_total")
    cache = ModelCache(bytes_max=300)
    for size_bytes in (100, 250, 300):
        cache.put("a", 1, LoadedVersion(SizedModel(size_bytes)))
    assert (sample("driftline_models_loaded"), sample("driftline_models_loaded_bytes")) == (1, 300)
    cache.put("b", 1, LoadedVersion(SizedModel(1)))
    assert sample("driftline_models_evicted_total") == evicted + 1
    assert sample("driftline_models_loaded_bytes") == 1

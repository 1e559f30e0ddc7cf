"""Versions are swapped as a whole or not at all, and held within a bound."""

import asyncio
import threading

import pytest

from services.scoring import model_cache as subject
from services.scoring.model_cache import ModelCache
from streams.records import Arm, ModelChanged
from tests.unit.scoring.fakes import HalfOfX, model_set


def change(*arms):
    return ModelChanged(model="m", arms=list(arms), changed_at_ms=0, reason="test")


def champion(version):
    return Arm(name="champion", version=version, weight=10_000)


FROZEN = Arm(name="frozen", version=1, weight=0, shadow=True)


def play(models, *changes, lazily=False):
    """Let changes take effect, one after the other."""

    async def work():
        async with models.running():
            seen = []
            for each in changes:
                models.change(each, lazily=lazily)
                await models.settled()
                seen.append(models.routes.versions)
            return seen

    return asyncio.run(work())


def test_change_loads_only_what_is_new():
    loaded: list[int] = []

    def load(_name, version):
        loaded.append(version)
        return HalfOfX(offset=version)

    seen = play(model_set(load), change(champion(1)), change(champion(2), FROZEN))
    assert loaded == [1, 2]
    assert seen == [{1}, {1, 2}]


def test_version_that_does_not_load_leaves_the_old_one_serving():
    def load(_name, version):
        if version == 2:
            raise OSError("the artifact is gone")
        return HalfOfX()

    models = model_set(load)
    assert play(models, change(champion(1)), change(champion(2))) == [{1}, {1}]
    assert "the artifact is gone" in models.fault


def test_arms_that_cannot_be_laid_out_leave_the_old_ones_serving():
    models = model_set(lambda _name, _version: HalfOfX())
    wrong = change(champion(1), Arm(name="new", version=2, weight=5000))
    assert play(models, change(champion(1)), wrong) == [{1}, {1}]
    assert "more than 10000 in all" in models.fault


def test_version_that_failed_is_tried_again(monkeypatch):
    monkeypatch.setattr(subject, "RETRY_SECONDS", 0.01)
    attempts = []

    def load(_name, version):
        attempts.append(version)
        if len(attempts) < 3:
            raise OSError("the registry is down")
        return HalfOfX()

    models = model_set(load)

    async def work():
        async with models.running():
            models.change(change(champion(1)))
            for _ in range(1000):
                if len(attempts) == 3 and models.fault is None:
                    return
                await asyncio.sleep(0.01)

        raise AssertionError(f"{len(attempts)} attempts, {models.fault}")

    asyncio.run(work())


def test_requests_wait_for_the_first_version_instead_of_being_passed_over():
    loading, released = threading.Event(), threading.Event()

    def load(_name, _version):
        loading.set()
        released.wait(10)
        return HalfOfX()

    models = model_set(load)

    async def work():
        async with models.running():
            models.change(change(champion(1)))
            await asyncio.to_thread(loading.wait, 10)
            answering = models.routes.versions
            released.set()
            await models.settled()
            return answering

    assert asyncio.run(work()) == {1}


def test_behind_a_full_cache_a_version_is_loaded_when_the_first_request_comes():
    loaded = []

    def load(_name, version):
        loaded.append(version)
        return HalfOfX()

    cache = ModelCache(bytes_max=1000)
    cache.put("other", 1, Sized(1000))
    models = model_set(load, cache)

    async def work():
        async with models.running():
            models.change(change(champion(1)), lazily=True)
            await models.settled()
            assert (loaded, models.routes.versions) == ([], {1})
            await both(models)

    asyncio.run(work())
    assert loaded == [1]


async def both(models):
    first, second = await asyncio.gather(models.version(1), models.version(1))
    assert first is second


class Sized(HalfOfX):
    def __init__(self, size_bytes):
        super().__init__()
        self.size_bytes = size_bytes


def test_what_was_not_used_for_longest_makes_room():
    cache = ModelCache(bytes_max=300)
    for name in ("a", "b", "c"):
        cache.put(name, 1, Sized(100))
    cache.get("a", 1)
    cache.put("d", 1, Sized(100))
    assert [name for name in "abcd" if (name, 1) in cache] == ["a", "c", "d"]


def test_one_version_is_let_in_however_large():
    cache = ModelCache(bytes_max=300)
    cache.put("a", 1, Sized(100))
    cache.put("b", 1, Sized(1000))
    assert ("b", 1) in cache
    assert ("a", 1) not in cache


def test_evicted_version_is_loaded_again():
    cache = ModelCache(bytes_max=1000)
    loaded = []

    def load(_name, version):
        loaded.append(version)
        return Sized(800)

    models = model_set(load, cache)

    async def work():
        for version in (1, 2, 1):
            await models.version(version)

    asyncio.run(work())
    assert loaded == [1, 2, 1]


def test_load_that_fails_is_told_to_whoever_asked():
    def load(_name, _version):
        raise OSError("gone")

    models = model_set(load)
    with pytest.raises(OSError, match="gone"):
        asyncio.run(models.version(1))

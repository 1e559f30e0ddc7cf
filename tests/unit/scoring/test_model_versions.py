"""A change of versions takes effect unless the champion does not load; what fails is tried again."""

import asyncio
import threading

import msgspec
import pytest

from services.model_registry.contract import LoadedVersion
from services.scoring import load_failures
from services.scoring.model_cache import ModelCache
from streams.records import Arm, ModelChanged
from tests.unit.scoring.fakes import SECONDS_MAX, HalfOfX, model_versions, sample


def change(*arms):
    return ModelChanged(model="m", arms=list(arms), changed_at_ms=0, reason="test")


def champion(version):
    return Arm(name="champion", version=version, weight=10_000)


FROZEN = Arm(name="frozen", version=1, weight=0, shadow=True)


class SizedModel(HalfOfX):
    def __init__(self, size_bytes):
        super().__init__()
        self.size_bytes = size_bytes


def apply(versions, *changes, lazily=False):
    """Apply changes one after the other; return the versions in effect after each."""

    async def run():
        async with versions.running():
            seen = []
            for each in changes:
                versions.change(each, lazily=lazily)
                await versions.settled()
                seen.append(versions.router.versions)
            return seen

    return asyncio.run(run())


def test_a_change_loads_only_new_versions():
    loaded: list[int] = []

    def load(_name, version):
        loaded.append(version)
        return HalfOfX(offset=version)

    seen = apply(model_versions(load), change(champion(1)), change(champion(2), FROZEN))
    assert loaded == [1, 2]
    assert seen == [{1}, {1, 2}]


def test_a_version_that_does_not_load_leaves_the_previous_one_in_effect():
    def load(_name, version):
        if version == 2:
            raise OSError("the artifact is gone")
        return HalfOfX()

    versions = model_versions(load)
    failures = sample("driftline_model_load_failures_total", model="m")
    assert apply(versions, change(champion(1)), change(champion(2))) == [{1}, {1}]
    assert "the artifact is gone" in versions.fault
    assert sample("driftline_model_load_failures_total", model="m") == failures + 1


def test_arms_that_cannot_be_laid_out_leave_the_previous_ones_in_effect():
    versions = model_versions(lambda _name, _version: HalfOfX())
    wrong = change(champion(1), Arm(name="new", version=2, weight=5000))
    assert apply(versions, change(champion(1)), wrong) == [{1}, {1}]
    assert "10000" in versions.fault


def test_a_version_that_failed_to_load_is_retried(monkeypatch):
    monkeypatch.setattr(load_failures, "FIRST_RETRY_SECONDS", 0.0)
    attempts = []

    def load(_name, version):
        attempts.append(version)
        if len(attempts) < 3:
            raise OSError("the registry is down")
        return HalfOfX()

    versions = model_versions(load)

    async def run():
        async with versions.running(), asyncio.timeout(SECONDS_MAX):
            versions.change(change(champion(1)))
            while len(attempts) < 3 or versions.fault is not None:  # noqa: ASYNC110  # a fault has no event
                await asyncio.sleep(0)
            return attempts, versions.are_loaded

    assert asyncio.run(run()) == ([1, 1, 1], True)


def test_requests_wait_for_the_first_version():
    loading, released = threading.Event(), threading.Event()

    def load(_name, _version):
        loading.set()
        released.wait(SECONDS_MAX)
        return HalfOfX()

    versions = model_versions(load)

    async def run():
        async with versions.running():
            versions.change(change(champion(1)))
            await asyncio.to_thread(loading.wait, SECONDS_MAX)
            in_effect = versions.router.versions
            assert not versions.is_settled
            released.set()
            await versions.settled()
            return in_effect

    assert asyncio.run(run()) == {1}


def test_with_a_full_cache_a_version_is_loaded_with_the_first_request():
    loaded = []

    def load(_name, version):
        loaded.append(version)
        return HalfOfX()

    cache = ModelCache(bytes_max=1000)
    cache.put("other", 1, LoadedVersion(SizedModel(1000)))
    versions = model_versions(load, cache)

    async def run():
        async with versions.running():
            versions.change(change(champion(1)), lazily=True)
            await versions.settled()
            assert (loaded, versions.router.versions) == ([], {1})
            first, second = await asyncio.gather(versions.loaded.get(1), versions.loaded.get(1))
            assert first is second

    asyncio.run(run())
    assert loaded == [1]


class Registry:
    """Loads no version while it is down; counts the attempts."""

    def __init__(self):
        self.is_down = True
        self.attempts = 0

    def load(self, _name, _version):
        self.attempts += 1
        if self.is_down:
            raise ValueError("gone")
        return HalfOfX()


NEW = Arm(name="new", version=2, weight=500)
CHAMPION_OF_THE_REST = Arm(name="champion", version=1, weight=9500)


@pytest.mark.parametrize("lazily", [False, True])
def test_a_change_takes_effect_although_a_challenger_or_shadow_does_not_load(lazily):
    """At a change as after a restart, which is lazy."""

    def load(_name, version):
        if version in {2, 3}:
            raise OSError("its files are gone")
        return HalfOfX()

    versions = model_versions(load)
    shadow = Arm(name="quiet", version=3, weight=0, shadow=True)
    arms = change(CHAMPION_OF_THE_REST, NEW, shadow)

    async def run():
        async with versions.running():
            for each in (arms,) if lazily else (change(champion(1)), arms):
                versions.change(each, lazily=lazily)
                await versions.settled()
            return versions.router.versions, versions.fault or "", versions.not_ready

    in_effect, fault, not_ready = asyncio.run(run())
    assert in_effect == {1, 2, 3}
    assert "version 2 of m cannot predict: its files are gone; version 3" in fault
    assert not_ready is None


def test_a_challenger_that_did_not_load_answers_as_soon_as_it_does(monkeypatch):
    monkeypatch.setattr(load_failures, "FIRST_RETRY_SECONDS", 0.0)
    attempts = []

    def load(_name, version):
        attempts.append(version)
        if version == 2 and attempts.count(2) < 3:
            raise OSError("gone")
        return HalfOfX()

    versions = model_versions(load)

    async def run():
        async with versions.running(), asyncio.timeout(SECONDS_MAX):
            versions.change(change(CHAMPION_OF_THE_REST, NEW))
            await versions.settled()
            while versions.fault is not None:  # noqa: ASYNC110  # a fault has no event
                await asyncio.sleep(0)
            await versions.loaded.get(2)
            return sorted(attempts), versions.not_ready

    assert asyncio.run(run()) == ([1, 2, 2, 2], None)


def test_a_version_that_is_withdrawn_is_loaded_again(monkeypatch):
    monkeypatch.setattr(load_failures, "FIRST_RETRY_SECONDS", 0.0)
    loaded = []

    def load(_name, version):
        loaded.append(version)
        return HalfOfX()

    versions = model_versions(load)

    async def run():
        async with versions.running(), asyncio.timeout(SECONDS_MAX):
            versions.change(change(champion(1)))
            await versions.settled()
            errors = [versions.loaded.withdraw(1, ValueError("broken")) for _ in range(2)]
            assert "version 1 of m cannot predict: broken" in (versions.not_ready or "")
            while versions.not_ready is not None:  # noqa: ASYNC110  # readiness has no event
                await asyncio.sleep(0)
            return [str(error) for error in errors]

    assert asyncio.run(run()) == ["version 1 of m cannot predict: broken"] * 2
    assert loaded == [1, 1]


def test_versions_of_a_refused_change_are_dropped_with_the_next_change():
    cache = ModelCache(bytes_max=10_000)
    refused = [NEW, msgspec.structs.replace(CHAMPION_OF_THE_REST, version=3)]

    def load(_name, version):
        if version == 3:
            raise OSError("gone")
        return HalfOfX()

    versions = model_versions(load, cache)

    async def run():
        kept = []
        async with versions.running():
            for arms in ([champion(1)], refused, [champion(1)]):
                versions.change(change(*arms))
                await versions.settled()
                kept.append([version for version in (1, 2, 3) if ("m", version) in cache])
        return kept, versions.router.versions

    assert asyncio.run(run()) == ([[1], [1, 2], [1]], {1})


def test_a_model_is_ready_when_one_of_its_versions_can_predict():
    registry = Registry()
    versions = model_versions(registry.load)

    async def run():
        assert versions.not_ready == "no version is in effect yet"
        async with versions.running():
            versions.change(change(champion(1)), lazily=True)
            await asyncio.sleep(0)
            assert versions.not_ready == "version 1 is being loaded"
            await versions.settled()
            assert versions.not_ready == "version 1 of m cannot predict: gone"
            registry.is_down = False
            versions.change(change(champion(1)))
            await versions.settled()
            assert versions.not_ready is None

    asyncio.run(run())


def test_an_evicted_version_leaves_its_model_ready():
    cache = ModelCache(bytes_max=1000)
    versions = model_versions(lambda _name, _version: SizedModel(800), cache)

    async def run():
        async with versions.running():
            versions.change(change(champion(1)))
            await versions.settled()
            cache.put("other", 1, LoadedVersion(SizedModel(800)))
            return versions.are_loaded, versions.not_ready

    assert asyncio.run(run()) == (False, None)


def test_the_arms_in_effect_are_in_the_metrics_until_the_model_is_retired():
    def info(arm, version):
        return sample("driftline_model_info", model="m", arm=arm, version=version)

    versions = model_versions(lambda _name, _version: HalfOfX())

    async def run():
        async with versions.running():
            for each in (change(champion(1)), change(champion(2), FROZEN)):
                versions.change(each)
                await versions.settled()
            return info("champion", "1"), info("champion", "2"), info("frozen", "1")

    assert asyncio.run(run()) == (0, 1, 1)
    assert info("champion", "2") == 0

"""Versions are loaded once, kept while the arms need them, and tried again by `load_due` alone."""

import asyncio
import threading

import pytest

from services.model_registry.contract import LoadedVersion
from services.scoring.load_failures import VersionNotLoadedError
from services.scoring.loaded_versions import LoadedVersions
from services.scoring.model_cache import ModelCache
from services.scoring.thread_limits import ThreadLimits
from streams.outages import is_outage
from tests.unit.scoring.fakes import SECONDS_MAX, HalfOfX, ManualClock


class Registry:
    """Loads a version unless it is down; keeps the attempts."""

    def __init__(self, *, is_down=False):
        self.is_down = is_down
        self.attempts = []
        self.gate = threading.Event()
        self.gate.set()

    def load(self, _name, version):
        self.attempts.append(version)
        assert self.gate.wait(SECONDS_MAX)
        if self.is_down:
            raise ValueError("gone")
        return LoadedVersion(HalfOfX())


def versions(registry, wanted=(1, 2), bytes_max=1 << 20, clock=None, on_failure=lambda: None):
    found = LoadedVersions(
        "m", registry.load, ModelCache(bytes_max), ThreadLimits(1), clock or ManualClock(), on_failure
    )
    found.keep(frozenset(wanted))
    return found


async def fails(subject, number):
    with pytest.raises(VersionNotLoadedError) as caught:
        await subject.get(number)
    return caught.value


def test_callers_of_a_version_share_one_load():
    registry = Registry()
    subject = versions(registry)

    async def run():
        first, second = await asyncio.gather(subject.get(1), subject.get(1))
        assert first is second is await subject.get(1)

    asyncio.run(run())
    assert registry.attempts == [1]


def test_an_evicted_version_is_loaded_again():
    registry = Registry()
    subject = versions(registry, bytes_max=1500)

    async def run():
        for number in (1, 2, 1):
            await subject.get(number)

    asyncio.run(run())
    assert registry.attempts == [1, 2, 1]


def test_a_load_that_fails_is_an_outage_for_its_caller_and_no_fault_of_a_request():
    error = asyncio.run(fails(versions(Registry(is_down=True)), 1))
    assert str(error) == "version 1 of m cannot predict: gone"
    assert is_outage(error)
    assert error.retry_seconds == 1.0


def test_no_request_adds_or_awaits_an_attempt_to_load_a_version_that_has_failed():
    registry, clock = Registry(is_down=True), ManualClock()
    subject = versions(registry, clock=clock)

    async def run():
        await fails(subject, 1)
        clock.advance(10)
        registry.gate.clear()
        attempt = asyncio.create_task(subject.load_due([]))
        while len(registry.attempts) < 2:  # noqa: ASYNC110  # of another thread
            await asyncio.sleep(0)
        for _ in range(10):
            await fails(subject, 1)
        assert not attempt.done()
        registry.gate.set()
        await attempt

    asyncio.run(run())
    assert registry.attempts == [1, 1]


def test_a_failed_version_is_attempted_when_it_is_due_and_no_earlier():
    registry, clock = Registry(is_down=True), ManualClock()
    subject = versions(registry, clock=clock)

    async def run():
        attempts = []
        for _ in range(8):
            await subject.load_due([1])
            attempts.append(len(registry.attempts))
            clock.advance(1.0)
        return attempts

    assert asyncio.run(run()) == [1, 2, 2, 3, 3, 3, 3, 4], "after 1 s, 2 s, 4 s"
    registry.is_down = False
    clock.advance(30.0)
    asyncio.run(subject.load_due([]))
    assert 1 in subject
    assert subject.error(1) is None
    assert subject.retry_seconds(None) is None


def test_a_version_that_is_withdrawn_by_several_calls_fails_once_and_is_due_later():
    registry, clock, failed = Registry(), ManualClock(), []
    subject = versions(registry, clock=clock, on_failure=lambda: failed.append(1))

    async def run():
        await subject.get(1)
        errors = [subject.withdraw(1, ValueError("broken")) for _ in range(2)]
        await subject.load_due([1])
        assert 1 not in subject
        clock.advance(1.0)
        await subject.load_due([])
        return {str(error) for error in errors}

    assert asyncio.run(run()) == {"version 1 of m cannot predict: broken"}
    assert 1 in subject
    assert (len(failed), registry.attempts) == (1, [1, 1])


def test_a_version_of_no_arm_is_not_kept():
    """As one that is needed to explain a prediction from before a change."""
    subject = versions(Registry(), wanted=[2])

    async def run():
        await subject.get(1)
        await subject.get(2)

    asyncio.run(run())
    assert [number for number in (1, 2) if number in subject] == [2]
    subject.keep(frozenset([3]))
    assert 2 not in subject


def test_the_failure_of_a_version_of_no_arm_is_not_remembered():
    subject = versions(Registry(is_down=True), wanted=[2])
    asyncio.run(fails(subject, 1))
    assert subject.errors([1, 2]) == []

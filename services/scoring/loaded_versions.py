"""The loaded versions of one model: loaded when needed, tried again when they have failed."""

import asyncio
import time
from collections.abc import Callable, Collection

import structlog

from services.model_registry.contract import LoadedVersion
from services.runtime import metrics
from services.scoring.load_failures import LoadFailures, VersionNotLoadedError
from services.scoring.model_cache import ModelCache
from services.scoring.thread_limits import ThreadLimits

log = structlog.get_logger()

VersionLoader = Callable[[str, int], LoadedVersion]
"""Loads one version of a named model and checks it against its golden batch; blocking."""


class LoadedVersions:
    """The versions of one model that its arms need.

    A version that does not load, or that fails on its golden batch later, is loaded again after a back-off,
    until it works: see `load_due`. No request waits for such an attempt.
    """

    def __init__(
        self,
        name: str,
        load: VersionLoader,
        cache: ModelCache,
        threads: ThreadLimits,
        clock: Callable[[], float] = time.monotonic,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """Start without any; ``on_failure`` is called when a version has failed."""
        self._name = name
        self._load = load
        self._cache = cache
        self._threads = threads
        self._on_failure = on_failure
        self._wanted = frozenset[int]()
        self._loading: dict[int, asyncio.Task[LoadedVersion]] = {}
        self._failures = LoadFailures(name, clock)

    def __contains__(self, number: int) -> bool:
        """Return whether a version is loaded."""
        return (self._name, number) in self._cache

    def error(self, number: int) -> VersionNotLoadedError | None:
        """Return why a version cannot predict; None if its last attempt did not fail."""
        return self._failures.error(number)

    def errors(self, numbers: Collection[int]) -> list[VersionNotLoadedError]:
        """Return the errors of these versions that have failed, in the order of the versions."""
        return [error for number in sorted(numbers) if (error := self._failures.error(number))]

    async def get(self, number: int) -> LoadedVersion:
        """Return a version, after loading it if necessary.

        Raises `VersionNotLoadedError`: the load has failed, or failed before. In the latter case no request
        waits for the next attempt, nor adds one before its time.
        """
        loaded = self._cache.get(self._name, number)
        if loaded is not None:
            return loaded
        failure = self._failures.error(number)
        if failure is not None:
            raise failure
        return await self._attempt(number)

    def withdraw(self, number: int, error: Exception) -> VersionNotLoadedError:
        """Take a loaded version that fails out of use, and return the error of its callers."""
        known = self._failures.error(number)
        if known is not None:  # of another call that failed at the same time
            return known
        self._cache.drop(self._name, number)
        log.error("model.withdrawn", model=self._name, version=number, error=str(error))
        return self._fail(number, error)

    def keep(self, wanted: frozenset[int]) -> None:
        """Drop every version but these."""
        for number in self._wanted - wanted:
            self._cache.drop(self._name, number)
            self._failures.remove(number)
        self._wanted = wanted

    async def load_due(self, numbers: Collection[int]) -> None:
        """Attempt to load these of the kept versions, and those whose next attempt is due.

        The others that have failed wait for their next attempt.
        """
        due = []
        for number in self._wanted:
            failure = self._failures.error(number)
            is_due = number in numbers if failure is None else failure.retry_seconds <= 0
            if is_due and number not in self:
                due.append(self._attempt(number))
        await asyncio.gather(*due, return_exceptions=True)

    def retry_at_once(self) -> None:
        """Forget all failures: a change of arms may come with a repaired version."""
        self._failures.clear()

    def retry_seconds(self, default: float | None) -> float | None:
        """Return the time until the next attempt is due; ``default`` if none has failed."""
        return self._failures.retry_seconds(self._wanted, default)

    async def _attempt(self, number: int) -> LoadedVersion:
        if number not in self._loading:
            self._loading[number] = asyncio.create_task(self._load_version(number), name=f"load {self._name}")
            # Every caller may have been cancelled: `_load_version` has logged the error.
            self._loading[number].add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._loading[number])  # other calls may wait for the same load

    async def _load_version(self, number: int) -> LoadedVersion:
        try:
            loaded = await self._threads.run_in_background(self._load, self._name, number)
        except Exception as error:
            metrics.MODEL_LOAD_FAILURES.labels(self._name).inc()
            known, failure = self._failures.error(number), self._fail(number, error)
            if str(failure) != str(known):  # an attempt that fails as the one before is not worth a line
                log.exception("model.not_loaded", model=self._name, version=number)
            raise failure from error
        finally:
            del self._loading[number]
        self._failures.remove(number)
        if (
            number in self._wanted
        ):  # else the arms changed during the load, and nothing would drop the version
            self._cache.put(self._name, number, loaded)
        return loaded

    def _fail(self, number: int, error: Exception) -> VersionNotLoadedError:
        failure = self._failures.add(number, error)
        if number not in self._wanted:
            self._failures.remove(number)
        self._on_failure()
        return failure

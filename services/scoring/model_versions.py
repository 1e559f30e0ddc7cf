"""The versions of one model: loaded when needed, replaced without an interruption."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import structlog

from services.model_registry.contract import Model
from services.runtime import metrics
from services.scoring.arm_router import ArmRouter
from services.scoring.load_failures import LoadFailures
from services.scoring.model_cache import ModelCache
from services.scoring.thread_limits import ThreadLimits
from streams import records

log = structlog.get_logger()

RETRY_SECONDS = 30.0
"""Time until a change that cannot be laid out is tried again, whatever its versions do."""

VersionLoader = Callable[[str, int], Model]
"""Loads one version of a named model and checks it against its golden batch; blocking."""


class ModelVersions:
    """One model: which of its versions give predictions, and those that are loaded.

    A change takes effect as a whole, between two slices, when all of its versions are loaded; if one does
    not load, the previous arms stay. After the first change of a model, and after a restart, requests wait
    until the version that predicts for them is loaded.
    """

    def __init__(
        self,
        name: str,
        load: VersionLoader,
        cache: ModelCache,
        threads: ThreadLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without a version: the features of requests are collected."""
        self.name = name
        self.router = ArmRouter(name)
        self.fault: str | None = None
        """Why the latest change, or a version, is not in use."""
        self._load = load
        self._cache = cache
        self._threads = threads
        self._loading: dict[int, asyncio.Task[Model]] = {}
        self._failures = LoadFailures(name, clock)
        self._latest: tuple[records.ModelChanged, bool] | None = None
        self._is_changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._exported: list[tuple[str, str, str]] = []

    @property
    def are_loaded(self) -> bool:
        """Whether every version that gives predictions is loaded."""
        return all((self.name, arm.version) in self._cache for arm in self.router.answering)

    @property
    def not_ready(self) -> str | None:
        """Why no prediction can be made now; None if at least one version gives predictions."""
        answering = {arm.version for arm in self.router.answering}
        if not answering:
            return "no version is in effect yet"
        reasons = [self.not_ready_version(version) for version in sorted(answering)]
        return None if None in reasons else "; ".join(filter(None, reasons))

    def not_ready_version(self, number: int) -> str | None:
        """Why a version cannot predict now; None if it is loaded, or is loaded with the next request.

        The latter are versions for which the cache of all models has no room.
        """
        if (self.name, number) in self._cache:
            return None
        failure = self._failures.error(number)
        if failure is not None:
            return str(failure)
        return None if self.is_settled else f"version {number} is being loaded"

    async def get(self, number: int) -> Model:
        """Return a version, after loading it if necessary.

        Raises `VersionNotLoadedError`: the load has failed, or it failed before and the time of the next
        attempt has not come. Then no load is started, so requests do not add attempts.
        """
        model = self._cache.get(self.name, number)
        if model is not None:
            return model
        failure = self._failures.error(number)
        if failure is not None and (number in self._loading or failure.retry_seconds > 0):
            raise failure
        if number not in self._loading:
            self._loading[number] = asyncio.create_task(self._load_version(number), name=f"load {self.name}")
            # Every caller may have been cancelled: `_load_version` has logged the error.
            self._loading[number].add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._loading[number])  # other calls may wait for the same load

    async def _load_version(self, number: int) -> Model:
        try:
            model = await self._threads.run_in_background(self._load, self.name, number)
        except Exception as error:
            metrics.MODEL_LOAD_FAILURES.labels(self.name).inc()
            failure = self._failures.add(number, error)
            if number in self.router.versions:
                self.fault = str(failure)
            log.exception("model.not_loaded", model=self.name, version=number)
            raise failure from error
        finally:
            del self._loading[number]
        self._failures.remove(number)
        self._cache.put(self.name, number, model)
        if number in self.router.versions:
            self.fault = None
        return model

    def change(self, change: records.ModelChanged, *, lazily: bool = False) -> None:
        """Request a change; only the latest one counts.

        With ``lazily``, the change takes effect before its versions are loaded; if other models fill the
        cache, the versions are loaded with the first request.
        """
        self._latest = (change, lazily)
        self._failures.clear()  # whoever made the change may have repaired a version
        self._settled.clear()
        self._is_changed.set()

    @property
    def is_settled(self) -> bool:
        """Whether the latest change is in effect, or has failed and waits for a retry."""
        return self._settled.is_set()

    async def settled(self) -> None:
        """Wait for `is_settled`."""
        await self._settled.wait()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Apply changes until the block ends; then remove all versions from the cache."""
        task = asyncio.create_task(self._apply_changes(), name=f"models {self.name}")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            for version in self.router.versions:
                self._cache.drop(self.name, version)
            self._export([])

    async def _apply_changes(self) -> None:
        while True:
            await self._is_changed.wait()
            self._is_changed.clear()
            assert self._latest is not None
            change, lazily = self._latest
            is_applied = await self._apply(change, lazily=lazily)
            if not self._is_changed.is_set():
                self._settled.set()
            if not is_applied:
                with contextlib.suppress(TimeoutError):
                    versions = {arm.version for arm in change.arms}
                    wait_seconds = self._failures.retry_seconds(versions, default=RETRY_SECONDS)
                    await asyncio.wait_for(self._is_changed.wait(), wait_seconds)
                self._is_changed.set()

    async def _apply(self, change: records.ModelChanged, *, lazily: bool) -> bool:
        try:
            router = ArmRouter(self.name, change.arms)
            if lazily or not self.router.versions:
                self._adopt(router, change)  # no version is in effect yet: requests wait for the first one
            if not lazily or self._cache.has_room:
                await asyncio.gather(*(self.get(version) for version in router.versions))
        except Exception as error:  # noqa: BLE001  # whatever fails, the previous arms stay in effect
            self.fault = f"the change {change.reason!r} is not in effect: {error}"
            log.error("model.not_changed", model=self.name, reason=change.reason, error=repr(error))  # noqa: TRY400  # the load has logged the stack
            return False
        self._adopt(router, change)
        self.fault = None
        return True

    def _adopt(self, router: ArmRouter, change: records.ModelChanged) -> None:
        outgoing = self.router.versions - router.versions
        self.router = router
        for version in outgoing:
            self._cache.drop(self.name, version)
            self._failures.remove(version)
        self._export(change.arms)
        log.info("model.swapped", model=self.name, versions=sorted(router.versions), reason=change.reason)

    def _export(self, arms: list[records.Arm]) -> None:
        """Show these arms in the metric ``driftline_model_info``."""
        exported = [(self.name, arm.name, str(arm.version)) for arm in arms]
        for labels in set(self._exported) - set(exported):
            metrics.MODEL_INFO.labels(*labels).set(0)  # the samples of several workers cannot be removed
            metrics.MODEL_INFO.remove(*labels)
        for labels in exported:
            metrics.MODEL_INFO.labels(*labels).set(1)
        self._exported = exported

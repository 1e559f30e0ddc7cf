"""The versions of one model: loaded when needed, replaced without an interruption."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import structlog

from services.model_registry.contract import Model
from services.runtime import metrics
from services.scoring.arm_router import ArmRouter
from services.scoring.model_cache import ModelCache
from services.scoring.thread_limits import ThreadLimits
from streams import records

log = structlog.get_logger()

RETRY_SECONDS = 30.0
"""Time until a version that did not load is tried again: the registry may have been down."""

VersionLoader = Callable[[str, int], Model]
"""Loads one version of a named model and checks it against its golden batch; blocking."""


class ModelVersions:
    """One model: which of its versions give predictions, and those that are loaded.

    A change takes effect as a whole, between two slices, when all of its versions are loaded; if one does
    not load, the previous arms stay. After the first change of a model, and after a restart, requests wait
    until the version that predicts for them is loaded.
    """

    def __init__(self, name: str, load: VersionLoader, cache: ModelCache, threads: ThreadLimits) -> None:
        """Start without a version: the features of requests are collected."""
        self.name = name
        self.router = ArmRouter(name)
        self.fault: str | None = None
        """Why the latest change, or a version, is not in use."""
        self._load = load
        self._cache = cache
        self._threads = threads
        self._loading: dict[int, asyncio.Task[Model]] = {}
        self._latest: tuple[records.ModelChanged, bool] | None = None
        self._is_changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._exported: list[tuple[str, str, str]] = []

    @property
    def are_loaded(self) -> bool:
        """Whether every version that gives predictions is loaded."""
        return all((self.name, arm.version) in self._cache for arm in self.router.answering)

    async def get(self, number: int) -> Model:
        """Return a version, after loading it if necessary; raise what the loader raises."""
        model = self._cache.get(self.name, number)
        if model is not None:
            return model
        if number not in self._loading:
            self._loading[number] = asyncio.create_task(self._load_version(number))
        return await asyncio.shield(self._loading[number])  # other calls may wait for the same load

    async def _load_version(self, number: int) -> Model:
        try:
            model = await self._threads.run_in_background(self._load, self.name, number)
        except Exception as error:
            metrics.MODEL_LOAD_FAILURES.labels(self.name).inc()
            if number in self.router.versions:
                self.fault = f"version {number} cannot be loaded: {error}"
            log.exception("model.not_loaded", model=self.name, version=number)
            raise
        finally:
            del self._loading[number]
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
                    await asyncio.wait_for(self._is_changed.wait(), RETRY_SECONDS)
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

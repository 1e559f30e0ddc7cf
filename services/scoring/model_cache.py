"""The versions of a model: loaded when they are needed, swapped without a stop, kept within a bound."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

import structlog

from services.model_registry.contract import Model
from services.runtime import metrics
from services.scoring.arm_routing import Routes
from services.scoring.thread_limits import Threads
from streams import records

log = structlog.get_logger()

RETRY_SECONDS = 30.0
"""After which a version that did not load is tried again, in case that the registry was down."""


Load = Callable[[str, int], Model]
"""Loads one version of a named model, and has it prove itself; blocking."""


class ModelCache:
    """Loaded versions of all models; what was not used for longest makes room."""

    def __init__(self, bytes_max: int) -> None:
        """Hold at most so much; one version is always let in, however large."""
        self._bytes_max = bytes_max
        self._size_bytes = 0
        self._held: OrderedDict[tuple[str, int], Model] = OrderedDict()

    def __contains__(self, key: tuple[str, int]) -> bool:
        """Tell whether a version of a model is loaded."""
        return key in self._held

    @property
    def has_room(self) -> bool:
        """Tell whether anything can be loaded without something else being let go."""
        return self._size_bytes < self._bytes_max

    def get(self, model: str, version: int) -> Model | None:
        """Return a version if it is loaded."""
        found = self._held.get((model, version))
        if found is not None:
            self._held.move_to_end((model, version))
        return found

    def put(self, model: str, version: int, loaded: Model) -> None:
        """Hold a version."""
        self.drop(model, version)
        self._held[model, version] = loaded
        self._size_bytes += loaded.size_bytes
        while self._size_bytes > self._bytes_max and len(self._held) > 1:
            self.drop(*next(iter(self._held)))
            metrics.MODELS_EVICTED.inc()
        self._tell()

    def drop(self, model: str, version: int) -> None:
        """Let go of a version; whoever scores with it now finishes."""
        found = self._held.pop((model, version), None)
        if found is not None:
            self._size_bytes -= found.size_bytes
            self._tell()

    def _tell(self) -> None:
        metrics.MODELS_LOADED.set(len(self._held))
        metrics.MODELS_LOADED_BYTES.set(self._size_bytes)


class ModelSet:
    """One model: which of its versions answer, and those that are loaded.

    A change takes effect as a whole, between two slices, once all of its versions are loaded; if one does
    not load, everything stays as it is. Of the first change, and of what a restart finds, requests wait
    until the version that is to answer them is loaded.
    """

    def __init__(self, name: str, load: Load, cache: ModelCache, threads: Threads) -> None:
        """Start without a version: requests are collected."""
        self.name = name
        self.routes = Routes(name)
        self.fault: str | None = None
        """Why the latest change, or a version, is not in use."""
        self._load = load
        self._cache = cache
        self._threads = threads
        self._loading: dict[int, asyncio.Task[Model]] = {}
        self._wanted: tuple[records.ModelChanged, bool] | None = None
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._shown: list[tuple[str, str, str]] = []

    @property
    def loaded(self) -> bool:
        """Tell whether every version that answers is loaded."""
        return all((self.name, arm.version) in self._cache for arm in self.routes.answering)

    async def version(self, number: int) -> Model:
        """Return a version, after loading it if need be; raises what the loading raises."""
        loaded = self._cache.get(self.name, number)
        if loaded is not None:
            return loaded
        if number not in self._loading:
            self._loading[number] = asyncio.create_task(self._load_version(number))
        return await asyncio.shield(self._loading[number])  # others may wait for the same

    async def _load_version(self, number: int) -> Model:
        try:
            loaded = await self._threads.run_behind(self._load, self.name, number)
        except Exception as error:
            metrics.MODEL_LOAD_FAILURES.labels(self.name).inc()
            if number in self.routes.versions:
                self.fault = f"version {number} cannot be loaded: {error}"
            log.exception("model.not_loaded", model=self.name, version=number)
            raise
        finally:
            del self._loading[number]
        self._cache.put(self.name, number, loaded)
        if number in self.routes.versions:
            self.fault = None
        return loaded

    def change(self, change: records.ModelChanged, *, lazily: bool = False) -> None:
        """Have a change take effect; only the latest one counts.

        With ``lazily``, before its versions are loaded; and if others have filled the cache, they are loaded
        only when a request comes.
        """
        self._wanted = (change, lazily)
        self._settled.clear()
        self._news.set()

    @property
    def is_settled(self) -> bool:
        """Tell whether the latest change is in effect, or was given up for now."""
        return self._settled.is_set()

    async def settled(self) -> None:
        """Wait for `is_settled`."""
        await self._settled.wait()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work on changes until the block ends; then let go of all versions."""
        task = asyncio.create_task(self._work(), name=f"models {self.name}")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            for version in self.routes.versions:
                self._cache.drop(self.name, version)
            self._show([])

    async def _work(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            assert self._wanted is not None
            change, lazily = self._wanted
            done = await self._try(change, lazily=lazily)
            if not self._news.is_set():
                self._settled.set()
            if not done:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), RETRY_SECONDS)
                self._news.set()

    async def _try(self, change: records.ModelChanged, *, lazily: bool) -> bool:
        try:
            routes = Routes(self.name, change.arms)
            if lazily or not self.routes.versions:
                self._adopt(routes, change)  # nothing answers yet: requests wait for the first version
            if not lazily or self._cache.has_room:
                await asyncio.gather(*(self.version(version) for version in routes.versions))
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it, the old arms go on
            self.fault = f"the change {change.reason!r} is not in effect: {error}"
            log.error("model.not_changed", model=self.name, reason=change.reason, error=repr(error))  # noqa: TRY400  # told where it was loaded
            return False
        self._adopt(routes, change)
        self.fault = None
        return True

    def _adopt(self, routes: Routes, change: records.ModelChanged) -> None:
        outgoing = self.routes.versions - routes.versions
        self.routes = routes
        for version in outgoing:
            self._cache.drop(self.name, version)
        self._show(change.arms)
        log.info("model.swapped", model=self.name, versions=sorted(routes.versions), reason=change.reason)

    def _show(self, arms: list[records.Arm]) -> None:
        shown = [(self.name, arm.name, str(arm.version)) for arm in arms]
        for labels in set(self._shown) - set(shown):
            metrics.MODEL_INFO.labels(*labels).set(0)  # what workers share cannot be removed
            metrics.MODEL_INFO.remove(*labels)
        for labels in shown:
            metrics.MODEL_INFO.labels(*labels).set(1)
        self._shown = shown

"""The arms of one model, replaced without an interruption, and the versions that they need."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import structlog

from services.runtime.supervised_task import SupervisedTask
from services.scoring.arm_metrics import ArmMetrics
from services.scoring.arm_router import ArmRouter
from services.scoring.loaded_versions import LoadedVersions, VersionLoader
from services.scoring.model_cache import ModelCache
from services.scoring.thread_limits import ThreadLimits
from streams import records

log = structlog.get_logger()

RETRY_SECONDS = 30.0
"""Time until a change that cannot be put into effect is tried again, whatever its versions do."""


class ModelVersions:
    """One model: which of its versions give predictions, and those that are loaded.

    A change takes effect between two slices, after an attempt to load each of its versions. An arm whose
    version cannot answer costs only its own rows: see `services.scoring.arm_calls`. But if the champion does
    not load, the previous arms stay. After the first change of a model, and after a restart, there are none:
    requests wait until the version that predicts for them is loaded.
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
        self._cache = cache
        self._latest: tuple[records.ModelChanged, bool] | None = None
        self._in_effect: records.ModelChanged | None = None
        self._refusal: str | None = None
        """Why the latest change is not in effect."""
        self._is_due = asyncio.Event()
        """Set by a change and by a version that fails: its next attempt must be planned."""
        self._settled = asyncio.Event()
        self._settled.set()
        self.arm_metrics = ArmMetrics(name)
        self.loaded = LoadedVersions(name, load, cache, threads, clock, on_failure=self._is_due.set)

    @property
    def are_loaded(self) -> bool:
        """Whether every version that gives predictions is loaded, or has failed and waits for a retry."""
        versions = {arm.version for arm in self.router.answering}
        return all(number in self.loaded or self.loaded.error(number) is not None for number in versions)

    @property
    def fault(self) -> str | None:
        """Why the latest change, or a version of an arm, is not in use; None if all are."""
        faults = [str(error) for error in self.loaded.errors(self.router.versions)]
        return "; ".join(faults if self._refusal is None else [self._refusal, *faults]) or None

    @property
    def not_ready(self) -> str | None:
        """Why no prediction can be made now; None if a champion can, which answers for other arms, too."""
        if not self.router.answering:
            return "no version is in effect yet"
        reasons = [self.not_ready_version(version) for version in sorted(self.router.champions)]
        return None if None in reasons else "; ".join(filter(None, reasons))

    def not_ready_version(self, number: int) -> str | None:
        """Why a version cannot predict now; None if it is loaded, or is loaded with the next request.

        The latter are versions for which the cache of all models has no room.
        """
        if number in self.loaded:
            return None
        failure = self.loaded.error(number)
        if failure is not None:
            return str(failure)
        return None if self.is_settled else f"version {number} is being loaded"

    def change(self, change: records.ModelChanged, *, lazily: bool = False) -> None:
        """Request a change; only the latest one counts.

        With ``lazily``, the change takes effect before its versions are loaded; if other models fill the
        cache, the versions are loaded with the first request.
        """
        self._latest = (change, lazily)
        self.loaded.retry_at_once()
        self._settled.clear()
        self._is_due.set()

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
        try:
            async with SupervisedTask(f"models {self.name}", self._apply_changes).running():
                yield
        finally:
            self.loaded.keep(frozenset())
            self.arm_metrics.show([])

    async def _apply_changes(self) -> None:
        if self._latest is not None:
            self._is_due.set()  # an error may have ended the last run before the change was in effect
        while True:
            with contextlib.suppress(TimeoutError):
                no_failure = None if self._refusal is None else RETRY_SECONDS
                async with asyncio.timeout(self.loaded.retry_seconds(no_failure)):
                    await self._is_due.wait()
            self._is_due.clear()
            if self._latest is None:
                continue
            change, lazily = self._latest
            await self._apply(change, lazily=lazily)
            if self._latest[0] is change:
                self._settled.set()

    async def _apply(self, change: records.ModelChanged, *, lazily: bool) -> None:
        """Load the versions of a change; put it into effect unless its champion does not load."""
        try:
            router = ArmRouter(self.name, change.arms)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it, the previous arms stay
            self._refuse(change, error)
            return
        self.loaded.keep(self.router.versions | router.versions)
        if lazily or not self.router.versions:
            self._adopt(router, change)  # no version is in effect yet: requests wait for the first one
        await self.loaded.load_due(router.versions if not lazily or self._cache.has_room else ())
        lacking = self.loaded.errors(router.essential)
        if lacking and change is not self._in_effect:
            self._refuse(change, lacking[0])
        else:
            self._adopt(router, change)

    def _refuse(self, change: records.ModelChanged, error: Exception) -> None:
        refusal = f"the change {change.reason!r} is not in effect: {error}"
        if refusal != self._refusal:
            log.error("model.not_changed", model=self.name, reason=change.reason, error=str(error))
        self._refusal = refusal

    def _adopt(self, router: ArmRouter, change: records.ModelChanged) -> None:
        self._refusal = None
        if change is self._in_effect:
            return
        self.router, self._in_effect = router, change
        self.loaded.keep(router.versions)
        self.arm_metrics.show(change.arms)
        log.info("model.swapped", model=self.name, versions=sorted(router.versions), reason=change.reason)

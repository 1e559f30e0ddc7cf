"""Which generation of each view this process works on, and when a new one begins.

A generation begins when a process starts with a view that is not stored or is defined otherwise, when
a running one finds that what it had stored is gone, and when ``driftline features replay`` asks for it.
All workers come to the same one, because the store lets only the first begin it.
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
import structlog
from redis.exceptions import RedisError

from services.feature_store import feast_layout
from services.feature_store.plan import View
from services.features.row_store import Build, FeatureStore
from services.runtime import metrics

log = structlog.get_logger()

EARLIEST, NOW = "earliest", "now"


class SupersededError(RuntimeError):
    """Another process has begun to build the view by another definition."""


_INDEPENDENT = frozenset({"ttl_ms", "batch_file"})
"""What of a view makes no difference to its rows."""


def definition_of(project: str, view: View) -> str:
    """Return a digest of all on which a view's rows depend."""
    told = {name: getattr(view, name) for name in view.__dataclass_fields__ if name not in _INDEPENDENT}
    return hashlib.sha256(msgspec.json.encode([project, told])).hexdigest()[:32]


class Generations:
    """The generations of all stream views, as far as this process knows."""

    def __init__(self, store: FeatureStore, project: str, views: Sequence[View]) -> None:
        """Take the views; nothing is read before `begin`."""
        self._store = store
        self._project = project
        self._fields = {view.name: _fields(view) for view in views}
        self._definitions = {view.name: definition_of(project, view) for view in views}
        self._partitions: dict[str, int] = {}
        self._builds: dict[str, Build] = {}

    async def begin(self, partitions: Mapping[str, int]) -> None:
        """At the start of a process: see to it that each view is built by the definition known here.

        Args:
            partitions: Of each view's rows.
        """
        self._partitions = dict(partitions)
        for name, build in (await self._read()).items():
            if build is None or build.definition != self._definitions[name]:
                reason = "new" if build is None else "defined otherwise"
                await self.renew(name, build, reason, sweep=True)
        await self.check()

    def unswept(self) -> dict[str, Build]:
        """Return the views of which rows of earlier generations are to be swept out."""
        builds = {name: build for name, build in self._builds.items() if build.unswept}
        return {name: builds[name] for name in builds.keys() - set(self.superseded())}

    async def sweep(self) -> None:
        """Sweep out what must not be read any more, also where another process had begun to."""
        for name, build in self.unswept().items():
            try:
                rows = await self._store.sweep(name, build.generation, self._project, self._fields[name])
            except (RedisError, OSError) as error:
                log.warning("features.sweep_failed", view=name, error=repr(error))
                return
            log.info("features.swept", view=name, rows=rows)

    async def check(self) -> None:
        """Follow the generations that others have begun, and begin those whose views the store has lost."""
        if not self._partitions:
            return
        found = await self._read()
        lost = [name for name, build in found.items() if build is None]
        for name in lost:
            await self.renew(name, None, "lost by the store")
        if lost:
            found = await self._read()
        self._builds = {name: build for name, build in found.items() if build is not None}

    async def renew(
        self,
        view: str,
        instead_of: Build | None,
        reason: str,
        start: str = EARLIEST,
        *,
        sweep: bool = False,
    ) -> None:
        """Begin a new generation of a view, unless somebody else has done so meanwhile."""
        log.warning("features.generation_begun", view=view, reason=reason, start=start)
        metrics.FEATURE_GENERATIONS.labels(view, reason).inc()
        await self._store.begin(
            view,
            self._partitions[view],
            instead_of=instead_of,
            definition=self._definitions[view],
            start=start,
            sweep=sweep,
        )

    @property
    def views(self) -> Sequence[str]:
        """The names of all stream views."""
        return tuple(self._definitions)

    def of(self, view: str) -> Build:
        """Return the generation to work on; `SupersededError` if it is built by another definition."""
        build = self._builds[view]
        if build.definition != self._definitions[view]:
            raise SupersededError(f"{view} is defined otherwise by another process")
        return build

    def superseded(self) -> list[str]:
        """List the views that other processes build by another definition."""
        return [name for name, build in self._builds.items() if build.definition != self._definitions[name]]

    async def _read(self) -> dict[str, Build | None]:
        names = list(self._definitions)
        return dict(zip(names, await self._store.builds(names), strict=True))


def _fields(view: View) -> list[bytes]:
    """Return the fields of a view's rows, the sidecar first."""
    features = [feast_layout.feature_field(view.name, name) for name in view.feature_names]
    return [feast_layout.sidecar_field(view.name), feast_layout.timestamp_field(view.name), *features]

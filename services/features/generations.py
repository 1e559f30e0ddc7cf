"""The generation of each view that this process works on, and when a new one begins.

A generation begins when a process starts with a view that is not stored or has another definition, when a
running process finds that its stored rows are gone, and when ``driftline features replay`` requests it. All
workers agree on the same generation, because the store lets only the first of them begin it.
"""

from collections.abc import Mapping, Sequence

import structlog

from services.feature_store import feast_layout, view_definition
from services.feature_store.plan import View
from services.features.row_store import RowStore
from services.features.view_progress import ViewGeneration
from services.runtime import metrics
from streams.outages import OutageError, is_outage

log = structlog.get_logger()

EARLIEST, NOW = "earliest", "now"


class SupersededError(OutageError):
    """Another process builds the view from another definition."""


class Generations:
    """The generations of all stream views, as far as this process knows."""

    def __init__(self, store: RowStore, project: str, views: Sequence[View]) -> None:
        """Take the views; nothing is read before `start`."""
        self._store = store
        self._fields = {view.name: _fields(view) for view in views}
        self._definitions = {view.name: view_definition.digest(project, view) for view in views}
        self._partitions: dict[str, int] = {}
        self._topics: Mapping[str, str] = {}
        self._current: dict[str, ViewGeneration] = {}

    async def start(self, partitions: Mapping[str, int], topics: Mapping[str, str]) -> None:
        """Begin a generation of each view that is not stored, is defined otherwise or reads other topics.

        Args:
            partitions: Number of partitions of each view.
            topics: Digest of the identity of the topics of each view, see `topic_setup.identities`; empty
                if it is unknown.
        """
        self._partitions, self._topics = dict(partitions), topics
        for name, stored in (await self._read()).items():
            if stored is None or stored.definition != self._definitions[name]:
                reason = "new" if stored is None else "defined otherwise"
                await self.begin_next(name, stored, reason, sweep=True)
            elif stored.topics and topics[name] and stored.topics != topics[name]:
                await self.begin_next(name, stored, "topic recreated")
            elif topics[name] and not stored.topics:
                await self._store.note_topics(name, topics[name])
        await self.check()

    def unswept(self) -> dict[str, ViewGeneration]:
        """Return the views whose rows of earlier generations are still to be deleted."""
        unswept = {name: stored for name, stored in self._current.items() if stored.unswept}
        return {name: unswept[name] for name in unswept.keys() - set(self.superseded())}

    async def sweep(self) -> None:
        """Delete outdated rows; also continues a sweep that another process began."""
        for name, stored in self.unswept().items():
            try:
                rows = await self._store.sweep(name, stored.number, self._fields[name])
            except Exception as error:  # noqa: BLE001  # it is tried again with the next check
                report = log.warning if is_outage(error) else log.exception
                report("features.sweep_failed", view=name, error=repr(error))
                return
            log.info("features.swept", view=name, rows=rows)

    async def check(self) -> None:
        """Read the generations; begin a new one of each view that the store has lost."""
        if not self._partitions:
            return
        found = await self._read()
        lost = [name for name, stored in found.items() if stored is None]
        for name in lost:
            await self.begin_next(name, None, "the store lost the view")
        if lost:
            found = await self._read()
        self._current = {name: stored for name, stored in found.items() if stored is not None}

    async def begin_next(
        self,
        view: str,
        expected: ViewGeneration | None,
        reason: str,
        start: str = EARLIEST,
        *,
        sweep: bool = False,
    ) -> None:
        """Begin a new generation of a view, unless another process has already done so."""
        log.warning("features.generation_begun", view=view, reason=reason, start=start)
        metrics.FEATURE_GENERATIONS.labels(view, reason).inc()
        await self._store.begin_generation(
            view,
            self._partitions[view],
            expected=expected,
            definition=self._definitions[view],
            start=start,
            sweep=sweep,
        )
        if digest := self._topics.get(view):
            await self._store.note_topics(view, digest)

    @property
    def views(self) -> Sequence[str]:
        """The names of all stream views."""
        return tuple(self._definitions)

    def current(self, view: str) -> ViewGeneration:
        """Return the generation to work on; raise `SupersededError` if it has another definition."""
        current = self._current[view]
        if current.definition != self._definitions[view]:
            raise SupersededError(f"another process builds view {view} from another definition")
        return current

    def superseded(self) -> list[str]:
        """Return the views that other processes build from another definition."""
        return [
            name for name, stored in self._current.items() if stored.definition != self._definitions[name]
        ]

    async def _read(self) -> dict[str, ViewGeneration | None]:
        names = list(self._definitions)
        return dict(zip(names, await self._store.generations(names), strict=True))


def _fields(view: View) -> list[bytes]:
    """Return the fields of a view's rows, the sidecar first."""
    features = [feast_layout.feature_field(view.name, name) for name in view.feature_names]
    return [feast_layout.sidecar_field(view.name), feast_layout.timestamp_field(view.name), *features]

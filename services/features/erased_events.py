"""Leaves the events of erased subjects out of the views that are built in this process."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from services.feature_store import erasures
from services.feature_store.erasures import ErasedSubjects
from services.features.view_state import Entity, Event, ViewLogic
from services.runtime import redis_clients
from services.runtime.settings import Settings
from streams.records import Erasure

log = structlog.get_logger()


REMEMBERED_MAX = 20_000
"""Entities whose erasures are remembered, so that not each event needs a digest: as many as a slice has."""


class ErasedEvents:
    """The erasures that this process knows. Without any, it costs nothing."""

    def __init__(
        self, read: Callable[[], Sequence[Erasure]] = lambda: (), client: Any = None, key: str = ""
    ) -> None:
        """Nothing is read before `refresh`.

        Args:
            read: Reads all erasures, in a thread.
            client: Of the online store, to own.
            key: What changes there with each erasure, see `erasures.notice_key`.
        """
        self._read = read
        self._client = client
        self._key = key
        self._noticed: bytes | None = None
        self._topic_ids: Mapping[str, str] = {}
        self._known: Sequence[Erasure] = ()
        self._subjects = ErasedSubjects()
        self._remembered: dict[tuple[str, Entity], Sequence[Erasure]] = {}

    @classmethod
    def of(cls, settings: Settings, project: str) -> "ErasedEvents":
        """Read the topic of the erasures; nothing connects before the first call."""
        client = redis_clients.connect(settings)
        return cls(lambda: erasures.read(settings), client, erasures.notice_key(project))

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()

    async def check(self) -> bool:
        """Read the erasures again if there are new ones; return whether there are."""
        noticed = await self._client.get(self._key)
        if noticed == self._noticed:
            return False
        await self.refresh()
        self._noticed = noticed
        return True

    @property
    def are_known(self) -> bool:
        """Whether any subject was erased."""
        return bool(self._subjects)

    def note_topics(self, topic_ids: Mapping[str, str]) -> None:
        """Take the ids of the source topics: offsets in an erasure are of one topic."""
        self._topic_ids = dict(topic_ids)
        self._take(self._known)

    async def refresh(self) -> None:
        """Read the erasures again. Raises `KafkaError`."""
        found = list(await asyncio.to_thread(self._read))
        if found != list(self._known):
            self._take(found)
            log.info("features.erasures_read", erasures=len(found))

    def is_erased(self, logic: ViewLogic, event: Event) -> bool:
        """Return whether an event of a view is of a subject that was erased after it."""
        entity, source = logic.entity(event.value), logic.view.source
        if not self._subjects or entity is None or source is None:
            return False
        return any(
            self._subjects.covers(each, source.topic, event.source_partition, event.source_offset)
            for each in self._of(logic, entity)
        )

    def kept(self, logic: ViewLogic, events: Sequence[Event]) -> Sequence[Event]:
        """Return the other events of a view."""
        if not self._subjects:
            return events
        return [event for event in events if not self.is_erased(logic, event)]

    def has(self, logic: ViewLogic, entity: Entity) -> bool:
        """Return whether an entity was erased, now or earlier: then its row may be gone."""
        return bool(self._subjects and self._of(logic, entity))

    def _take(self, found: Sequence[Erasure]) -> None:
        self._known, self._subjects = found, ErasedSubjects(found, self._topic_ids)
        self._remembered.clear()

    def _of(self, logic: ViewLogic, entity: Entity) -> Sequence[Erasure]:
        """Return the erasures of an entity of a view."""
        name = (logic.view.name, entity)
        found = self._remembered.get(name)
        if found is None:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            parts = {key.name: value for key, value in zip(logic.view.join_keys, entity, strict=True)}
            found = self._remembered[name] = self._subjects.of(parts)
        return found

"""Notices that a topic which is read was deleted and recreated: its offsets then mean other records."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from services.monitoring import topic_identity
from services.runtime.recreated_topics import TopicRecreatedError

CHECK_SECONDS = 30.0
"""Time between two checks of topics from which nothing is committed; each opens a connection."""

TopicIds = Callable[[Iterable[str]], Mapping[str, str]]
"""Returns the id of each of some topics that exists; blocking."""


class TopicWatch:
    """Compares the topics that are read with those whose partitions were started."""

    def __init__(self, topic_ids: TopicIds) -> None:
        """Take the function that asks the broker; nothing is watched yet."""
        self._topic_ids = topic_ids
        self._sources: dict[str, str] = {}
        self._checked_seconds = time.monotonic()

    async def start(self, topics: Collection[str]) -> Mapping[str, str]:
        """Watch topics from now on; return the digest of each one's identity, empty without an id."""
        found = dict.fromkeys(topics, "") | await self._found(topics)
        self._sources |= found
        return found

    async def check_due(self) -> None:
        """Check the topics once in `CHECK_SECONDS`; see `check`."""
        if time.monotonic() - self._checked_seconds >= CHECK_SECONDS:
            await self.check()

    async def check(self) -> None:
        """Raise `TopicRecreatedError` if a topic is another one than when it was started.

        What was read of it since the last check must not be committed: it may be of the new topic.
        """
        self._checked_seconds = time.monotonic()
        for topic, now in (await self._found(self._sources)).items():
            if now and self._sources[topic] and now != self._sources[topic]:
                raise TopicRecreatedError(f"the topic {topic} was recreated: it is read from its start")

    async def _found(self, topics: Collection[str]) -> dict[str, str]:
        ids = await asyncio.to_thread(self._topic_ids, list(topics)) if topics else {}
        identities = {topic: topic_identity.identity(topic, found) for topic, found in ids.items() if found}
        return {topic: topic_identity.source_of(identity) for topic, identity in identities.items()}

"""Notices that a topic which is read was deleted and recreated: its offsets then mean other records.

A `KafkaConsumer` has the ids of topics in its metadata: see `services.runtime.recreated_topics`. aiokafka has
none, so processes with an event loop ask over a connection of their own.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from services.runtime import kafka_admin, topic_identity

CHECK_SECONDS = 10.0
"""Time between two checks of topics from which nothing is committed."""

FindIds = Callable[[Collection[str]], Mapping[str, str]]
"""Returns the id of each of some topics that exists and has one; blocking."""


class TopicIds:
    """Asks the broker for the ids of topics, over one connection for all threads of a process."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Take the connection, see `Settings.kafka_options`; nothing connects before the first call."""
        self._options = options
        self._lock = threading.Lock()
        self._connection = contextlib.ExitStack()
        self._admin: KafkaAdminClient | None = None

    def __call__(self, names: Collection[str]) -> dict[str, str]:
        """Return the id of each of these topics that exists and has one; connect again if that is needed.

        Raises:
            KafkaError: The broker cannot be reached.
        """
        with self._lock:
            if self._admin is not None:
                with contextlib.suppress(KafkaError):
                    return self._found(self._admin, names)
                self._disconnect()
            self._admin = self._connection.enter_context(kafka_admin.connected(self._options))
            return self._found(self._admin, names)

    def close(self) -> None:
        """Disconnect."""
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        self._admin = None
        self._connection.close()

    @staticmethod
    def _found(admin: KafkaAdminClient, names: Collection[str]) -> dict[str, str]:
        described = admin.describe_topics(list(names)) if names else []
        found = {each["name"]: each.get("topic_id") for each in described if not each.get("error_code")}
        return {name: str(topic_id) for name, topic_id in found.items() if topic_id}


class TopicWatch:
    """Compares the topics that are read with those whose reading began."""

    def __init__(self, find_ids: FindIds) -> None:
        """Take the function that asks the broker; nothing is watched yet."""
        self._find_ids = find_ids
        self._checked_seconds = time.monotonic()
        self.ids: dict[str, str] = {}
        """Id of each topic when its reading began; without those that did not exist or had none."""

    async def start(self, topics: Collection[str]) -> Mapping[str, str]:
        """Watch topics from now on; return the id of each that exists and has one."""
        found = await self._found(topics)
        others = {topic: known for topic, known in self.ids.items() if topic not in topics}
        self.ids = {**others, **found}
        return found

    async def recreated(self) -> list[str]:
        """Return the topics that are another one than when their reading began."""
        self._checked_seconds = time.monotonic()
        return topic_identity.recreated(self.ids, await self._found(self.ids))

    async def check_due(self) -> None:
        """Check the topics once in `CHECK_SECONDS`; see `check`."""
        if time.monotonic() - self._checked_seconds >= CHECK_SECONDS:
            await self.check()

    async def check(self) -> None:
        """Raise `TopicRecreatedError` if a topic is another one than when its reading began.

        What was read of it since the last check must not be committed: it may be of the new topic.
        """
        self._checked_seconds = time.monotonic()
        topic_identity.require_same(self.ids, await self._found(self.ids))

    async def _found(self, topics: Collection[str]) -> Mapping[str, str]:
        return await asyncio.to_thread(self._find_ids, list(topics)) if topics else {}

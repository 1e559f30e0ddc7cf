"""The maximum record size of each topic, as the broker states it."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.topics import MESSAGE_BYTES_MAX

AGE_SECONDS_MAX = 60.0
"""Maximum age of a limit before it is read again: an operator may have raised it."""


class TopicLimits:
    """Asks the broker once a minute at most; only large records need it."""

    def __init__(self, kafka_options: Mapping[str, Any]) -> None:
        """Take the connection's options; nothing connects before `bytes_max`."""
        self._options = dict(kafka_options)
        self._known: dict[str, tuple[float, int | None]] = {}

    async def bytes_max(self, topic: str) -> int | None:
        """Return the limit of a topic; None if the broker does not state it, e.g. for lack of permission.

        Raises:
            KafkaError: The broker cannot be reached.
        """
        asked_seconds, limit = self._known.get(topic, (float("-inf"), None))
        if time.monotonic() - asked_seconds > AGE_SECONDS_MAX:
            limit = await self._ask(topic)
            self._known[topic] = time.monotonic(), limit
        return limit

    async def _ask(self, topic: str) -> int | None:
        client = AIOKafkaAdminClient(**self._options)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(client.close)
            await client.start()
            wanted = ConfigResource(ConfigResourceType.TOPIC, topic, configs={MESSAGE_BYTES_MAX: None})
            (response,) = await client.describe_configs([wanted])
        entries = [entry for resource in response.resources for entry in resource[4]]
        return next((int(entry[1]) for entry in entries if entry[0] == MESSAGE_BYTES_MAX and entry[1]), None)

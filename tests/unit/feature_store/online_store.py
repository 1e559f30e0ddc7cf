"""An online store in memory that executes a reader's encoded commands."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.feature_store.online_reader import OnlineReader
from services.feature_store.plan import ServicePlan
from services.runtime.redis_commands import decode
from services.runtime.redis_pipeline import AsyncPipeline

Hashes = Mapping[bytes, Mapping[bytes, bytes]]


class MemoryPipeline(AsyncPipeline):
    """Replies to HMGET from hashes, and with the lowest of an order of watermarks, by key."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        self.client: Any = None
        self.batches: tuple[list[tuple[Any, ...]], ...] = ()
        """The batches of the last exchange, each command decoded."""

    async def exchange(self, *batches: Sequence[bytes]) -> list[Any]:
        self.batches = tuple(list(decode(batch)) for batch in batches)
        return [self._execute(*command) for batch in self.batches for command in batch]

    def _execute(self, name: str, key: bytes, *fields: bytes) -> list[bytes | None]:
        values = self._hashes.get(key, {})
        if name == "ZRANGE":
            marks = sorted((int(value), field) for field, value in values.items())
            return [part for mark, field in marks[:1] for part in (field, b"%d" % mark)]
        assert name == "HMGET"
        return [values.get(field) for field in fields]


def reader_of(service: ServicePlan, hashes: Hashes, *, detailed: bool = False) -> OnlineReader:
    return OnlineReader(service, MemoryPipeline(hashes), detailed=detailed)

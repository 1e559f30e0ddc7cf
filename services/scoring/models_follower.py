"""The follower of the models topic. The topic is the state: nothing is committed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.scoring.model_cache import ModelSet
from streams import records, topics

log = structlog.get_logger()


class ModelFollower:
    """Reads every record of the models topic, from the first on, and tells the models that are served."""

    def __init__(self, kafka_options: Mapping[str, Any]) -> None:
        """Take the connection's options; nothing connects before `running`."""
        self._sets: dict[str, ModelSet] = {}
        self._latest: dict[str, records.ModelChanged] = {}
        self._partition = TopicPartition(topics.MODELS.name, 0)
        self._options = dict(kafka_options)
        self._asker: AIOKafkaConsumer | None = None
        """Asks for the topic's end on a connection of its own: on the other one each question would wait
        behind a fetch that waits for records."""
        self._read = asyncio.Condition()
        self._position = 0
        self._caught_up = False

    def add(self, models: ModelSet) -> None:
        """Tell a model of its changes, of the latest one at once."""
        self._sets[models.name] = models
        if models.name in self._latest:
            models.change(self._latest[models.name], lazily=True)

    def remove(self, name: str) -> None:
        """Tell a model nothing more."""
        del self._sets[name]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read what there is, then follow until the block ends."""
        consumer = AIOKafkaConsumer(**self._options, enable_auto_commit=False)
        self._asker = AIOKafkaConsumer(**self._options)
        await asyncio.gather(consumer.start(), self._asker.start())
        consumer.assign([self._partition])
        await consumer.seek_to_beginning(self._partition)
        task = asyncio.create_task(self._follow(consumer), name="models")
        try:
            await self._reach_end()
            self._caught_up = True
            for name in self._sets.keys() & self._latest.keys():
                self._sets[name].change(self._latest[name], lazily=True)
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await asyncio.gather(consumer.stop(), self._asker.stop())

    async def catch_up(self, name: str) -> None:
        """Wait until every change of a model that was published before this call has been dealt with."""
        await self._reach_end()
        await self._sets[name].settled()

    async def _reach_end(self) -> None:
        assert self._asker is not None, "running() first"
        end = (await self._asker.end_offsets([self._partition]))[self._partition]
        async with self._read:
            await self._read.wait_for(lambda: self._position >= end)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        decode = records.decoder_of(records.ModelChanged).decode
        while True:
            fetched = await consumer.getmany(self._partition, timeout_ms=500)
            for record in fetched.get(self._partition, ()):
                self._take(record, decode)
            async with self._read:
                self._position = await consumer.position(self._partition)
                self._read.notify_all()

    def _take(self, record: Any, decode: Callable[[bytes], records.ModelChanged]) -> None:
        if record.value is None:
            return
        try:
            change = decode(record.value)
        except ValueError as error:
            log.error("model_change.invalid", offset=record.offset, error=str(error))  # noqa: TRY400  # no stack needed
            return
        self._latest[change.model] = change
        if self._caught_up and change.model in self._sets:
            self._sets[change.model].change(change)

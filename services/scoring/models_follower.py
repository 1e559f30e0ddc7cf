"""The follower of the models topic. The topic holds the state: no offset is committed.

After any error it connects again and continues at its position; if the topic was truncated or recreated, it
reads the topic from its start. Until then the previous arms stay in effect.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.model_registry import model_change
from services.runtime import metrics
from services.runtime.supervised_task import SupervisedTask
from services.scoring.model_versions import ModelVersions
from streams import feature_sets, records, topics
from streams.aiokafka_internals import stop_consumer

log = structlog.get_logger()


class ModelsFollower:
    """Reads every record of the models topic from its start and applies it to the deployed models."""

    def __init__(
        self,
        kafka_options: Mapping[str, Any],
        new_consumer: Callable[..., Any] = AIOKafkaConsumer,
        topic: str = topics.MODELS.name,
    ) -> None:
        """Take the connection's options; nothing connects before `running`."""
        self._new_consumer = new_consumer
        self._models: dict[str, ModelVersions] = {}
        self._latest: dict[str, records.ModelChanged] = {}
        self.feature_sets: set[bytes] = set()
        """Keys of the sets of feature names that are published; see `streams.feature_sets`."""
        self._partition = TopicPartition(topic, 0)
        self._options = {
            **kafka_options,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
        }
        self._task = SupervisedTask("models topic", self._follow)
        self._end_consumer: AIOKafkaConsumer | None = None
        """Requests the topic's end offset on a separate connection: on the other one each such request would
        wait for the end of a fetch that waits for records."""
        self._progress = asyncio.Condition()
        self._position = 0
        self._is_caught_up = False

    def add(self, versions: ModelVersions) -> None:
        """Apply changes to a model from now on, the latest one at once."""
        self._models[versions.name] = versions
        if versions.name in self._latest:
            versions.change(self._latest[versions.name], lazily=True)

    def remove(self, name: str) -> None:
        """Apply no further changes to a model."""
        del self._models[name]

    @property
    def failure(self) -> str | None:
        """Why changes of the models are not read now; None while they are."""
        return self._task.failure

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read the topic to its end, then follow it until the block ends."""
        async with self._connected() as self._end_consumer, self._task.running():
            await self._reach_end()
            self._is_caught_up = True
            for name in self._models.keys() & self._latest.keys():
                self._models[name].change(self._latest[name], lazily=True)
            yield

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = self._new_consumer(**self._options)
        try:
            await consumer.start()
            yield consumer
        finally:
            await stop_consumer(consumer)

    async def catch_up(self, name: str) -> None:
        """Wait until every change of a model published before this call is in effect or has failed."""
        await self._reach_end()
        await self._models[name].settled()

    async def _reach_end(self) -> None:
        assert self._end_consumer is not None, "running() first"
        end = (await self._end_consumer.end_offsets([self._partition]))[self._partition]
        async with self._progress:
            await self._progress.wait_for(lambda: self._position >= end)

    async def _follow(self) -> None:
        async with self._connected() as consumer:
            consumer.assign([self._partition])
            consumer.seek(self._partition, self._position)
            while True:
                fetched = await consumer.getmany(self._partition, timeout_ms=500)
                for record in fetched.get(self._partition, ()):
                    self._take(record)
                async with self._progress:
                    self._position = await consumer.position(self._partition)
                    self._progress.notify_all()

    def _take(self, record: Any) -> None:
        try:
            change = model_change.decode_any(record.value)
        except model_change.InvalidChangeError as error:
            metrics.MODEL_CHANGES_INVALID.inc()
            log.error("model_change.invalid", offset=record.offset, error=str(error))  # noqa: TRY400  # the error says all
            return
        if isinstance(change, records.FeatureSet):
            self.feature_sets.add(feature_sets.key_of(change))
            return
        if change is None:
            return
        self._latest[change.model] = change
        if self._is_caught_up and change.model in self._models:
            self._models[change.model].change(change)

"""The loaded versions of one model, swapped without stopping, and the follower of the models topic."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from services import telemetry
from services.scoring.routing import Routes
from streams import records, topics

log = structlog.get_logger()

CHAMPION = "champion"


class LoadedModel(Protocol):
    """A model that is ready to score."""

    def predict(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Return the scores (n,) of n rows given as columns by feature name."""


Load = Callable[[str, int], LoadedModel]
"""Loads one version of a named model; blocking."""


@dataclasses.dataclass(frozen=True)
class Serving:
    """What scores at one moment; replaced as a whole, never changed."""

    routes: Routes = dataclasses.field(default_factory=Routes)
    models: Mapping[int, LoadedModel] = dataclasses.field(default_factory=dict)


class ModelSet:
    """The versions of one model. A change is loaded beside the old ones and takes over at once."""

    def __init__(self, name: str, load: Load) -> None:
        """Start without a model: requests are collected."""
        self.name = name
        self.serving = Serving()
        self._load = load

    async def apply(self, change: records.ModelChanged) -> None:
        """Load what is missing, then swap. When a version does not load, everything stays as it is."""
        routes = Routes.of(change.arms)
        try:
            models = {version: await self._version(version) for version in routes.versions}
        except Exception:
            telemetry.MODEL_LOAD_FAILURES.labels(self.name).inc()
            log.exception("model.not_loaded", model=self.name, versions=sorted(routes.versions))
            return
        self.serving = Serving(routes, models)
        self._publish(change.arms)
        log.info("model.swapped", model=self.name, versions=sorted(models), reason=change.reason)

    async def _version(self, version: int) -> LoadedModel:
        loaded = self.serving.models.get(version)
        return loaded if loaded is not None else await asyncio.to_thread(self._load, self.name, version)

    def _publish(self, arms: list[records.Arm]) -> None:
        telemetry.MODEL_INFO.clear()
        for arm in arms:
            telemetry.MODEL_INFO.labels(self.name, arm.name, str(arm.version)).set(1)


class ModelFollower:
    """Applies every record of the models topic, from the first on. The topic is the state: no commits."""

    def __init__(self, kafka_options: Mapping[str, Any], sets: Mapping[str, ModelSet]) -> None:
        """Follow for these models; records of others are passed over."""
        self._sets = sets
        self._partition = TopicPartition(topics.MODELS.name, 0)
        self._options = dict(kafka_options)
        self._asker: AIOKafkaConsumer | None = None
        """Asks for the topic's end on a connection of its own: on the other one each question would wait
        behind a fetch that waits for records."""
        self._applied = asyncio.Condition()
        self._position = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Catch up, then follow until the block ends."""
        consumer = AIOKafkaConsumer(**self._options, enable_auto_commit=False)
        self._asker = AIOKafkaConsumer(**self._options)
        await asyncio.gather(consumer.start(), self._asker.start())
        consumer.assign([self._partition])
        await consumer.seek_to_beginning(self._partition)
        task = asyncio.create_task(self._follow(consumer), name="models")
        try:
            await self.catch_up()
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await asyncio.gather(consumer.stop(), self._asker.stop())

    async def catch_up(self) -> None:
        """Wait until every change that was published before this call is applied."""
        assert self._asker is not None, "running() first"
        end = (await self._asker.end_offsets([self._partition]))[self._partition]
        async with self._applied:
            await self._applied.wait_for(lambda: self._position >= end)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        decode = records.decoder_of(records.ModelChanged).decode
        while True:
            fetched = await consumer.getmany(self._partition, timeout_ms=500)
            for record in fetched.get(self._partition, ()):
                await self._apply(record, decode)
            async with self._applied:
                self._position = await consumer.position(self._partition)
                self._applied.notify_all()

    async def _apply(self, record: Any, decode: Callable[[bytes], records.ModelChanged]) -> None:
        if record.value is None:
            return
        try:
            change = decode(record.value)
        except ValueError as error:
            log.error("model_change.invalid", offset=record.offset, error=str(error))  # noqa: TRY400  # no stack needed
            return
        if change.model in self._sets:
            await self._sets[change.model].apply(change)

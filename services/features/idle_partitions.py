"""Source partitions in which nothing happens must not hold the watermark back, if their source says so.

A source declares it by the tag ``idle_seconds``. Into a partition that has grown by nothing for that long
on the wall clock, a heartbeat is written: it promises what the slowest of the others promises, or, if all
are idle, the fastest. So idleness is decided once and stands in the log, where each replay finds it again;
and a served value stays final, because an event that comes later and is further behind than the lateness
goes to the late topic.

Every features process watches all partitions of the source, by the ends of their logs, so that a worker
that is slow or gone never makes a partition idle. What one process writes is activity to the others; that
two write at once is harmless.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from services.features.decoder import SourceReader
from services.runtime import metrics, watermarks
from services.runtime.watermarks import NEVER
from streams import codec
from streams.producer import BatchProducer

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""Between two looks at the ends of the logs: also the most heartbeats of an idle partition."""


class Silence:
    """How long the partitions of one topic have not grown. Pure."""

    def __init__(self, idle_ms: int) -> None:
        """Take what counts as idle."""
        self._idle_ms = idle_ms
        self._ends: dict[int, _End] = {}

    def idle(self, ends: Mapping[int, int], now_ms: int) -> set[int]:
        """Return the idle ones of these partitions, given the offsets at which their logs end now."""
        for partition, offset in ends.items():
            known = self._ends.get(partition)
            if known is None or known.offset != offset:
                self._ends[partition] = _End(offset, now_ms)
        return {partition for partition in ends if now_ms - self._ends[partition].since_ms >= self._idle_ms}

    def expect(self, partition: int) -> None:
        """Take one more record of a partition for our own."""
        known = self._ends[partition]
        self._ends[partition] = _End(known.offset + 1, known.since_ms)


@dataclasses.dataclass(frozen=True, slots=True)
class _End:
    offset: int
    since_ms: int


def promises(watermarks_ms: Mapping[int, int], idle: Collection[int], partitions: int) -> dict[int, int]:
    """Return what to promise in the idle partitions that are behind.

    Nothing, as long as one that is not idle has not been heard of.
    """
    known_ms = {number: watermarks_ms.get(number, NEVER) for number in range(partitions)}
    active = [watermark_ms for number, watermark_ms in known_ms.items() if number not in idle]
    reached_ms = min(active) if active else max(known_ms.values())
    return {number: reached_ms for number in idle if known_ms[number] < reached_ms}


class IdleWatch:
    """Watches the sources that declare when their partitions are idle."""

    def __init__(
        self,
        readers: Sequence[SourceReader],
        redis_client: Any,
        producer: BatchProducer,
        kafka_options: Mapping[str, Any],
    ) -> None:
        """Take the readers of all sources, a `redis.asyncio.Redis` of its own, and the process's producer."""
        self._silences = {
            reader: Silence(reader.source.idle_ms) for reader in readers if reader.source.idle_ms
        }
        self._redis = redis_client
        self._producer = producer
        self._kafka_options = kafka_options

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch until the block ends."""
        watching = asyncio.create_task(self._watch(), name="idle watch") if self._silences else None
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching
            await self._redis.aclose()

    async def _watch(self) -> None:
        while True:
            try:
                await self._look_again_and_again()
            except (KafkaError, RedisError, OSError) as error:
                log.warning("features.idle_watch_failed", error=repr(error))
                await asyncio.sleep(LOOK_SECONDS)

    async def _look_again_and_again(self) -> None:
        consumer = AIOKafkaConsumer(**self._kafka_options, enable_auto_commit=False)
        try:
            await consumer.start()
            while True:
                for reader, silence in self._silences.items():
                    await self._look(consumer, reader, silence)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await consumer.stop()

    async def _look(self, consumer: AIOKafkaConsumer, reader: SourceReader, silence: Silence) -> None:
        topic = reader.source.topic
        partitions = await self._producer.partitions(topic)
        found = await consumer.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
        ends = {place.partition: offset for place, offset in found.items()}
        idle = silence.idle(ends, time.monotonic_ns() // 1_000_000)
        metrics.FEATURE_IDLE_PARTITIONS.labels(topic).set(len(idle))
        for number, watermark_ms in promises(await self._shared(reader), idle, partitions).items():
            silence.expect(number)
            await self._producer.send(topic, number, [(None, None, codec.heartbeat(watermark_ms))])

    async def _shared(self, reader: SourceReader) -> dict[int, int]:
        """Add to what all processes have read of the topic, and return it."""
        key = watermarks.key(f"source.{reader.source.topic}")
        known = {int(number): int(value) for number, value in (await self._redis.hgetall(key)).items()}
        ahead = {
            number: watermark_ms
            for number, watermark_ms in reader.watermarks_ms.items()
            if watermark_ms > known.get(number, NEVER)
        }
        if ahead:
            await self._redis.hset(key, mapping={str(number): value for number, value in ahead.items()})
        return known | ahead

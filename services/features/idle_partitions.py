"""Heartbeats for idle source partitions, so that they do not hold the watermark back.

A source enables it by the tag ``idle_seconds``. If a partition's log has not grown for that wall time, a
heartbeat is written into it. Its time is the lowest watermark of the partitions that are not idle, or, if all
are idle, the highest of all, but never ahead of the wall time: a fast clock moves its own partition only. So
each decision is a record of the log, and every replay finds it again. A served value stays final: an event
that arrives later, and is older than the watermark by more than the lateness, goes to the late topic.

Every features process watches all partitions of the source by the end offsets of their logs. So a worker that
is slow or stopped never makes a partition idle. A heartbeat of one process counts as activity for the others;
two heartbeats at the same time do no harm.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.features.decoder import SourceDecoder
from services.runtime import metrics, times, watermarks
from services.runtime.supervised_task import SupervisedTask
from services.runtime.watermarks import NEVER
from streams import codec
from streams.aiokafka_internals import stop_consumer
from streams.producer import BatchProducer

POLL_SECONDS = 1.0
"""Interval between two reads of the end offsets; also the shortest between heartbeats of one partition."""


class IdleDetector:
    """Detects which partitions of one topic have not grown for a time. Pure."""

    def __init__(self, idle_ms: int) -> None:
        """Take the time without growth after which a partition is idle."""
        self._idle_ms = idle_ms
        self._ends: dict[int, _LogEnd] = {}

    def idle(self, ends: Mapping[int, int], now_ms: int) -> set[int]:
        """Return the idle partitions, given the end offset of each log now."""
        for partition, offset in ends.items():
            known = self._ends.get(partition)
            if known is None or known.offset != offset:
                self._ends[partition] = _LogEnd(offset, now_ms)
        return {partition for partition in ends if now_ms - self._ends[partition].since_ms >= self._idle_ms}

    def expect_heartbeat(self, partition: int) -> None:
        """Do not count the next record of a partition as growth: it is our own heartbeat."""
        known = self._ends[partition]
        self._ends[partition] = _LogEnd(known.offset + 1, known.since_ms)


@dataclasses.dataclass(frozen=True, slots=True)
class _LogEnd:
    offset: int
    since_ms: int


def heartbeats_due(
    watermarks_ms: Mapping[int, int], idle: Collection[int], partitions: int, idle_ms: int, now_ms: int
) -> dict[int, int]:
    """Return the heartbeat to write into each idle partition whose watermark is lower.

    There is none while a partition that is not idle has no watermark. No heartbeat is ahead of the wall time,
    whatever a fast clock has written. If all partitions are idle, it is not after their last record either:
    events that are on their way may be as old as that.

    Args:
        watermarks_ms: The watermark of each partition that has one.
        idle: The idle partitions.
        partitions: Their number.
        idle_ms: Wall time since the last record of an idle partition, at least.
        now_ms: The wall time.
    """
    known_ms = {number: watermarks_ms.get(number, NEVER) for number in range(partitions)}
    active = [watermark_ms for number, watermark_ms in known_ms.items() if number not in idle]
    reached_ms = min(*active, now_ms) if active else min(max(known_ms.values()), now_ms - idle_ms)
    return {number: reached_ms for number in idle if known_ms[number] < reached_ms}


class IdleWatch:
    """Watches the sources that have the tag ``idle_seconds``."""

    def __init__(
        self,
        decoders: Sequence[SourceDecoder],
        redis_client: Any,
        producer: BatchProducer,
        kafka_options: Mapping[str, Any],
    ) -> None:
        """Take the decoders of all sources, a `redis.asyncio.Redis` to own, and the process's producer."""
        self._detectors = {
            decoder: IdleDetector(decoder.source.idle_ms) for decoder in decoders if decoder.source.idle_ms
        }
        self._redis = redis_client
        self._producer = producer
        self._kafka_options = kafka_options
        self._task = SupervisedTask("idle watch", self._watch)

    @property
    def failure(self) -> str | None:
        """Why idle partitions are not watched now: watermarks stop there; None while they are."""
        return self._task.failure

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch until the block ends."""
        try:
            async with self._task.running() if self._detectors else contextlib.nullcontext():
                yield
        finally:
            await self._redis.aclose()

    async def _watch(self) -> None:
        consumer = AIOKafkaConsumer(**self._kafka_options, enable_auto_commit=False)
        try:
            await consumer.start()
            while True:
                for decoder, detector in self._detectors.items():
                    await self._poll(consumer, decoder, detector)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            await stop_consumer(consumer)

    async def _poll(self, consumer: AIOKafkaConsumer, decoder: SourceDecoder, detector: IdleDetector) -> None:
        topic = decoder.source.topic
        partitions = await self._producer.partitions(topic)
        found = await consumer.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
        ends = {tp.partition: offset for tp, offset in found.items()}
        idle = detector.idle(ends, time.monotonic_ns() // 1_000_000)
        metrics.FEATURE_IDLE_PARTITIONS.labels(topic).set(len(idle))
        due = heartbeats_due(
            await self._shared(decoder), idle, partitions, decoder.source.idle_ms, times.now_ms()
        )
        for number, watermark_ms in due.items():
            detector.expect_heartbeat(number)
            await self._producer.send(topic, number, [(None, None, codec.heartbeat(watermark_ms))])

    async def _shared(self, decoder: SourceDecoder) -> dict[int, int]:
        """Return the highest watermarks of all processes; publish this process's where they are higher."""
        key = watermarks.key(f"source.{decoder.source.topic}")
        known = {int(number): int(value) for number, value in (await self._redis.hgetall(key)).items()}
        higher = {
            number: watermark_ms
            for number, watermark_ms in decoder.watermarks_ms.items()
            if watermark_ms > known.get(number, NEVER)
        }
        if higher:
            await self._redis.hset(key, mapping={str(number): value for number, value in higher.items()})
        return known | higher

"""One life of an aiokafka producer: from its producer id to the first batch that fails."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from streams import aiokafka_internals

BATCH_BYTES_MAX = 512 << 10
"""Maximum size of a batch of several records; a larger record is a batch alone."""
REQUEST_TIMEOUT_MS = 30_000


class ProducerConnection:
    """An idempotent producer that takes packed batches.

    Each batch takes its sequence numbers when it is sent. A batch that fails does not give them back, so
    that the broker refuses every later batch of its partition. Therefore a connection is used up
    (`is_broken`) when a batch has failed.
    """

    def __init__(self, kafka_options: Mapping[str, Any], compression: str | None = None) -> None:
        """Take the connection's options; nothing connects before `start`."""
        self.is_broken = False
        self._is_closed = False
        self._deliveries: set[asyncio.Task[None]] = set()
        self._producer = AIOKafkaProducer(
            **kafka_options,
            acks="all",
            enable_idempotence=True,
            compression_type=compression,
            max_batch_size=BATCH_BYTES_MAX,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        aiokafka_internals.send_concurrently(self._producer)
        aiokafka_internals.wrap_sequence_numbers(self._producer)

    async def start(self) -> None:
        """Connect; raise `KafkaError` if no broker responds."""
        try:
            await self._producer.start()
        except BaseException:
            await self.close(0.0)
            raise

    def create_batch(self) -> Any:
        """Return an empty batch of up to `BATCH_BYTES_MAX`; its first record may be larger."""
        return self._producer.create_batch()

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic."""
        return len(await self._producer.partitions_for(topic))

    async def deliver(self, batch: Any, topic: str, partition: int) -> None:
        """Write a batch; return when the broker has acknowledged it.

        A caller that is cancelled during the write does not know whether the batch is written.

        Raises:
            KafkaError: It is not written, or not known to be.
        """
        delivery = asyncio.create_task(self._deliver(batch, topic, partition))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)
        try:
            await delivery
        except asyncio.CancelledError:
            if not self._is_closed or _is_cancelling():
                raise
            raise _closed() from None

    async def _deliver(self, batch: Any, topic: str, partition: int) -> None:
        try:
            acknowledged = await self._producer.send_batch(batch, topic, partition=partition)
        except Exception:
            self.is_broken |= aiokafka_internals.has_ended(self._producer)
            raise
        try:
            await acknowledged
        except Exception:
            self.is_broken = True
            raise

    async def close(self, patience_seconds: float) -> None:
        """Wait for the batches in flight for at most this time, and disconnect; the others fail."""
        self._is_closed = True
        pending = {*self._deliveries, asyncio.create_task(self._producer.flush())}
        await asyncio.wait(pending, timeout=patience_seconds)
        for each in pending:
            each.cancel()
        await aiokafka_internals.abandon(self._producer, _closed())


def _closed() -> KafkaConnectionError:
    return KafkaConnectionError("the producer was closed before the broker had acknowledged the batch")


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

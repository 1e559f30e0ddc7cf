"""Writes whole batches to a chosen partition, and dead letters."""

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka.errors import (
    InvalidProducerIdMapping,
    InvalidTimestampError,
    KafkaConnectionError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    RecordListTooLargeError,
    UnknownProducerId,
)
from aiokafka.partitioner import murmur2

from streams import dead_letters, records, topics
from streams.aiokafka_internals import RecordRefusedError
from streams.producer_connection import BATCH_BYTES_MAX, ProducerConnection
from streams.topic_limits import TopicLimits

Record = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]
"""Key, value, headers."""

SETTLE_SECONDS_MAX = 5.0
"""Maximum time that a new connection waits for the batches that the broken one has in flight."""
STOP_SECONDS_MAX = 5.0
"""Maximum time that the end of a process waits for acknowledgements; what has none is written again later."""

_SEQUENCE_LOST = (OutOfOrderSequenceNumber, UnknownProducerId, ProducerFenced, InvalidProducerIdMapping)
"""Nothing of the batch is written, and the records are not at fault: a new producer id resolves it."""
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_REFUSED = (*_TOO_LARGE, InvalidTimestampError, RecordRefusedError)
"""The broker refuses a record of the batch, and so the whole batch."""

_log = structlog.get_logger()


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, as the default partitioner of Kafka's Java client (murmur2)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class RecordTooLargeError(ValueError):
    """A record is larger than its topic takes. Waiting does not help: drop or shorten that record."""

    def __init__(self, topic: str, record: Record, size_bytes: int, bytes_max: int | None) -> None:
        """Take the record as it was given to `BatchProducer.send`, and the topic's limit if it is known."""
        limit = "the topic's limit" if bytes_max is None else f"{bytes_max} bytes"
        super().__init__(
            f"a record of {size_bytes} bytes for the topic {topic} exceeds {limit}: "
            "shorten the record, or raise max.message.bytes of the topic"
        )
        self.topic = topic
        self.record = record


@dataclasses.dataclass(frozen=True)
class _Packed:
    """A batch, and the records in it."""

    batch: Any
    records: Sequence[Record]


class BatchProducer:
    """Packs records into batches itself: about 15 times the rate of sending them one by one.

    The producer is idempotent: retries neither repeat nor reorder records of a partition. After a batch has
    failed for good, the next one goes over a new connection, so one failure never stops a partition.
    """

    def __init__(self, kafka_options: Mapping[str, Any], compression: str | None = None) -> None:
        """Take the connection's options and a codec of aiokafka; nothing connects before `start`."""
        self._options = dict(kafka_options)
        self._compression = compression
        self._limits = TopicLimits(kafka_options)
        self._connection: ProducerConnection | None = None
        self._connecting = asyncio.Lock()

    async def start(self) -> None:
        """Connect."""
        self._connection = await _connect(self._options, self._compression)

    async def stop(self, patience_seconds: float = STOP_SECONDS_MAX) -> None:
        """Wait for the remaining batches for at most this time, and disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(patience_seconds)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["BatchProducer"]:
        """Be connected until the block ends."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def send(self, topic: str, partition: int, batch: Iterable[Record]) -> None:
        """Write records to one partition in order; return when the broker has acknowledged all.

        Each request waits for the previous one: if one fails, no later record is in the partition, and
        sending the same records again repeats them in order. A dead letter that is too large is cut.

        Raises:
            RecordTooLargeError: A record is larger than the topic takes. None is written, unless only the
                broker's answer told it: then those before it may be.
            KafkaError: The broker cannot be reached, or refuses.
        """
        await self._deliver_all(topic, partition, await self._pack(topic, list(batch)))

    async def send_by_key(self, topic: str, batch: Sequence[Record]) -> None:
        """Write records to the partitions of their keys; return when the broker has acknowledged all.

        Raises as `send`: an error about one record leaves all partitions unwritten.
        """
        partitions = await self.partitions(topic)
        shares: dict[int, list[Record]] = {}
        for record in batch:
            shares.setdefault(partition_of(record[0] or b"", partitions), []).append(record)
        packed = {partition: await self._pack(topic, share) for partition, share in shares.items()}
        await asyncio.gather(
            *(self._deliver_all(topic, partition, share) for partition, share in packed.items())
        )

    async def send_dead_letters(self, letters: Sequence[records.DeadLetter]) -> None:
        """Write failed records to the dead-letter topic."""
        if letters:
            await self.send(topics.DEAD_LETTERS.name, 0, map(dead_letters.encode, letters))

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic."""
        return await (await self._connected()).partitions(topic)

    async def _connected(self) -> ProducerConnection:
        """Return a connection in which no batch has failed.

        A new one begins when the batches of the broken one are settled: else a batch that is still in flight
        there could be written after later ones.
        """
        async with self._connecting:
            if self._connection is None:
                raise KafkaConnectionError("the producer is not connected: it was not started, or is stopped")
            if self._connection.is_broken:
                await self._connection.close(SETTLE_SECONDS_MAX)
                self._connection = await _connect(self._options, self._compression)
                _log.warning("producer.renewed", reason="a batch had failed")
            return self._connection

    async def _pack(self, topic: str, batch: Sequence[Record]) -> list[_Packed]:
        """Pack records into batches, before one is sent: an error about one of them leaves all unwritten."""
        create_batch = (await self._connected()).create_batch
        packed: list[_Packed] = []
        start = 0
        while start < len(batch):
            if start:
                await asyncio.sleep(0)  # others' turn: a batch takes some milliseconds
            builder = create_batch()
            stop = _fill(builder, batch, start)
            if builder.size() > BATCH_BYTES_MAX and self._compression is None:
                # One record alone: a batch takes its first record whatever its size.
                packed.append(await self._fitted(topic, _Packed(builder, batch[start:stop])))
            else:
                packed.append(_Packed(builder, batch[start:stop]))
            start = stop
        return packed

    async def _fitted(self, topic: str, packed: _Packed) -> _Packed:
        """Return a batch of one record that the topic takes."""
        bytes_max = await self._limits.bytes_max(topic)
        if bytes_max is None or packed.batch.size() <= bytes_max:
            return packed
        return await self._shortened(topic, packed, bytes_max)

    async def _shortened(self, topic: str, packed: _Packed, bytes_max: int | None) -> _Packed:
        """Return a dead letter that is cut to a size, by default to half; raise for any other record."""
        (record,), size_bytes = packed.records, packed.batch.size()
        key, value, headers = record
        if topic != topics.DEAD_LETTERS.name or value is None:
            raise RecordTooLargeError(topic, record, size_bytes, bytes_max)
        shorter: Record = key, dead_letters.cut_value(value, bytes_max or size_bytes // 2), headers
        builder = (await self._connected()).create_batch()
        _fill(builder, [shorter], 0)
        if builder.size() >= size_bytes:  # nothing is left to cut
            raise RecordTooLargeError(topic, record, size_bytes, bytes_max)
        return _Packed(builder, [shorter])

    async def _deliver_all(self, topic: str, partition: int, packed: Sequence[_Packed]) -> None:
        for each in packed:
            await self._deliver(topic, partition, each)

    async def _deliver(self, topic: str, partition: int, packed: _Packed) -> None:
        packed.batch.close()
        try:
            await (await self._connected()).deliver(packed.batch, topic, partition)
        except _SEQUENCE_LOST:
            for again in await self._pack(topic, packed.records):
                again.batch.close()
                await (await self._connected()).deliver(again.batch, topic, partition)
        except _REFUSED as error:
            await self._deliver_all(topic, partition, await self._smaller(topic, packed, error))

    async def _smaller(self, topic: str, packed: _Packed, error: Exception) -> list[_Packed]:
        """Return the halves of a refused batch, until the record that is refused is alone."""
        if (count := len(packed.records)) > 1:
            halves = packed.records[: count // 2], packed.records[count // 2 :]
            return [part for half in halves for part in await self._pack(topic, half)]
        if isinstance(error, _TOO_LARGE):
            return [await self._shortened(topic, packed, None)]
        raise error


async def _connect(options: Mapping[str, Any], compression: str | None) -> ProducerConnection:
    connection = ProducerConnection(options, compression)
    await connection.start()
    return connection


def _fill(builder: Any, batch: Sequence[Record], start: int) -> int:
    """Append records from ``start`` on while they fit; return the position after the last one."""
    append = builder.append
    for key, value, headers in itertools.islice(batch, start, None):
        if append(timestamp=None, key=key, value=value, headers=headers) is None:
            break
    return start + int(builder.record_count())

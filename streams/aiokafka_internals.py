"""What Driftline uses of aiokafka beyond its documented interface, and nothing else.

A release may change what is here without notice. Therefore pyproject.toml pins one release of aiokafka,
and tests/contract/test_aiokafka_internals.py checks what is used.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer import fetcher
from aiokafka.errors import BrokerResponseError, CorruptRecordException, kafka_errors
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streams.header_names import MendsHeaderNames

SEQUENCES = 1 << 31
"""Sequence numbers of the records of a partition: 0 to 2^31 - 1, and then 0 again, as in Kafka's protocol."""
_CLOSE_SECONDS_MAX = 1.0
"""Maximum time to wait for requests in flight once their batches have failed."""


class RecordRefusedError(BrokerResponseError):  # type: ignore[misc]  # aiokafka's errors have no types
    """The broker does not take a record, for example one without a key in a compacted topic."""

    errno = 87
    message = "INVALID_RECORD"
    description = (
        "The broker refused a record that breaks a rule of its topic (a compacted topic needs a key)."
    )


kafka_errors.setdefault(RecordRefusedError.errno, RecordRefusedError)  # else: an UnknownError without a code


class _NeverFull(set[int]):
    """The brokers to which the sender has a request in flight: always empty."""

    def add(self, _node: int) -> None:
        pass

    def remove(self, _node: int) -> None:
        pass


def send_concurrently(producer: AIOKafkaProducer) -> None:
    """Let an unstarted producer send a broker the batches of several partitions at the same time.

    By default it sends a broker one request at a time, so that the batch of each partition waits for those of
    the others, and there is no option. The order within a partition is kept elsewhere: a partition with a
    batch in flight is muted.
    """
    producer._sender._in_flight = _NeverFull()


def wrap_sequence_numbers(producer: AIOKafkaProducer) -> None:
    """Let the sequence number after 2^31 - 1 be 0.

    aiokafka continues with -2^31, which brokers refuse: after 2^31 records to one partition, none would be
    written any more.
    """
    manager = producer._txn_manager

    def increment(partition: TopicPartition, increment: int) -> None:
        numbers = manager._sequence_numbers
        numbers[partition] = (numbers[partition] + increment) % SEQUENCES

    manager.increment_sequence_number = increment


def has_ended(producer: AIOKafkaProducer) -> bool:
    """Return whether the task that sends batches has ended: nothing is written any more."""
    task = producer._sender.sender_task
    return task is not None and task.done()


async def abandon(producer: AIOKafkaProducer, error: Exception) -> None:
    """Disconnect now: each batch without an acknowledgement fails with ``error``, and may yet be written.

    The documented ``stop`` waits for all batches, as long as the broker is away.
    """
    producer._closed = True
    producer._message_accumulator._closed = True
    producer._message_accumulator.fail_all(error)
    for batches in producer._message_accumulator._batches.values():
        for batch in batches:
            batch._drain_waiter.exception()  # nobody waits: else asyncio logs it as lost
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(producer._sender.close(), _CLOSE_SECONDS_MAX)
    await producer.client.close()


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Disconnect, also while the broker is away.

    The documented ``stop`` cancels the fetches in flight. One that waits before it tries again then ends the
    whole ``stop`` with a `CancelledError`, as if somebody had cancelled the caller, and the connections stay
    open.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    try:
        await asyncio.wait([stopping])
    finally:
        stopping.cancel()
    if not stopping.cancelled():
        stopping.result()
        return
    fetches = consumer._fetcher._pending_tasks
    for fetch in fetches:
        fetch.cancel()
    await asyncio.gather(*fetches, return_exceptions=True)
    await consumer._client.close()


def read_committed(consumer: AIOKafkaConsumer) -> None:
    """Let an unstarted consumer skip records of aborted transactions, and wait for the end of open ones.

    There is an option for it; this is for a consumer that another library makes.
    """
    consumer._isolation_level = "read_committed"


def commit_with(consumer: AIOKafkaConsumer, text_of: Callable[[str], str]) -> None:
    """Let a consumer commit a text with each offset, given by its topic.

    Offsets can be committed with a text; this is for a consumer whose commits another library makes.
    """
    commit = consumer.commit

    async def commit_with_text(offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        await commit({tp: OffsetAndMetadata(at.offset, text_of(tp.topic)) for tp, at in offsets.items()})

    consumer.commit = commit_with_text


async def committed(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Return the committed offsets with their texts; ``committed`` of the consumer returns no texts."""
    found: dict[TopicPartition, OffsetAndMetadata]
    found = await consumer._coordinator.fetch_committed_offsets(partitions)
    return found


class _MendingBatch(MendsHeaderNames, _DefaultRecordBatchPy):  # type: ignore[misc]  # it has no types
    pass


class _ReadableBatch:
    """A batch whose records the C extension decodes; those that it cannot read are decoded in Python."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        count = 0
        try:
            for record in self._batch:
                yield record
                count += 1
        except (UnicodeDecodeError, CorruptRecordException):
            yield from itertools.islice(_MendingBatch(self._raw), count, None)


class _ReadableRecords:
    """The batches of one fetch of a partition."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._slices = _MemoryRecordsPy(data)
        self.has_next, self.size_in_bytes = self._records.has_next, self._records.size_in_bytes

    def next_batch(self) -> Any:
        raw = self._slices._next_slice
        self._slices._cache_next()
        batch = self._records.next_batch()
        has_headers = raw is not None and raw[_MemoryRecordsPy.MAGIC_OFFSET] >= _MAGIC_OF_HEADERS
        return _ReadableBatch(batch, raw) if has_headers else batch


_MAGIC_OF_HEADERS = 2
"""The message format since Kafka 0.11; the earlier ones have no headers."""


fetcher.MemoryRecords = _ReadableRecords  # so all consumers read records whose headers' names are no text

"""What Driftline relies on beyond aiokafka's documented interface.

If one of these fails after aiokafka is upgraded, `streams.aiokafka_internals` needs another way.
"""

import asyncio
import importlib.metadata
import inspect
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaConnectionError, ProducerClosed, for_code
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender
from aiokafka.structs import TopicPartition

from streams import aiokafka_internals, outages
from streams.producer import partition_of
from tests.waiting import LIVENESS_SECONDS

LAST_SEQUENCE = 2**31 - 1
ROOT = Path(__file__).parents[2]
PYPROJECT = ROOT / "pyproject.toml"


def test_exactly_the_release_is_installed_that_pyproject_pins() -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    assert f"aiokafka[lz4,snappy,zstd]=={importlib.metadata.version('aiokafka')}" in dependencies


def test_the_sender_keeps_brokers_in_flight_in_a_set_and_passes_them_over() -> None:
    """It adds a broker when it sends, and removes it when the broker has answered."""

    async def make() -> AIOKafkaProducer:
        return AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")

    producer = asyncio.run(make())
    assert producer._sender._in_flight == set()
    source = inspect.getsource(Sender)
    for line in (
        "ignore_nodes=self._in_flight",
        "self._in_flight.add(node_id)",
        "self._in_flight.remove(node_id)",
    ):
        assert source.count(line) == 1
    assert source.count("_in_flight") == 4  # with the one that makes it


def test_a_partition_with_a_batch_in_flight_is_muted() -> None:
    """So the order within a partition does not depend on what is taken away here."""
    source = inspect.getsource(Sender)
    assert "muted_partitions = self._muted_partitions" in source
    assert "muted_partitions=muted_partitions" in source
    assert "self._muted_partitions.add(tp)" in source
    assert "if tp in muted_partitions" in inspect.getsource(MessageAccumulator.drain_by_nodes)


def test_a_producer_that_sends_concurrently_never_notes_a_broker() -> None:
    async def make() -> set[int]:
        producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
        aiokafka_internals.send_concurrently(producer)
        nodes: set[int] = producer._sender._in_flight
        nodes.add(1)
        nodes.remove(2)
        return nodes

    assert asyncio.run(make()) == set()


def test_the_sequence_number_after_the_last_one_is_zero() -> None:
    """Kafka's Java client (DefaultRecordBatch.incrementSequence) does the same; aiokafka goes to -2^31."""

    async def run() -> list[int]:
        producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", enable_idempotence=True)
        aiokafka_internals.wrap_sequence_numbers(producer)
        accumulator, partition = producer._message_accumulator, TopicPartition("t", 0)
        manager = accumulator._txn_manager
        assert manager is producer._txn_manager
        manager.set_pid_and_epoch(1, 0)
        manager._sequence_numbers[partition] = LAST_SEQUENCE - 1
        found = []
        for _ in range(3):
            builder = producer.create_batch()
            builder.append(timestamp=None, key=None, value=b"v")
            builder.append(timestamp=None, key=None, value=b"v")
            accumulator._append_batch(builder, partition)
            batch = accumulator._pop_batch(partition)
            found.append(batch._builder._builder.base_sequence)
        return found

    assert asyncio.run(run()) == [LAST_SEQUENCE - 1, 0, 2]


def test_a_batch_that_spans_the_last_sequence_number_goes_on_with_the_right_one() -> None:
    async def run() -> int:
        producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", enable_idempotence=True)
        aiokafka_internals.wrap_sequence_numbers(producer)
        manager, partition = producer._txn_manager, TopicPartition("t", 0)
        manager._sequence_numbers[partition] = LAST_SEQUENCE - 4
        manager.increment_sequence_number(partition, 10)
        return int(manager.sequence_number(partition))

    assert asyncio.run(run()) == 5


def test_an_abandoned_producer_fails_what_is_not_acknowledged() -> None:
    """It does so even if no broker responds; the documented `stop` then waits without end."""

    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", enable_idempotence=True)
        assert not aiokafka_internals.has_ended(producer)
        builder = producer.create_batch()
        builder.append(timestamp=None, key=None, value=b"v")
        waiting = await producer._message_accumulator.add_batch(builder, TopicPartition("t", 0), 1)
        await asyncio.wait_for(
            aiokafka_internals.abandon(producer, KafkaConnectionError("gone")), LIVENESS_SECONDS
        )
        with pytest.raises(KafkaConnectionError, match="gone"):
            await waiting
        assert producer._closed
        with pytest.raises(ProducerClosed):
            await producer._message_accumulator.add_batch(builder, TopicPartition("t", 0), 1)

    asyncio.run(run())


def test_a_producer_has_ended_when_the_task_of_its_sender_has() -> None:
    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", enable_idempotence=True)
        producer._sender._sender_task = asyncio.ensure_future(asyncio.sleep(0))
        assert not aiokafka_internals.has_ended(producer)
        await producer._sender._sender_task
        assert aiokafka_internals.has_ended(producer)
        producer._closed = True

    asyncio.run(run())


def test_the_code_of_a_refused_record_has_an_error_of_its_own() -> None:
    assert for_code(87) is aiokafka_internals.RecordRefusedError
    assert not outages.is_outage(for_code(87)())


@pytest.mark.parametrize(
    ("key", "hashed"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_murmur2_is_that_of_kafkas_java_client(key: bytes, hashed: int) -> None:
    """The values of Kafka's own UtilsTest."""
    assert _signed(murmur2(key)) == hashed
    assert partition_of(key, 7) == (hashed & 0x7FFFFFFF) % 7


def _signed(value: Any) -> int:
    return (int(value) & 0xFFFFFFFF) - (1 << 32 if int(value) & 0x80000000 else 0)


class Broken:
    """A broker that is away: every request fails."""

    async def send(self, *_: Any, **__: Any) -> None:
        raise KafkaConnectionError("gone")


async def fetching_in_vain() -> AIOKafkaConsumer:
    """Return a consumer with a fetch that waits before it tries again, as while its broker is away."""
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    fetcher = Fetcher(consumer._client, consumer._subscription, retry_backoff_ms=60_000)
    await asyncio.sleep(0.01)  # its own task has begun to wait for an assignment
    fetcher._client = Broken()
    work = fetcher._proc_fetch_request(None, 1, SimpleNamespace(topics=[]))
    fetcher._pending_tasks.add(asyncio.ensure_future(work))
    await asyncio.sleep(0.01)
    consumer._fetcher = fetcher
    return consumer


def test_a_consumer_cannot_be_stopped_while_a_fetch_waits_for_the_broker() -> None:
    """When this fails, `stop_consumer` is no longer needed."""

    async def run() -> None:
        consumer = await fetching_in_vain()
        with pytest.raises(asyncio.CancelledError):
            await consumer.stop()

    asyncio.run(run())


def test_a_consumer_is_stopped_and_disconnected_while_a_fetch_waits_for_the_broker() -> None:
    async def run() -> list[bool]:
        consumer = await fetching_in_vain()
        closed = []

        async def close() -> None:
            closed.append(True)

        consumer._client.close = close
        await asyncio.wait_for(aiokafka_internals.stop_consumer(consumer), LIVENESS_SECONDS)
        assert all(fetch.done() for fetch in consumer._fetcher._pending_tasks)
        return closed

    assert asyncio.run(run()) == [True]


def test_nobody_stops_a_consumer_in_another_way() -> None:
    sources = [path for folder in ("services", "streams") for path in (ROOT / folder).rglob("*.py")]
    found = [path.name for path in sources if re.search(r"(consumer|asker)\.stop\(\)", path.read_text())]
    assert found == ["aiokafka_internals.py"]


def test_a_consumer_takes_its_isolation_level_when_it_starts() -> None:
    async def make() -> Any:
        consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
        aiokafka_internals.read_committed(consumer)
        return consumer

    assert asyncio.run(make())._isolation_level == "read_committed"
    assert "isolation_level=self._isolation_level" in inspect.getsource(AIOKafkaConsumer.start)


def test_records_of_an_earlier_position_are_dropped_after_a_seek() -> None:
    """So what is in flight during a seek does not reach the lanes."""
    assert "del self._records[tp]" in inspect.getsource(Fetcher.seek_to)
    assert "tp_state.position != fetch_offset" in inspect.getsource(Fetcher._proc_fetch_request)


def test_committed_offsets_are_fetched_with_their_texts() -> None:
    source = inspect.getsource(GroupCoordinator._do_fetch_commit_offsets)
    assert "OffsetAndMetadata(offset, metadata)" in source
    assert list(inspect.signature(GroupCoordinator.fetch_committed_offsets).parameters) == [
        "self",
        "partitions",
    ]
    assert "self._coordinator = GroupCoordinator(" in inspect.getsource(AIOKafkaConsumer.start)

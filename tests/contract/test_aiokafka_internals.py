"""What Driftline relies on beyond aiokafka's documented interface.

If one of these fails after aiokafka is upgraded, `streams.aiokafka_internals` needs another way.
"""

import asyncio
import importlib.metadata
import inspect
import tomllib
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender

from streams import aiokafka_internals
from streams.producer import partition_of

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_exactly_the_release_is_installed_that_pyproject_pins() -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    assert f"aiokafka=={importlib.metadata.version('aiokafka')}" in dependencies


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

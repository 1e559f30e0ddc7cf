import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import aiokafka_internals, producer, records, topics
from streams.producer import BatchProducer, Record, RecordTooLargeError, partition_of

MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""From the tests of Kafka's Java client (UtilsTest.testMurmur2)."""
RECORDS_MAX = 2
"""Records that fit into a batch of the tests."""


class Builder:
    """A batch of up to `RECORDS_MAX` records, none of them larger than the limit."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.is_closed = False

    def append(self, *, timestamp: None, key: Any, value: Any, headers: Any) -> object | None:
        del timestamp
        too_large = len(value or b"") > producer.BATCH_BYTES_MAX
        if too_large or len(self.records) == RECORDS_MAX:
            return None
        self.records.append((key, value, headers))
        return self

    def record_count(self) -> int:
        return len(self.records)

    def close(self) -> None:
        self.is_closed = True


class Client:
    """An aiokafka producer that keeps the batches; the topic ``t`` has three partitions."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.sent: list[tuple[str, int, list[Record]]] = []
        self.is_started = False
        self.failure: Exception | None = None

    async def start(self) -> None:
        self.is_started = True

    async def stop(self) -> None:
        self.is_started = False

    def create_batch(self) -> Builder:
        return Builder()

    async def send_batch(self, builder: Builder, topic: str, *, partition: int) -> asyncio.Future[None]:
        assert builder.is_closed
        acknowledged = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            acknowledged.set_exception(self.failure)
        else:
            acknowledged.set_result(None)
            self.sent.append((topic, partition, builder.records))
        return acknowledged

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range({"t": 3}[topic]))


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """The clients that were made."""
    made: list[Client] = []

    def make(**options: Any) -> Client:
        made.append(Client(**options))
        return made[-1]

    monkeypatch.setattr(producer, "AIOKafkaProducer", make)
    monkeypatch.setattr(aiokafka_internals, "send_concurrently", lambda _: None)
    return made


def record(number: int, value: bytes | None = b"v") -> Record:
    return (b"%d" % number, value, [])


@pytest.mark.parametrize("key", MURMUR2)
def test_a_key_has_the_partition_of_the_java_client(key: bytes) -> None:
    assert partition_of(key, 1 << 31) == MURMUR2[key] & 0x7FFFFFFF
    assert partition_of(key, 12) == (MURMUR2[key] & 0x7FFFFFFF) % 12


@given(st.binary(), st.integers(1, 1000))
def test_every_key_has_a_partition(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


def test_records_are_sent_in_order_in_as_many_batches_as_needed(clients: list[Client]) -> None:
    async def run() -> None:
        one = BatchProducer({})
        await one.start()
        await one.send("t", 1, (record(number) for number in range(5)))
        await one.send("t", 1, [])

    asyncio.run(run())
    assert clients[-1].sent == [
        ("t", 1, [record(0), record(1)]),
        ("t", 1, [record(2), record(3)]),
        ("t", 1, [record(4)]),
    ]


def test_retries_neither_repeat_nor_reorder(clients: list[Client]) -> None:
    async def run() -> None:
        one = BatchProducer({"bootstrap_servers": ["b:1"]})
        assert not clients
        async with one.running():
            assert clients[0].is_started

    asyncio.run(run())
    (client,) = clients
    assert not client.is_started
    assert client.options["bootstrap_servers"] == ["b:1"]
    assert (client.options["acks"], client.options["enable_idempotence"]) == ("all", True)
    assert client.options["max_batch_size"] == producer.BATCH_BYTES_MAX


def test_a_producer_that_never_started_can_be_stopped() -> None:
    asyncio.run(BatchProducer({}).stop())


def test_a_record_too_large_is_refused_with_its_size_after_those_before_it(clients: list[Client]) -> None:
    large = record(1, b"x" * (producer.BATCH_BYTES_MAX + 1))

    async def run() -> None:
        one = BatchProducer({})
        await one.start()
        await one.send("t", 0, [record(0), large, record(2)])

    expected = "a record of 524290 bytes for t exceeds 524288 bytes"
    with pytest.raises(RecordTooLargeError, match=expected):
        asyncio.run(run())
    assert clients[0].sent == [("t", 0, [record(0)])]


def test_after_a_failed_batch_no_later_record_is_sent(clients: list[Client]) -> None:
    async def run() -> None:
        one = BatchProducer({})
        await one.start()
        clients[0].failure = ConnectionError("gone")
        with pytest.raises(ConnectionError):
            await one.send("t", 0, [record(number) for number in range(5)])
        clients[0].failure = None

    asyncio.run(run())
    assert clients[0].sent == []


def test_records_go_to_the_partitions_of_their_keys_in_order(clients: list[Client]) -> None:
    batch = [record(number % 7, b"%d" % number) for number in range(20)] + [(None, b"no key", [])]

    async def run() -> None:
        one = BatchProducer({})
        await one.start()
        assert await one.partitions("t") == 3
        await one.send_by_key("t", batch)

    asyncio.run(run())
    for partition in range(3):
        arrived = [each for _, number, part in clients[0].sent if number == partition for each in part]
        assert arrived == [each for each in batch if partition_of(each[0] or b"", 3) == partition]


def test_dead_letters_have_one_partition_and_the_failed_topic_as_key(clients: list[Client]) -> None:
    letter = records.DeadLetter(
        service="s", reason="r", topic="t", partition=2, offset=3, key=None, value=b"x", failed_time_ms=1
    )

    async def run() -> None:
        one = BatchProducer({})
        await one.start()
        await one.send_dead_letters([])
        await one.send_dead_letters([letter])

    asyncio.run(run())
    assert clients[0].sent == [(topics.DEAD_LETTERS.name, 0, [(b"t", records.encode(letter), [])])]

import asyncio
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaConnectionError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
)
from hypothesis import given
from hypothesis import strategies as st

from streams import producer, records, topics
from streams.aiokafka_internals import RecordRefusedError
from streams.producer import BatchProducer, Record, RecordTooLargeError, partition_of
from streams.producer_connection import BATCH_BYTES_MAX

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
    """A batch of up to `RECORDS_MAX` records and `BATCH_BYTES_MAX`; it takes its first record in any size."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.is_closed = False

    def append(self, *, timestamp: None, key: Any, value: Any, headers: Any) -> object | None:
        del timestamp
        is_full = self.size() + len(value or b"") > BATCH_BYTES_MAX or len(self.records) == RECORDS_MAX
        if self.records and is_full:
            return None
        self.records.append((key, value, headers))
        return self

    def record_count(self) -> int:
        return len(self.records)

    def size(self) -> int:
        return sum(len(value or b"") for _, value, _ in self.records)

    def close(self) -> None:
        self.is_closed = True


class Broker:
    """What the connections of a test wrote; the topic ``t`` has three partitions."""

    def __init__(self) -> None:
        self.written: list[tuple[str, int, list[Record]]] = []
        self.events: list[str] = []
        """Of the connections, and the failures."""
        self.failures: list[Exception] = []
        """Raised by the next deliveries."""
        self.refused: dict[bytes, Exception] = {}
        """Raised for a batch with a record with this value."""
        self.bytes_max: int | None = None
        """The true limit of every topic, and what the broker says of it."""
        self.stated_bytes_max: int | None = None
        self.is_away = False

    def values(self) -> list[bytes | None]:
        return [value for _, _, batch in self.written for _, value, _ in batch]

    def failure_of(self, builder: Builder) -> Exception | None:
        if self.failures:
            return self.failures.pop(0)
        if self.bytes_max is not None and builder.size() > self.bytes_max:
            too_large: Exception = MessageSizeTooLargeError()
            return too_large
        return next((self.refused[v] for _, v, _ in builder.records if v in self.refused), None)


class Connection:
    """A connection to the broker of a test."""

    def __init__(self, broker: Broker, options: Mapping[str, Any], compression: str | None) -> None:
        self.broker, self.options, self.compression = broker, options, compression
        self.is_broken = False

    async def start(self) -> None:
        if self.broker.is_away:
            raise KafkaConnectionError("away")
        self.broker.events.append("connected")

    async def close(self, patience_seconds: float) -> None:
        self.broker.events.append(f"closed within {patience_seconds:g} s")

    def create_batch(self) -> Builder:
        return Builder()

    async def partitions(self, topic: str) -> int:
        return {"t": 3}[topic]

    async def deliver(self, builder: Builder, topic: str, partition: int) -> None:
        assert builder.is_closed
        assert not self.is_broken
        if failure := self.broker.failure_of(builder):
            self.is_broken = True
            self.broker.events.append(type(failure).__name__)
            raise failure
        self.broker.written.append((topic, partition, builder.records))


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()

    class Limits:
        def __init__(self, _: Mapping[str, Any]) -> None:
            pass

        async def bytes_max(self, _: str) -> int | None:
            return broker.stated_bytes_max

    monkeypatch.setattr(producer, "ProducerConnection", functools.partial(Connection, broker))
    monkeypatch.setattr(producer, "TopicLimits", Limits)
    return broker


def send(topic: str, batch: Iterable[Record], partition: int = 0) -> None:
    async def run() -> None:
        one = BatchProducer({})
        async with one.running():
            await one.send(topic, partition, batch)

    asyncio.run(run())


def record(number: int, value: bytes | None = b"v") -> Record:
    return (b"%d" % number, value, [])


@pytest.mark.parametrize("key", MURMUR2)
def test_a_key_has_the_partition_of_the_java_client(key: bytes) -> None:
    assert partition_of(key, 1 << 31) == MURMUR2[key] & 0x7FFFFFFF
    assert partition_of(key, 12) == (MURMUR2[key] & 0x7FFFFFFF) % 12


@given(st.binary(), st.integers(1, 1000))
def test_every_key_has_a_partition(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


def test_records_are_sent_in_order_in_as_many_batches_as_needed(broker: Broker) -> None:
    send("t", (record(number) for number in range(5)), partition=1)
    send("t", [])
    assert broker.written == [
        ("t", 1, [record(0), record(1)]),
        ("t", 1, [record(2), record(3)]),
        ("t", 1, [record(4)]),
    ]


def test_it_is_connected_while_it_runs(broker: Broker) -> None:
    async def run() -> None:
        one = BatchProducer({"bootstrap_servers": ["b:1"]}, "gzip")
        assert broker.events == []
        async with one.running():
            assert broker.events == ["connected"]

    asyncio.run(run())
    assert broker.events == ["connected", "closed within 5 s"]


def test_a_producer_that_never_started_can_be_stopped() -> None:
    asyncio.run(BatchProducer({}).stop())


def test_a_large_record_has_a_batch_of_its_own(broker: Broker) -> None:
    large = record(1, b"x" * 5 * BATCH_BYTES_MAX)
    send("t", [record(0), large, record(2)])
    assert broker.written == [("t", 0, [record(0)]), ("t", 0, [large]), ("t", 0, [record(2)])]


def test_a_record_beyond_the_stated_limit_is_refused_before_anything_is_written(broker: Broker) -> None:
    broker.stated_bytes_max = 1 << 20
    large = record(1, b"x" * ((1 << 20) + 1))
    expected = "a record of 1048577 bytes for the topic t exceeds 1048576 bytes: shorten the record, or raise"
    with pytest.raises(RecordTooLargeError, match=expected) as caught:
        send("t", [record(0), large, record(2)])
    assert caught.value.record is large
    assert broker.written == []
    assert "MessageSizeTooLargeError" not in broker.events


def test_a_record_that_only_the_broker_refuses_is_found_and_named(broker: Broker) -> None:
    broker.bytes_max = 100
    large = record(1, b"x" * 101)
    with pytest.raises(RecordTooLargeError, match="101 bytes for the topic t exceeds the topic's limit") as e:
        send("t", [record(0), large, record(2)])
    assert e.value.record is large
    assert broker.written == [("t", 0, [record(0)])]


def test_a_batch_beyond_the_limit_of_its_topic_is_halved(broker: Broker) -> None:
    broker.bytes_max = 100
    batch = [record(number, b"x" * 60) for number in range(4)]
    send("t", batch)
    assert broker.written == [("t", 0, [each]) for each in batch]


@pytest.mark.parametrize("error", [RecordRefusedError(), InvalidTimestampError()])
def test_a_refused_record_raises_alone(broker: Broker, error: Exception) -> None:
    broker.refused = {b"bad": error}
    with pytest.raises(type(error)):
        send("t", [record(0), record(1, b"bad"), record(2)])
    assert broker.values() == [b"v"]


def test_after_a_failed_batch_no_later_record_is_sent(broker: Broker) -> None:
    broker.failures = [TopicAuthorizationFailedError("t")]
    with pytest.raises(TopicAuthorizationFailedError):
        send("t", [record(number) for number in range(5)])
    assert broker.written == []


def test_the_batch_after_a_failure_goes_over_a_new_connection(broker: Broker) -> None:
    async def run() -> None:
        one = BatchProducer({})
        async with one.running():
            broker.failures = [TopicAuthorizationFailedError("t")]
            with pytest.raises(TopicAuthorizationFailedError):
                await one.send("t", 0, [record(0)])
            await one.send("t", 0, [record(1)])

    asyncio.run(run())
    assert broker.written == [("t", 0, [record(1)])]
    settled = "closed within 5 s"
    assert broker.events[:4] == ["connected", "TopicAuthorizationFailedError", settled, "connected"]


def test_while_no_new_connection_can_be_made_each_write_says_so(broker: Broker) -> None:
    async def run() -> None:
        one = BatchProducer({})
        async with one.running():
            broker.failures = [TopicAuthorizationFailedError("t")]
            with pytest.raises(TopicAuthorizationFailedError):
                await one.send("t", 0, [record(0)])
            broker.is_away = True
            for _ in range(2):
                with pytest.raises(KafkaConnectionError):
                    await one.send("t", 0, [record(0)])
            broker.is_away = False
            await one.send("t", 0, [record(0)])

    asyncio.run(run())
    assert broker.written == [("t", 0, [record(0)])]


def test_a_batch_behind_a_failed_one_is_written_with_new_sequence_numbers(broker: Broker) -> None:
    broker.failures = [OutOfOrderSequenceNumber()]
    send("t", [record(number) for number in range(3)])
    assert broker.written == [("t", 0, [record(0), record(1)]), ("t", 0, [record(2)])]


def test_concurrent_writes_share_one_new_connection_and_none_is_lost(broker: Broker) -> None:
    async def run() -> None:
        one = BatchProducer({})
        async with one.running():
            broker.failures = [OutOfOrderSequenceNumber()]
            await asyncio.gather(*(one.send("t", each, [record(each)] * 3) for each in range(3)))

    asyncio.run(run())
    assert broker.events.count("connected") == 2
    for partition in range(3):
        arrived = [each for _, number, batch in broker.written if number == partition for each in batch]
        assert arrived == [record(partition)] * 3


def test_records_go_to_the_partitions_of_their_keys_in_order(broker: Broker) -> None:
    batch = [record(number % 7, b"%d" % number) for number in range(20)] + [(None, b"no key", [])]

    async def run() -> None:
        one = BatchProducer({})
        await one.start()
        assert await one.partitions("t") == 3
        await one.send_by_key("t", batch)

    asyncio.run(run())
    for partition in range(3):
        arrived = [each for _, number, part in broker.written if number == partition for each in part]
        assert arrived == [each for each in batch if partition_of(each[0] or b"", 3) == partition]


def test_a_record_too_large_leaves_all_partitions_unwritten(broker: Broker) -> None:
    """So the others can be written without repeats."""
    broker.stated_bytes_max = 1 << 20
    large = record(19, b"x" * ((1 << 20) + 1))

    async def run() -> None:
        one = BatchProducer({})
        await one.start()
        with pytest.raises(RecordTooLargeError) as caught:
            await one.send_by_key("t", [*map(record, range(19)), large])
        assert caught.value.record is large

    asyncio.run(run())
    assert broker.written == []


def letter(value: bytes) -> records.DeadLetter:
    return records.DeadLetter(
        service="s", reason="r", topic="t", partition=2, offset=3, key=None, value=value, failed_time_ms=1
    )


def written_letters(broker: Broker) -> list[records.DeadLetter]:
    decode = records.decoder_of(records.DeadLetter).decode
    return [decode(value or b"") for value in broker.values()]


def send_letters(*letters: records.DeadLetter) -> None:
    async def run() -> None:
        one = BatchProducer({})
        await one.start()
        await one.send_dead_letters([])
        await one.send_dead_letters(letters)

    asyncio.run(run())


def test_dead_letters_have_one_partition_and_the_failed_topic_as_key(broker: Broker) -> None:
    send_letters(letter(b"x"))
    assert broker.written == [(topics.DEAD_LETTERS.name, 0, [(b"t", records.encode(letter(b"x")), [])])]


@pytest.mark.parametrize("is_stated", [True, False])
def test_a_dead_letter_beyond_the_limit_is_cut_and_the_others_are_not(
    broker: Broker, *, is_stated: bool
) -> None:
    broker.bytes_max = 1 << 20
    broker.stated_bytes_max = broker.bytes_max if is_stated else None
    whole, large = letter(b"x" * 700_000), letter(b"y" * 5_000_000)
    send_letters(whole, large, letter(b"z"))
    first, second, third = written_letters(broker)
    assert (first, third) == (whole, letter(b"z"))
    assert second.cut_from_bytes == 5_000_000
    assert second.value is not None
    assert large.value is not None
    assert large.value.startswith(second.value)
    assert len(second.value) > 400_000

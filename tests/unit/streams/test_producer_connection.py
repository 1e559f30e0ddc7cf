import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError, UnknownTopicOrPartitionError

from streams import aiokafka_internals, producer_connection
from streams.producer_connection import BATCH_BYTES_MAX, ProducerConnection


class Client:
    """An aiokafka producer, as far as a connection uses it."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.events: list[str] = []
        self.start_failure: Exception | None = None
        self.queue_failure: Exception | None = None
        self.acknowledged: list[asyncio.Future[None]] = []
        self.held = asyncio.Event()
        self.has_ended = False

    async def start(self) -> None:
        if self.start_failure is not None:
            raise self.start_failure

    async def flush(self) -> None:
        await asyncio.wait([*self.acknowledged]) if self.acknowledged else None

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[None]:
        if self.queue_failure is not None:
            raise self.queue_failure
        self.events.append(f"{batch} to {topic}/{partition}")
        self.acknowledged.append(asyncio.get_running_loop().create_future())
        self.held.set()
        return asyncio.shield(self.acknowledged[-1])

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range({"t": 3}[topic]))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()

    def make(**options: Any) -> Client:
        client.options = options
        return client

    async def abandon(_: Client, error: Exception) -> None:
        client.events.append("abandoned")
        for each in client.acknowledged:
            if not each.done():
                each.set_exception(error)

    monkeypatch.setattr(producer_connection, "AIOKafkaProducer", make)
    monkeypatch.setattr(aiokafka_internals, "send_concurrently", lambda _: client.events.append("concurrent"))
    monkeypatch.setattr(aiokafka_internals, "wrap_sequence_numbers", lambda _: client.events.append("wraps"))
    monkeypatch.setattr(aiokafka_internals, "has_ended", lambda _: client.has_ended)
    monkeypatch.setattr(aiokafka_internals, "abandon", abandon)
    return client


async def begun(connection: ProducerConnection, client: Client) -> "asyncio.Task[None]":
    """Return the delivery of a batch that the client holds."""
    delivery = asyncio.ensure_future(connection.deliver("batch", "t", 0))
    await client.held.wait()
    return delivery


def test_retries_neither_repeat_nor_reorder(client: Client) -> None:
    ProducerConnection({"bootstrap_servers": ["b:1"]}, "gzip")
    assert client.options["bootstrap_servers"] == ["b:1"]
    assert (client.options["acks"], client.options["enable_idempotence"]) == ("all", True)
    assert client.options["max_batch_size"] == BATCH_BYTES_MAX
    assert client.options["compression_type"] == "gzip"
    assert client.events == ["concurrent", "wraps"]


def test_a_delivery_lasts_until_the_acknowledgement(client: Client) -> None:
    async def run() -> None:
        connection = ProducerConnection({})
        delivery = await begun(connection, client)
        assert not delivery.done()
        client.acknowledged[0].set_result(None)
        await delivery
        assert not connection.is_broken
        assert await connection.partitions("t") == 3

    asyncio.run(run())
    assert client.events[-1] == "batch to t/0"


def test_a_failed_batch_breaks_the_connection(client: Client) -> None:
    async def run() -> None:
        connection = ProducerConnection({})
        delivery = await begun(connection, client)
        client.acknowledged[0].set_exception(MessageSizeTooLargeError())
        with pytest.raises(MessageSizeTooLargeError):
            await delivery
        assert connection.is_broken

    asyncio.run(run())


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_batch_that_was_not_queued_breaks_it_only_if_nothing_is_sent_any_more(
    client: Client, *, has_ended: bool
) -> None:
    async def run() -> None:
        connection = ProducerConnection({})
        client.queue_failure, client.has_ended = UnknownTopicOrPartitionError(), has_ended
        with pytest.raises(UnknownTopicOrPartitionError):
            await connection.deliver("batch", "t", 0)
        assert connection.is_broken is has_ended

    asyncio.run(run())


def test_closing_waits_for_the_batches_in_flight(client: Client) -> None:
    async def run() -> None:
        connection = ProducerConnection({})
        delivery = await begun(connection, client)
        closing = asyncio.ensure_future(connection.close(60))
        await asyncio.sleep(0)
        assert "abandoned" not in client.events
        client.acknowledged[0].set_result(None)
        await asyncio.gather(closing, delivery)

    asyncio.run(run())
    assert client.events[-1] == "abandoned"


def test_what_is_not_acknowledged_in_time_fails(client: Client) -> None:
    async def run() -> None:
        connection = ProducerConnection({})
        delivery = await begun(connection, client)
        await connection.close(0.0)
        with pytest.raises(KafkaConnectionError, match="closed before the broker had acknowledged"):
            await delivery

    asyncio.run(run())


def test_closing_waits_for_the_batch_of_a_caller_that_was_cancelled(client: Client) -> None:
    """It may arrive; a later batch of another connection must not be written before it."""

    async def run() -> None:
        connection = ProducerConnection({})
        delivery = await begun(connection, client)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
        closing = asyncio.ensure_future(connection.close(60))
        await asyncio.sleep(0)
        assert not closing.done()
        client.acknowledged[0].set_result(None)
        await closing

    asyncio.run(run())


def test_a_start_that_fails_leaves_nothing_open(client: Client) -> None:
    async def run() -> None:
        connection = ProducerConnection({})
        client.start_failure = KafkaConnectionError("away")
        with pytest.raises(KafkaConnectionError):
            await connection.start()

    asyncio.run(run())
    assert client.events[-1] == "abandoned"

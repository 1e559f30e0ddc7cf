import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import numpy as np

from services.demo import pace, playlist
from services.demo.playlist import Integers
from services.demo.producer import WorldProducer
from streams import codec
from streams.producer import Record

TICK_MS = 30


@dataclasses.dataclass
class Events:
    event_time_ms: Integers
    known_time_ms: Integers
    keys: list[bytes]
    values: list[bytes]


class Broker:
    """Keeps what was sent to each partition, and in which order the batches came."""

    def __init__(self) -> None:
        self.partitions: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.topics: list[str] = []

    async def send(self, topic: str, partition: int, batch: Iterable[Record]) -> None:
        await asyncio.sleep(0)
        self.topics.append(topic)
        self.partitions[topic, partition].extend(batch)


def events(times: list[int]) -> Events:
    """The value of each event is its time."""
    array = np.array(times)
    return Events(array, array, [b"UA%d" % time for time in times], [str(time).encode() for time in times])


def play(until_ms: int) -> tuple[Broker, WorldProducer]:
    times = list(range(0, 200, 10))
    topics = {"asked": events(times), "left": events(times), "arrived": events(times)}
    broker = Broker()
    producer = WorldProducer(cast("Any", broker), playlist.lay_out(topics, "asked", 3))

    async def all_ticks() -> None:
        while producer.sent.position_ms < until_ms:
            await producer.play(pace.tick_end_ms(producer.sent.position_ms, TICK_MS, until_ms))

    asyncio.run(all_ticks())
    return broker, producer


def test_no_event_follows_a_heartbeat_of_its_time_or_later() -> None:
    broker, _ = play(until_ms=250)
    assert len(broker.partitions) == 9
    for records in broker.partitions.values():
        promised_ms = -1
        for _, value, headers in records:
            if value is None:
                promised_ms = codec.watermark_of(headers) or 0
            else:
                assert int(value) > promised_ms
        assert promised_ms == 250, "every partition ends with a heartbeat, with events or without"


def test_every_event_is_sent_once_and_counted() -> None:
    broker, producer = play(until_ms=250)
    sent = [value for records in broker.partitions.values() for _, value, _ in records if value is not None]
    assert len(sent) == producer.sent.events == 60
    assert producer.sent.requests == 20


def test_requests_of_a_tick_follow_its_events() -> None:
    broker, _ = play(until_ms=30)
    first_request = broker.topics.index("asked")
    assert "asked" not in broker.topics[:first_request]
    assert set(broker.topics[:first_request]) == {"left", "arrived"}
    assert set(broker.topics[6:9]) == {"asked"}


def test_event_that_is_not_due_is_not_sent() -> None:
    broker, _ = play(until_ms=95)
    sent = [int(value) for records in broker.partitions.values() for _, value, _ in records if value]
    assert max(sent) == 90

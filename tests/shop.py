"""Events of a small shop for tests, on real topics, and what the features must make of them in the end."""

import dataclasses
import datetime as dt
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from services.feature_store import repository
from services.feature_store.plan import FeaturePlan
from services.features.view_state import Event, ViewLogic
from services.runtime import watermarks
from services.runtime.settings import Settings
from streams import codec
from tests.marks import read_marks
from tests.repositories import write_shop
from tests.waiting import until

PARTITIONS = 4
START_MS = 1_372_680_000_000
"""2013-07-01T12:00:00Z"""


@dataclasses.dataclass(frozen=True)
class Sent:
    """A record as it was produced."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    value: bytes


@dataclasses.dataclass(frozen=True)
class Shop:
    """One repository with its topics."""

    prefix: str
    settings: Settings
    plan: FeaturePlan

    @property
    def orders(self) -> str:
        return f"{self.prefix}.orders"

    @property
    def readings(self) -> str:
        return f"{self.prefix}.readings"


def open_shop(settings: Settings, prefix: str, folder: Path, *, lateness_seconds: int = 0) -> Shop:
    """Apply a repository with names of its own and create its source topics."""
    own = write_shop(folder / "repository", prefix, lateness_seconds=lateness_seconds)
    settings = settings.model_copy(update={"feature_repo": own})
    shop = Shop(prefix, settings, repository.apply(settings))
    admin = KafkaAdminClient(bootstrap_servers=settings.broker)
    admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (shop.orders, shop.readings)])
    admin.close()
    return shop


def order(time_ms: int, number: int, rng: random.Random) -> bytes:
    return json.dumps(
        {
            "order_id": f"o{number}",
            "event_time": stamp(time_ms),
            "shop": rng.choice(["mill", "dock", "hill"]),
            "desk": rng.choice([1, 2, 3, None]),
            "amount": rng.choice([None, rng.randrange(-50, 200), rng.uniform(-1e3, 1e3), 0.1]),
            "unknown": "ignored",
        }
    ).encode()


def reading(shop_name: str, time_ms: int, rng: random.Random) -> bytes:
    event = {"shop": shop_name, "event_time": stamp(time_ms), "heat": rng.uniform(0, 40)}
    extra = {"state": rng.choice(["ok", "böse"]), "open": rng.random() < 0.5, "people": rng.randrange(90)}
    return json.dumps({**event, **(extra if rng.random() < 0.8 else {})}).encode()


def stamp(time_ms: int) -> str:
    return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).isoformat().replace("+00:00", "Z")


class Till:
    """Produces to chosen partitions and remembers what was sent."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.sent: list[Sent] = []
        self._producer = KafkaProducer(bootstrap_servers=shop.settings.broker, acks="all", linger_ms=5)

    def send(self, records: Iterable[tuple[str, int, int, bytes]]) -> list[Sent]:
        """Send (topic, partition, event time, value) in order; return them with their offsets."""
        futures = [
            (record, self._producer.send(record[0], record[3], partition=record[1])) for record in records
        ]
        sent = [Sent(topic, p, future.get(30).offset, at, value) for (topic, p, at, value), future in futures]
        self.sent += sent
        return sent

    def beat(self, time_ms: int) -> None:
        """Send a heartbeat into every partition of both topics."""
        for topic in (self.shop.orders, self.shop.readings):
            for partition in range(PARTITIONS):
                self._producer.send(
                    topic, None, key=b"-", partition=partition, headers=codec.heartbeat(time_ms)
                )
        self._producer.flush()

    def close(self) -> None:
        self._producer.close()


def a_day(shop: Shop, count: int, seed: int, start_ms: int = START_MS) -> list[tuple[str, int, int, bytes]]:
    """Make events of both topics in event-time order; some at the same instant."""
    rng = random.Random(seed)
    times = sorted(
        start_ms + rng.choice([rng.randrange(7_200_000), rng.randrange(120) * 60_000]) for _ in range(count)
    )
    records = []
    for number, time_ms in enumerate(times):
        if rng.random() < 0.1:
            name = rng.choice(["mill", "dock"])  # also the message key, so it decides on the partition
            records.append((shop.readings, 1 if name == "mill" else 3, time_ms, reading(name, time_ms, rng)))
        else:
            records.append((shop.orders, rng.randrange(PARTITIONS), time_ms, order(time_ms, number, rng)))
    return records


def wait_until_complete(shop: Shop, event_time_ms: int) -> None:
    """Wait until all views' watermarks have passed an event time."""
    names = [watermarks.of_view(shop.plan.project, view.name) for view in shop.plan.views if view.is_stream]
    with redis.Redis.from_url(shop.settings.redis_url) as client:
        until(
            lambda: all((mark or 0) >= event_time_ms for mark in read_marks(client, names).values()),
            f"the watermarks of {', '.join(names)} have passed {event_time_ms}",
        )


def expected_hashes(shop: Shop, sent: Sequence[Sent]) -> dict[bytes, dict[bytes, bytes]]:
    """Work out every hash of the online store from the events alone, each view by itself, in one pass."""
    hashes: dict[bytes, dict[bytes, bytes]] = {}
    for view in shop.plan.views:
        if view.source is None:
            continue
        logic, decode = ViewLogic(shop.plan.project, view), codec.EventDecoder(view.source.fields).decode
        states: dict[bytes, Any] = {}
        for record in sent:
            value = decode(record.value) if record.topic == view.source.topic else None
            entity = logic.entity(value) if value is not None else None
            if entity is not None:
                state = states.setdefault(logic.key_of(entity), logic.load(None))
                logic.apply(state, Event(value, record.time_ms, record.partition, record.offset))
        for key, state in states.items():
            hashes.setdefault(key, {}).update(logic.fields(state, logic.row(state)))
    return hashes


def stored_hashes(shop: Shop) -> dict[bytes, dict[bytes, bytes]]:
    """Read every hash of the project from the online store."""
    with redis.Redis.from_url(shop.settings.redis_url) as client:
        keys = [
            key
            for key in client.scan_iter(b"*" + shop.prefix.encode(), count=1000)
            if client.type(key) == b"hash"
        ]
        found: Mapping[bytes, Any] = {key: client.hgetall(key) for key in keys}
        rows = {key: hash_ for key, hash_ in found.items() if not key.startswith(b"driftline:")}
        return {key: without_generation(hash_) for key, hash_ in rows.items()}


def without_generation(row: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return a row as if it had been written in generation 0."""
    return {
        field: _in_generation_0(value) if field.startswith(b"_driftline:") else value
        for field, value in row.items()
    }


def _in_generation_0(sidecar: bytes) -> bytes:
    return sidecar[:3] + bytes(8) + sidecar[11:]  # format and count, generation, definition and the rest


def read_topic(broker: str, topic: str) -> list[Any]:
    """Read all that is in a topic now."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker, max_partition_fetch_bytes=32 << 20, fetch_max_bytes=64 << 20
    )
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found: list[Any] = []
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for fetched in consumer.poll(timeout_ms=500, max_records=20_000).values():
                found += fetched
        return found
    finally:
        consumer.close()

"""Two shops with events, requests, predictions, labels and dead letters, in all places that keep them."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import redis
from deltalake import DeltaTable
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from services.monitoring import inference_log
from services.runtime import kafka_producers
from services.runtime.declaration import FILE
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from streams.records import DeadLetter, Outcome, Prediction, ReplayMark, RetrainingRequested
from tests.shop import START_MS, Shop, Till, open_shop, stamp
from tests.waiting import until

GONE, KEPT = "zq-gone-7731", "zq-kept-4242"
REQUESTS = 6
MODEL = """
name: {name}
owner: tests@driftline.example
task: regression
request:
  topic: {name}.rides
  id: ride
  event_time: event_time
  schema: {{ride: string, event_time: timestamp, shop: string, km: float}}
features: {{from_request: [shop, km]}}
label:
  topic: {name}.tips
  id: ride
  event_time: event_time
  value: tip
  horizon_hours: 24
  schema: {{ride: string, event_time: timestamp, tip: float}}
"""


@dataclasses.dataclass
class World:
    """The installation of one test."""

    shop: Shop
    till: Till

    @property
    def settings(self) -> Settings:
        return self.shop.settings

    @property
    def name(self) -> str:
        return self.shop.prefix

    @property
    def rides(self) -> str:
        return f"{self.name}.rides"

    @property
    def archived(self) -> dict[str, str]:
        """The table of each topic of this test that is archived."""
        events = (self.shop.orders, self.shop.readings, self.rides, f"{self.name}.tips")
        return dict.fromkeys(events, inference_log.EVENTS) | {
            topics.predictions(self.name): inference_log.PREDICTIONS,
            topics.outcomes(self.name): inference_log.OUTCOMES,
        }


def opened(settings: Settings, name: str, folder: Path) -> World:
    """Apply a repository, declare a model, and create all topics."""
    models = folder / "models" / name
    models.mkdir(parents=True)
    (models / FILE).write_text(MODEL.format(name=name), encoding="utf-8")
    shop = open_shop(settings.model_copy(update={"models": folder / "models"}), name, folder)
    ensure_topics(shop.settings, load_all(shop.settings.models))
    return World(shop, Till(shop))


def ride(shop: str, number: int) -> str:
    return f"ride-of-{shop}-{number}"


def send_all(world: World) -> None:
    """Write the events, requests, predictions, labels and dead letters of both shops."""
    write_files(world)
    world.till.send(events(world.shop))
    world.till.beat(START_MS + 3_600_000)
    with contextlib.closing(KafkaProducer(bootstrap_servers=world.settings.broker)) as producer:
        for number in range(REQUESTS):
            for offset, shop in ((2 * number, GONE), (2 * number + 1, KEPT)):
                _send_request(producer, world, shop, number, offset)
        for pair in zip(letters(world, KEPT), letters(world, GONE), strict=True):
            for letter in pair:
                producer.send(topics.DEAD_LETTERS.name, records.encode(letter), letter.topic.encode())
        mark = ReplayMark(
            state="arrived", topic=world.rides, partition=0, offsets=[1], begun_ms=1, end_offset=9
        )
        header = ("driftline-replay-mark", records.encode(mark))
        producer.send(topics.DEAD_LETTERS.name, None, world.rides.encode(), headers=[header])
        producer.flush()


def history(world: World) -> Path:
    """Return the file of the history of a view."""
    return world.settings.feature_repo / f"{world.name}_by_shop.parquet"


def write_files(world: World) -> None:
    """Write the history of a view, and the file of the application that a batch view is materialised from."""
    rows = pa.table({"shop": [GONE, KEPT, GONE], "amount_sum": [1.0, 2.0, 3.0]})
    pq.write_table(rows, history(world))
    pq.write_table(rows, world.settings.feature_repo / "typed.parquet")


def events(shop: Shop) -> list[tuple[str, int, int, bytes]]:
    found = []
    for number in range(20):
        time_ms = START_MS + number * 1000
        for name in (GONE, KEPT):
            order = {
                "order_id": f"o{number}", "event_time": stamp(time_ms), "shop": name, "desk": number % 2,
                "amount": float(number),
            }  # fmt: skip
            reading = {"shop": name, "event_time": stamp(time_ms), "heat": float(number)}
            found.append((shop.orders, number % 4, time_ms, json.dumps(order).encode()))
            found.append((shop.readings, 1, time_ms, json.dumps(reading).encode()))
    return found


def letters(world: World, shop: str) -> Iterator[DeadLetter]:
    """Letters of a record that can be read, of one that cannot, of a label, and of one that was cut."""
    values = (
        (world.rides, json.dumps({"ride": "r", "shop": shop, "km": "far"}).encode()),
        (world.shop.orders, b'{"shop": "' + shop.encode() + b'", broken'),
        (f"{world.name}.tips", json.dumps({"ride": ride(shop, 1), "tip": "much"}).encode()),
        (world.shop.readings, b'{"heat": 1, "shop": "' + shop.encode() + b'", "state": "'),
    )
    for offset, (topic, value) in enumerate(values):
        yield DeadLetter(
            service="scoring", reason=f"invalid, of {shop}", topic=topic, partition=0, offset=offset,
            key=None, value=value, failed_time_ms=5,
        )  # fmt: skip


def _send_request(producer: Any, world: World, shop: str, number: int, offset: int) -> None:
    name, time_ms, of_ride = world.name, START_MS + number * 1000, ride(shop, number)
    request = {"ride": of_ride, "event_time": stamp(time_ms), "shop": shop, "km": 1.0}
    label = {"ride": of_ride, "event_time": stamp(time_ms + 1000), "tip": 2.0}
    prediction = Prediction(
        prediction_id=of_ride, model=name, version=1, arm="champion", arm_weight=10_000,
        event_time_ms=time_ms, scored_time_ms=time_ms, source_partition=0, source_offset=offset,
        features=[shop, 1.0], features_lag_ms=0, score=0.5, prediction=0.5,
    )  # fmt: skip
    outcome = Outcome(
        prediction_id=of_ride, model=name, version=1, arm="champion", event_time_ms=time_ms,
        label_time_ms=time_ms + 1000, source_partition=0, source_offset=offset, label=2.0, score=0.5,
        loss=1.0, shadow_scores={},
    )  # fmt: skip
    for topic, value in (
        (world.rides, json.dumps(request).encode()),
        (f"{name}.tips", json.dumps(label).encode()),
        (topics.predictions(name), records.encode(prediction)),
        (topics.outcomes(name), records.encode(outcome)),
    ):
        producer.send(topic, value, of_ride.encode(), partition=0)


def wait_archived(world: World) -> None:
    """Let the archive commit, as before a retraining, and wait until it has everything."""
    ends = {topic: end_offsets(world, topic) for topic in world.archived}
    request = RetrainingRequested(
        request_id=f"{world.name}-wait", model=world.name, trigger="manual", requested_at_ms=START_MS,
        reason="the archive commits at once", offsets=ends,
    )  # fmt: skip
    with kafka_producers.connected(world.settings) as producer:
        producer.send(topics.RETRAINING.name, world.name.encode(), records.encode(request))

    def archived() -> bool:
        return all(
            inference_log.positions(world.settings, table, {topic: range(len(ends[topic]))})[topic]
            == dict(enumerate(ends[topic]))
            for topic, table in world.archived.items()
        )

    until(archived, "the archive has all records")


def end_offsets(world: World, topic: str) -> list[int]:
    consumer = KafkaConsumer(bootstrap_servers=world.settings.broker)
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        return [end for _, end in sorted(consumer.end_offsets(partitions).items())]
    finally:
        consumer.close()


def files_with(folder: Path, *texts: str) -> list[str]:
    """Return the files below a folder that hold one of these texts, compressed pages of Parquet included."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes() + (_decompressed(path) if path.suffix == ".parquet" else b"")
        if any(text.encode() in content for text in texts):
            found.append(str(path.relative_to(folder)))
    return found


def _decompressed(path: Path) -> bytes:
    return repr(pq.read_table(path).to_pylist()).encode()


def keys_with(world: World, text: str) -> list[bytes]:
    """Return the keys of the online store that hold a text, in the key or in what is stored under it."""
    with redis.Redis.from_url(world.settings.redis_url) as client:
        found: Mapping[bytes, bytes] = {key: client.dump(key) or b"" for key in client.scan_iter(count=1000)}
    return [key for key, value in found.items() if text.encode() in key + value]


def rows_of(world: World, table: str) -> list[str]:
    """Return the rows of a table that are not of the shop that is erased, as texts."""
    uri = inference_log.path(world.settings, table)
    rows = [repr(sorted(row.items())) for row in DeltaTable(uri).to_pyarrow_table().to_pylist()]
    return sorted(row for row in rows if GONE not in row)

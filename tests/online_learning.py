"""The topics of a model that learns online, on a real broker: write its logs, read what it has learned."""

import asyncio
from pathlib import Path
from typing import Any

import redis
from kafka import KafkaConsumer, TopicPartition

from services.feature_store import plan_cache
from services.feature_store.plan import FeaturePlan
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from streams.inputs import PREDICTION, PartitionKey
from streams.producer import BatchProducer
from tests.marks import read_marks
from tests.processes import Process
from tests.unit.learning import traffic
from tests.waiting import until

PIECES = 6
PARTITIONS = 2
TRAINING = """
from river import compose, linear_model, optim, preprocessing

def learner(categorical, numeric):
    assert (categorical, numeric) == (["colour"], ["x"])
    numbers = compose.Discard("colour") | preprocessing.StandardScaler()
    colours = compose.Discard("x") | preprocessing.OneHotEncoder(drop_zeros=True)
    return compose.TransformerUnion(numbers, colours) | linear_model.LinearRegression(optim.AdaGrad(0.5))
"""


def with_model(local: Settings, models: Path, name: str, learning: dict[str, Any]) -> Settings:
    """Declare one model that learns, with an empty feature service and topics of its own."""
    folder = models / name
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(traffic.as_yaml(name, learning=learning))
    (folder / "training.py").write_text(TRAINING)
    settings = local.model_copy(update={"models": models, "partitions": PARTITIONS})
    registry = plan_cache.registry_path(settings)
    registry.parent.mkdir()
    registry.touch()  # nothing is asked of Feast: what the service holds is in the plan
    plan_cache.store(settings, FeaturePlan(project="p", views=(), services={"s": ()}))
    ensure_topics(settings, load_all(settings.models))
    return settings


def send(local: Settings, name: str, logs: traffic.Traffic, number: int) -> None:
    """Write one of `PIECES` equal shares of every partition."""

    async def write() -> None:
        producer = BatchProducer(local.kafka_options())
        async with producer.running():
            for place, log in traffic.Player(logs).logs.items():
                piece = log[len(log) * number // PIECES : len(log) * (number + 1) // PIECES]
                await producer.send(
                    topic_of(name, place), place.partition, [traffic.kafka_record(each) for each in piece]
                )

    asyncio.run(write())


def topic_of(name: str, place: PartitionKey) -> str:
    return topics.predictions(name) if place.kind == PREDICTION else f"{name}.labels"


def wait_for_watermark(local: Settings, name: str, at_least_ms: int, learning: Process) -> None:
    client, hashed = redis.Redis.from_url(local.redis_url), f"learning.{name}"
    until(
        lambda: (read_marks(client, [hashed])[hashed] or 0) >= at_least_ms,
        "the watermark is published",
        check=learning.check,
    )


def published(local: Settings, name: str) -> list[records.LearnedModel]:
    decode = records.decoder_of(records.LearnedModel).decode
    mine = [each for each in read(local, topics.LEARNED.name) if each.key.startswith(f"{name}/".encode())]
    return [decode(each.value) for each in mine if not each.key.endswith(b"/checkpoint")]


def changes(local: Settings, name: str) -> list[records.ModelChanged]:
    """Return all changes of the arms of a model, in order."""
    decode = records.decoder_of(records.ModelChanged).decode
    return [decode(each.value) for each in read(local, topics.MODELS.name) if each.key == name.encode()]


def read(local: Settings, topic: str, partitions: int = 1) -> list[Any]:
    """Read all records of a topic, compacted or not yet."""
    consumer = KafkaConsumer(**local.kafka_options(), group_id=None, check_crcs=False)
    places = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    found: list[Any] = []
    ends = consumer.end_offsets(places)
    while any(consumer.position(place) < end for place, end in ends.items()):
        for messages in consumer.poll(timeout_ms=200).values():
            found += messages
    consumer.close()
    return [message for message in found if message.value is not None]

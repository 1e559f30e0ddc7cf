"""Topics with a real schema registry: events, requests and labels through all processes that read them."""

import datetime as dt
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from services.operations import project_check, setup
from services.runtime import declaration_file
from services.runtime.settings import Settings
from streams import records, topics
from tests.processes import Process
from tests.repositories import STORE
from tests.schema_registry import SchemaRegistry
from tests.waiting import LIVENESS_SECONDS, until

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
EARLIER = NOW - dt.timedelta(hours=6)

DEFINITIONS = """
from datetime import timedelta

from feast import Entity, FeatureService, Field, FileSource, KafkaSource, StreamFeatureView, ValueType
from feast.data_format import AvroFormat
from feast.types import Float64, String

shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
sales = KafkaSource(
    name="sales", topic="PREFIX.sales", timestamp_field="at",
    message_format=AvroFormat('''SALE'''),
    batch_source=FileSource(name="sales_batch", path="sales.parquet", timestamp_field="at"),
    tags={"message_key": "shop"},
)
PREFIX_last = StreamFeatureView(
    name="PREFIX_last", entities=[shop], source=sales, timestamp_field="at",
    schema=[Field(name="shop", dtype=String), Field(name="amount", dtype=Float64)],
    ttl=timedelta(days=1),
)
PREFIX = FeatureService(name="PREFIX", features=[PREFIX_last])
"""

MODEL = """
name: PREFIX
owner: tests@driftline.example
task: regression
request:
  topic: PREFIX.requests
  encoding: avro
  id: id
  event_time: at
  schema: {id: string, at: timestamp, shop: string}
features: {service: PREFIX}
label:
  topic: PREFIX.labels
  encoding: json_schema
  id: id
  event_time: at
  value: y
  horizon_hours: 1
  schema: {id: string, at: timestamp, y: float}
learning: {every_hours: 1, minimum_labels: 1}
"""
LEARNER = """
from river import linear_model


def learner(categorical, numeric):
    return linear_model.LinearRegression()
"""


def avro(name: str, **types: Any) -> str:
    fields = [{"name": field, "type": kind} for field, kind in types.items()]
    return msgspec.json.encode({"type": "record", "name": name, "fields": fields}).decode()


MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
SALE = avro("Sale", shop="string", at=MILLIS, amount=["null", "double"])
REQUEST = avro("Ask", id="string", shop="string", at=MILLIS, more=["null", "long"])
"""A producer's own: the declared fields in another order, and one more."""


@pytest.fixture
def made(
    kafka: str,
    valkey: str,
    http_ports: dict[str, int],
    schema_registry: SchemaRegistry,
    unique_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """An installation with one feature view and one model, all of whose topics use the registry."""
    repository, folder = tmp_path / "repository", tmp_path / "models" / unique_name
    repository.mkdir()
    folder.mkdir(parents=True)
    definitions = DEFINITIONS.replace("SALE", SALE).replace("PREFIX", unique_name)
    (repository / "definitions.py").write_text(definitions, encoding="utf-8")
    (repository / "feature_store.yaml").write_text(STORE.replace("PREFIX", unique_name), encoding="utf-8")
    (folder / "training.py").write_text(LEARNER, encoding="utf-8")
    (folder / "model.yaml").write_text(MODEL.replace("PREFIX", unique_name), encoding="utf-8")
    changes = {
        "broker": kafka,
        "redis_url": valkey,
        "home": tmp_path / "home",
        "partitions": 1,
        "models": tmp_path / "models",
        "feature_repo": repository,
        "schema_registry_url": schema_registry.url,
        **http_ports,
    }
    made = Settings().model_copy(update=changes)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    return made


class World:
    """A producer with Confluent's own serializer, and all that the processes have written."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.name = name
        self.client = SchemaRegistryClient({"url": settings.schema_registry_url})
        self._broker = settings.broker
        self._producer = KafkaProducer(bootstrap_servers=settings.broker)
        self._consumer = KafkaConsumer(bootstrap_servers=settings.broker, auto_offset_reset="earliest")
        answers = TopicPartition(topics.predictions(name), 0)
        self._consumer.assign([answers, TopicPartition(topics.DEAD_LETTERS.name, 0)])
        self.predictions: dict[str, records.Prediction] = {}
        self.letters: list[records.DeadLetter] = []

    def close(self) -> None:
        self._producer.close()
        self._consumer.close()

    def avro(self, topic: str, schema: str, record: dict[str, Any]) -> bytes:
        serialize = AvroSerializer(self.client, schema, conf={"auto.register.schemas": True})
        value: bytes = serialize(record, SerializationContext(topic, MessageField.VALUE))
        return value

    def send(self, topic: str, *values: bytes) -> None:
        for value in values:
            self._producer.send(topic, value, key=b"mill")
        self._producer.flush()

    def read(self) -> None:
        for fetched in self._consumer.poll(timeout_ms=200).values():
            for record in fetched:
                if record.topic != topics.DEAD_LETTERS.name:
                    answer = records.decoder_of(records.Prediction).decode(record.value)
                    self.predictions[answer.prediction_id] = answer
                elif record.value is not None:
                    letter = records.decoder_of(records.DeadLetter).decode(record.value)
                    self.letters += [letter] if letter.topic.startswith(self.name) else []

    def answered(self, *ids: str) -> bool:
        self.read()
        return self.predictions.keys() >= set(ids)

    def refused(self, count: int) -> bool:
        self.read()
        return len(self.letters) == count

    def committed(self) -> int:
        admin = KafkaAdminClient(bootstrap_servers=self._broker)
        group = f"driftline.scoring.{self.name}"
        try:
            found = admin.list_group_offsets({group: [TopicPartition(f"{self.name}.requests", 0)]})
        finally:
            admin.close()
        (offsets,) = found.values()
        (one,) = offsets.values()
        return int(one.offset)


@pytest.fixture
def world(made: Settings, unique_name: str) -> Iterator[World]:
    world = World(made, unique_name)
    yield world
    world.close()


def ask(identity: str, at: dt.datetime = EARLIER) -> dict[str, Any]:
    return {"id": identity, "shop": "mill", "at": at, "more": 1}


def test_a_registry_s_records_go_through_and_wait_while_it_is_away(
    made: Settings,
    world: World,
    schema_registry: SchemaRegistry,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = world.name
    setup.setup()
    said = capsys.readouterr().out
    subjects = [f"{name}.{topic}-value" for topic in ("labels", "requests", "sales")]
    assert [f"registered the declared schema as {subject}" in said for subject in subjects] == [True] * 3
    assert project_check.schema_findings(made, declaration_file.load_all(made.models), connect=True)[1] == []

    with (
        Process("features", made, log=tmp_path / "features.log") as features,
        Process("scoring", made, log=tmp_path / "scoring.log") as scoring,
        Process("drift", made, log=tmp_path / "drift.log") as drift,
        Process("learning", made, log=tmp_path / "learning.log") as learning,
    ):
        sales = f"{name}.sales"
        world.send(sales, world.avro(sales, SALE, {"shop": "mill", "at": EARLIER, "amount": 4.5}), b"poison")
        features.wait_ready()
        scoring.wait_ready()
        until(lambda: served(features, name) == 4.5, "the sale is served")
        requests_are_answered_or_dead_letters(world)
        labels_are_written_by_their_schema(scoring, world, made)
        labels_are_joined_and_learned(scoring, world, drift, learning)
        nothing_is_done_without_the_registry(scoring, world, schema_registry)

    world.client.set_compatibility(f"{name}.requests-value", "NONE")
    world.client.register_schema(
        f"{name}.requests-value", Schema(avro("Ask", id="string", at="long"), "AVRO")
    )
    _, faults = project_check.schema_findings(made, declaration_file.load_all(made.models), connect=True)
    assert [fault.partition("version 4 ")[2] for fault in faults] == [
        f"has 'at' as long, but timestamp is declared (request of {name})",
        f"has no field 'shop' (request of {name})",
    ]


def requests_are_answered_or_dead_letters(world: World) -> None:
    requests = f"{world.name}.requests"
    without_shop = avro("Ask", id="string", at=MILLIS)
    world.send(
        requests,
        world.avro(requests, REQUEST, ask("r1")),
        b"\0\x7f\xff\xff\xff" + b"rest",
        b'{"id": "r1"}',
        world.avro(f"{world.name}.other", without_shop, ask("r2")),
        world.avro(requests, REQUEST, ask("r3")),
    )
    until(lambda: world.answered("r1", "r3"), "both requests are answered")
    until(lambda: world.refused(4), "four dead letters are there")
    assert world.predictions["r1"].features == [4.5]
    reasons = {letter.offset: letter.reason for letter in world.letters if letter.topic == requests}
    assert reasons[1] == "the schema registry has no schema 2147483647"
    assert reasons[2].startswith("the record begins with b'{\"id\"'")
    assert reasons[3].endswith("does not have the declared field 'shop'")


def label(scoring: Process, identity: str, at: dt.datetime) -> None:
    """Send a label over HTTP, where it is plain JSON."""
    body = {"labels": [{"id": identity, "at": at.isoformat(), "y": 2.0}]}
    answer = httpx.post(f"{scoring.url}/feedback", json=body, timeout=LIVENESS_SECONDS)
    assert answer.status_code == 202, answer.text


def labels_are_joined_and_learned(scoring: Process, world: World, drift: Process, learning: Process) -> None:
    """All before a label of hours later is complete, and its interval with it."""
    world.send(f"{world.name}.requests", world.avro(f"{world.name}.requests", REQUEST, ask("r6", NOW)))
    until(lambda: world.answered("r6"), "the later request is answered")
    label(scoring, "r6", NOW)
    until(
        lambda: drift.count("driftline_labels", model=world.name, result="joined") >= 1,
        "the first label is joined",
    )
    until(
        lambda: learning.count("driftline_learning_labels", model=world.name, result="learned") >= 1,
        "the first label is learned",
    )


def labels_are_written_by_their_schema(scoring: Process, world: World, settings: Settings) -> None:
    """What comes over HTTP is plain JSON, and is written as the label topic is read."""
    label(scoring, "r1", EARLIER)
    topic = f"{world.name}.labels"
    consumer = KafkaConsumer(topic, bootstrap_servers=settings.broker, auto_offset_reset="earliest")
    value = next(consumer).value
    consumer.close()
    (declared,) = declaration_file.load_all(settings.models).values()
    latest = world.client.get_latest_version(f"{topic}-value")
    assert latest.schema_id is not None
    assert value[:5] == b"\0" + latest.schema_id.to_bytes(4)
    assert declared.label.decoder().decode(value[5:]).y == 2.0


def nothing_is_done_without_the_registry(
    scoring: Process, world: World, schema_registry: SchemaRegistry
) -> None:
    """A record of a schema that is new waits, and with it what comes after it; then nothing is lost."""
    requests = f"{world.name}.requests"
    newer = avro("Ask", id="string", shop="string", at=MILLIS, more=["null", "long"], most=["null", "long"])
    values = [
        world.avro(requests, newer, ask("r4") | {"most": None}),
        world.avro(requests, REQUEST, ask("r5")),
    ]
    schema_registry.signal(signal.SIGSTOP)
    try:
        world.send(requests, *values)
        until(lambda: retried(scoring), "the slice has been tried again")
        world.read()
        assert "r4" not in world.predictions
        assert "r5" not in world.predictions
        assert world.committed() <= 6
    finally:
        schema_registry.signal(signal.SIGCONT)
    until(lambda: world.answered("r4", "r5"), "both are answered")
    assert len(world.letters) == 4
    until(lambda: world.committed() == 8, "all is committed")


def retried(scoring: Process) -> bool:
    page = httpx.get(f"{scoring.url}/metrics", timeout=LIVENESS_SECONDS).text
    lines = [line for line in page.splitlines() if line.startswith("driftline_slice_retries_total{")]
    return any(float(line.rpartition(" ")[2]) > 0 for line in lines)


def served(features: Process, service: str) -> Any:
    body = {"feature_service": service, "entities": {"shop": ["mill"]}}
    answer = httpx.post(f"{features.url}/get-online-features", json=body, timeout=LIVENESS_SECONDS).json()
    names = answer["metadata"]["feature_names"]
    return answer["results"][names.index("amount")]["values"][0]

"""A reference of more than 16 MiB reaches drift through a real broker, which needs no other server."""

import random
import threading
from typing import Any, cast

import msgspec
import pytest

from services.drift.control_topics import ControlTopics
from services.model_registry import large_references
from services.retraining.publisher import TopicPublisher
from services.runtime import kafka_consumers
from services.runtime.kafka_outbox import Outbox
from services.runtime.kafka_producers import RecordProducer
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from streams.records import Reference
from tests.unit.drift import scenario

pytestmark = pytest.mark.timeout(300)


class RecordingEngine:
    """Keeps the changes of a model."""

    def __init__(self) -> None:
        self.changes: list[records.ModelsRecord] = []

    def add_model(self, change: records.ModelsRecord) -> None:
        self.changes.append(change)


def large_reference() -> Reference:
    chance = random.Random(1)
    first = records.FeatureReference(feature="x", counts=[1] * 65, missing=0, edges=[0.0] * 64)
    features = [
        msgspec.structs.replace(first, feature=f"x{number}", edges=sorted(chance.random() for _ in range(64)))
        for number in range(13_000)
    ]
    return Reference(version=3, features=features, score=None, log_loss=0.5)


def test_drift_gets_a_reference_above_the_limit_of_a_record(kafka: str, unique_name: str) -> None:
    settings = Settings().model_copy(update={"broker": kafka})
    ensure_topics(settings, {})
    reference = large_reference()
    assert len(records.encode(reference)) > 16 << 20
    producer = RecordProducer(settings)
    session = TopicPublisher(settings, producer)
    name = session.publish_reference(unique_name, reference)
    producer.close()
    assert session.publish_reference(unique_name, reference) == name, "a repeat needs no producer"

    change = scenario.model_changed()
    change = msgspec.structs.replace(change, model=unique_name, reference=None, reference_name=name)
    outbox = Outbox("test", settings.kafka_options(), threading.Event())
    outbox.write({(topics.MODELS.name, 0): [(unique_name.encode(), records.encode(change), [])]})
    outbox.close()
    consumer = kafka_consumers.connect(settings, "test")
    latest, engine = large_references.latest_in(settings), RecordingEngine()
    control = ControlTopics(consumer, lambda *names: large_references.read(latest, *names))
    control.catch_up({unique_name: cast("Any", engine)})
    consumer.close()
    (found,) = engine.changes
    assert isinstance(found, records.ModelChanged)
    assert found.reference == reference

"""The ends of request partitions on a real Kafka, asked by a consumer that reads other topics."""

import contextlib
from collections.abc import Iterator

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer

from services.monitoring import source_ends
from services.monitoring.source_ends import LEAD_MAX, UNLIMITED
from services.runtime import kafka_consumers, topic_identity
from services.runtime.settings import Settings
from services.runtime.topic_creation import RequiredTopic, create_missing
from streams.json_decoder import InvalidRecordError
from streams.records import Prediction
from tests import recreation
from tests.unit.drift import scenario


@pytest.fixture
def local(kafka: str) -> Settings:
    return Settings().model_copy(update={"broker": kafka})


@pytest.fixture
def consumer(local: Settings) -> Iterator[KafkaConsumer]:
    with contextlib.closing(kafka_consumers.connect(local, "ends")) as connected:
        yield connected


def write(settings: Settings, topic: str, count: int) -> None:
    with contextlib.closing(KafkaProducer(**settings.kafka_options())) as producer:
        for _ in range(count):
            producer.send(topic, b"{}", partition=0)
        producer.flush()


def predicted(settings: Settings, topic: str, offset: int) -> Prediction:
    """Return a prediction as scoring writes it."""
    identity = topic_identity.identity(topic, recreation.topic_ids(settings, [topic])[topic])
    source = topic_identity.source_of(identity)
    return msgspec.structs.replace(scenario.prediction(offset, scenario.START_MS), source=source)


def test_the_end_is_that_of_the_topic_as_it_is_now(
    local: Settings, consumer: KafkaConsumer, unique_name: str
) -> None:
    create_missing(local, [RequiredTopic(unique_name, 1, {})])
    write(local, unique_name, 3)
    ends = source_ends.of_topic(consumer, unique_name)
    assert ends.check(predicted(local, unique_name, 2)) == 3 + LEAD_MAX
    with pytest.raises(InvalidRecordError, match="ends at 3"):
        ends.check(predicted(local, unique_name, 3))
    write(local, unique_name, 1)
    ends.begin_slice(0)
    assert ends.check(predicted(local, unique_name, 3)) == 4 + LEAD_MAX


def test_a_topic_that_does_not_exist_limits_nothing(
    local: Settings, consumer: KafkaConsumer, unique_name: str
) -> None:
    ends = source_ends.of_topic(consumer, unique_name)
    prediction = msgspec.structs.replace(scenario.prediction(7, scenario.START_MS), source=ends.source)
    assert ends.check(prediction) == UNLIMITED

"""The snapshots of a model on a topic of snapshots, whichever partition they are in."""

import contextlib

from kafka import TopicPartition

from services.runtime import kafka_consumers
from services.runtime.settings import Settings
from streams.topics import STATE_PARTITIONS


def snapshots_of(settings: Settings, topic: str, model: str) -> list[bytes]:
    """Return the values of the records of a model that are left, in order."""
    with contextlib.closing(kafka_consumers.connect(settings, "test")) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(STATE_PARTITIONS)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        found = kafka_consumers.read_to_end(consumer, partitions)
        return [each.value for each in found if each.key == model.encode() and each.value is not None]

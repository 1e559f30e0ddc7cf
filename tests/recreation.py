"""Topics that are deleted and recreated while, or before, a process reads them."""

import contextlib
from collections.abc import Collection

from kafka.admin import KafkaAdminClient

from services.runtime.settings import Settings
from services.runtime.topic_creation import RequiredTopic, create_missing, partition_counts
from services.runtime.topic_watch import TopicIds
from tests.waiting import until


def topic_ids(settings: Settings, names: Collection[str]) -> dict[str, str]:
    """Return the id of each of these topics that exists."""
    with contextlib.closing(TopicIds(settings.kafka_options())) as found:
        return found(names)


def delete(settings: Settings, names: Collection[str]) -> None:
    """Delete topics, and wait until they are gone."""
    with contextlib.closing(KafkaAdminClient(**settings.kafka_options())) as admin:
        admin.delete_topics(list(names))
    until(lambda: not topic_ids(settings, names), "the topics are deleted")


def recreate(settings: Settings, names: Collection[str]) -> None:
    """Delete topics, and create others with the same names and partitions."""
    counts = partition_counts(settings)
    delete(settings, names)
    create_missing(settings, [RequiredTopic(name, counts[name], {}) for name in names])

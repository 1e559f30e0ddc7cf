"""Topics that must exist before the consumer subscribes: the sources awaited, our own created."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from services.feature_store.plan import FeaturePlan, View
from services.runtime.settings import Settings
from streams import topics
from streams.topics import Topic

log = structlog.get_logger()

LOOK_SECONDS = 1.0
"""Between two looks for a source topic that nobody has created yet."""


async def prepare(settings: Settings, plan: FeaturePlan) -> dict[str, int]:
    """Wait for the source topics, create our own where they are missing; return each view's partitions.

    Created topics have the partitions of the source that they follow.
    """
    admin = AIOKafkaAdminClient(**settings.kafka_options())
    await admin.start()
    try:
        sources = await _wait(admin, list(plan.by_topic()))
        await _create(admin, [_new(*one, settings) for one in _own(plan, sources)])
        read = {view.name: read_by(view) for view in plan.views if view.is_stream}
        counts = await _wait(admin, list(set(read.values())))
    finally:
        await admin.close()
    return {view: counts[topic] for view, topic in read.items()}


def read_by(view: View) -> str:
    """Name the topic from which a view's rows are written."""
    assert view.source is not None
    return topics.repartition(view.name) if view.is_repartitioned else view.source.topic


def _own(plan: FeaturePlan, sources: dict[str, int]) -> list[tuple[Topic, str, int]]:
    own = [(topic, topic.name, topic.partitions or 1) for topic in (topics.DEAD_LETTERS, topics.FEATURE_LOG)]
    for source, views in plan.by_topic().items():
        own += [(topics.LATE, topics.late(view.name), sources[source]) for view in views]
        own += [
            (topics.REPARTITION, read_by(view), sources[source]) for view in views if view.is_repartitioned
        ]
    return own


async def _wait(admin: Any, names: Sequence[str]) -> dict[str, int]:
    told = False
    while True:
        described = await admin.describe_topics(list(names)) if names else []
        counts = {item["topic"]: len(item["partitions"]) for item in described if not item["error_code"]}
        missing = sorted(set(names) - counts.keys())
        if not missing:
            return counts
        if not told:
            log.warning("features.waiting_for_topics", missing=missing)
            told = True
        await asyncio.sleep(LOOK_SECONDS)


def _new(topic: Topic, name: str, partitions: int, settings: Settings) -> Any:
    return NewTopic(name, partitions, settings.replication_factor, topic_configs=topic.config())


async def _create(admin: Any, wanted: Sequence[Any]) -> None:
    response = await admin.create_topics(list(wanted))
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"topic {name} cannot be created")

"""Prepare the topics before the consumer subscribes: wait for the source topics, create the internal ones."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from services.feature_store.plan import FeaturePlan, View
from services.runtime import topic_creation, topic_identity
from services.runtime.settings import Settings
from services.runtime.topic_creation import RequiredTopic
from streams import topics
from streams.topics import InternalTopic

log = structlog.get_logger()

POLL_SECONDS = 1.0
"""Interval between two checks for a source topic that does not exist yet."""


async def prepare(settings: Settings, plan: FeaturePlan) -> dict[str, int]:
    """Wait for the source topics, create missing topics of this process; return each view's partition count.

    A created topic has as many partitions as the source that it follows.
    """
    sources = await _wait(settings, list(plan.by_topic()))
    required = [
        RequiredTopic(name, partitions, topic.config(settings.record_bytes_max))
        for topic, name, partitions in written_topics(plan, sources)
    ]
    await asyncio.to_thread(topic_creation.create_missing, settings, required)
    read = {view.name: input_topic(view) for view in plan.views if view.is_stream}
    counts = await _wait(settings, list(set(read.values())))
    return {view: counts[topic] for view, topic in read.items()}


def topics_read(plan: FeaturePlan) -> set[str]:
    """Return the topics that the stream views read, see `read_topics`."""
    return {topic for view in plan.views if view.is_stream for topic in read_topics(view)}


def identities(plan: FeaturePlan, ids: Mapping[str, str]) -> dict[str, str]:
    """Return for each stream view a digest of the identity of its topics, given the ids of topics.

    It is empty while one of them does not exist, and if the broker gives no ids.
    """
    return {view.name: identity_of(read_topics(view), ids) for view in plan.views if view.is_stream}


def read_topics(view: View) -> tuple[str, ...]:
    """Return the topics whose offsets a view's progress holds: its source, and the one it is read from."""
    assert view.source is not None
    return tuple(dict.fromkeys((view.source.topic, input_topic(view))))


def identity_of(names: Sequence[str], ids: Mapping[str, str]) -> str:
    """Return the digest of the identity of some topics; empty if the id of one of them is unknown."""
    if not all(ids.get(name) for name in names):
        return ""
    return topic_identity.source_of(" ".join(topic_identity.identity(name, ids[name]) for name in names))


def input_topic(view: View) -> str:
    """Return the topic from which a view's rows are written."""
    assert view.source is not None
    return topics.repartition(view.name) if view.is_repartitioned else view.source.topic


def written_topics(plan: FeaturePlan, sources: dict[str, int]) -> list[tuple[InternalTopic, str, int]]:
    """Return declaration, name and partition count of each topic that the features process writes.

    Args:
        plan: The plan.
        sources: Partition count of each source topic.
    """
    written = [
        (topic, topic.name, topic.partitions or 1) for topic in (topics.DEAD_LETTERS, topics.FEATURE_LOG)
    ]
    for source, views in plan.by_topic().items():
        written += [(topics.LATE, topics.late(view.name), sources[source]) for view in views]
        written += [
            (topics.REPARTITION, input_topic(view), sources[source])
            for view in views
            if view.is_repartitioned
        ]
    return written


async def _wait(settings: Settings, names: Sequence[str]) -> dict[str, int]:
    """Wait until all topics exist; return their partition counts."""
    is_logged = False
    while True:
        existing = await asyncio.to_thread(topic_creation.partition_counts, settings) if names else {}
        missing = sorted(set(names) - existing.keys())
        if not missing:
            return {name: existing[name] for name in names}
        if not is_logged:
            log.warning("features.waiting_for_topics", missing=missing)
            is_logged = True
        await asyncio.sleep(POLL_SECONDS)

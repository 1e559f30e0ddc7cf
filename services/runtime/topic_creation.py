"""Creation of the topics that must exist before any process starts: ours and those of the applications.

A topic that exists keeps its settings, with one exception: where the limit of one of our own topics is lower
than its records may need, for example after the setting ``record_bytes_max`` was raised, it is raised.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import AuthorizationError, InvalidPartitionsError, TopicAlreadyExistsError, for_code

from services.runtime import kafka_admin
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import topics
from streams.topics import MESSAGE_BYTES_MAX, InternalTopic

READY_MS_MAX = 30_000

_log = structlog.get_logger()


class TopicsError(Exception):
    """An existing topic does not fit. The message names it and says what to do."""


@dataclass(frozen=True)
class RequiredTopic:
    """One topic that is created if it is missing."""

    name: str
    partitions: int
    config: Mapping[str, str]
    partitions_min: int = 1
    """An existing topic with fewer partitions is refused, or gets more of them."""
    grows: bool = False
    """Whether partitions may be added: readers need not find a key in the partition of its hash."""


def ensure_topics(
    settings: Settings,
    declarations: Mapping[str, ModelDeclaration],
    applications: Sequence[str] = (),
    views: Sequence[str] = (),
) -> None:
    """Create the topics that are missing; raise the limits of those that exist. Several processes may do so.

    Args:
        settings: The broker; partitions and replicas of the topics that are created.
        declarations: The models, whose request and label topics belong to the applications.
        applications: Other topics of the applications, such as the sources of feature views.
        views: Feature views that need an internal topic, because their entity is not the message key.

    Raises:
        TopicsError: A predictions topic has fewer partitions than its request topic.
        KafkaError: The broker cannot be reached or refuses.
    """
    with kafka_admin.connected(settings.kafka_options()) as admin:
        existing = _partition_counts(admin)
        required = required_topics(
            declarations,
            applications,
            views,
            existing,
            settings.partitions,
            record_bytes_max=settings.record_bytes_max,
        )
        if narrow := too_narrow(required, existing):
            raise TopicsError(narrow)
        _ensure(admin, required, existing, settings)


def partition_counts(settings: Settings) -> dict[str, int]:
    """Return the number of partitions of each topic that exists, by name."""
    with kafka_admin.connected(settings.kafka_options()) as admin:
        return _partition_counts(admin)


def create_missing(settings: Settings, topics_required: Sequence[RequiredTopic]) -> None:
    """Create those of these topics that are missing, and raise the limits of the others."""
    with kafka_admin.connected(settings.kafka_options()) as admin:
        _ensure(admin, topics_required, _partition_counts(admin), settings)


def _partition_counts(admin: KafkaAdminClient) -> dict[str, int]:
    return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}


def required_topics(
    declarations: Mapping[str, ModelDeclaration],
    applications: Sequence[str],
    views: Sequence[str],
    existing: Mapping[str, int],
    partitions: int,
    *,
    record_bytes_max: int = topics.RECORD_BYTES_MAX,
) -> list[RequiredTopic]:
    """List every topic that must exist.

    Args:
        declarations: The models.
        applications: Other topics of the applications.
        views: Feature views with an internal topic.
        existing: The number of partitions of each topic that exists, by name.
        partitions: The number of partitions of a topic that follows no existing one.
        record_bytes_max: The maximum size of a record of the applications.
    """
    sources = {topic for one in declarations.values() for topic in (one.request.topic, one.label.topic)}
    # Applications decide on the retention of their events; by default we delete nothing.
    forever = {"retention.ms": "-1"}
    required = [RequiredTopic(name, partitions, forever) for name in sorted(sources | set(applications))]

    def add(
        topic: InternalTopic, count: int, count_min: int = 1, *, grows: bool = False, **names: str
    ) -> None:
        config = topic.config(record_bytes_max)
        name, count = topic.name.format(**names), topic.partitions or count
        required.append(RequiredTopic(name, count, config, count_min, grows))

    for declaration in declarations.values():
        requests = existing.get(declaration.request.topic, partitions)
        labels = existing.get(declaration.label.topic, partitions)
        # A prediction is written to the partition number of its request: it needs at least as many.
        add(topics.PREDICTIONS, requests, requests, model=declaration.name)
        # An outcome is written to the partition number of its label; the labels may get more partitions.
        add(topics.OUTCOMES, max(requests, labels), labels, grows=True, model=declaration.name)
    for view in views:
        add(topics.REPARTITION, partitions, view=view)
    for topic in topics.ALL:
        if "{" not in topic.name:
            add(topic, partitions, topic.partitions or 1 if topic.grows else 1, grows=topic.grows)
    return required


def raised_limits(required: Sequence[RequiredTopic], limits: Mapping[str, int]) -> dict[str, str]:
    """Return the new limit for a record of each topic whose present one, in ``limits``, is too low."""
    return {
        topic.name: topic.config[MESSAGE_BYTES_MAX]
        for topic in required
        if topic.name in limits and limits[topic.name] < int(topic.config.get(MESSAGE_BYTES_MAX, 0))
    }


def too_narrow(required: Sequence[RequiredTopic], existing: Mapping[str, int]) -> str:
    """Return a line for each existing topic that has too few partitions; empty if there is none."""
    lines = [
        f"topic {topic.name} has {existing[topic.name]} partitions and needs {topic.partitions_min}, "
        "one for each partition of the topic that it follows: add partitions, or delete the topic"
        for topic in required
        if not topic.grows and _is_narrow(topic, existing)
    ]
    return "\n".join(lines)


def widened(required: Sequence[RequiredTopic], existing: Mapping[str, int]) -> dict[str, int]:
    """Return the new number of partitions of each existing topic that gets more of them."""
    return {
        topic.name: topic.partitions_min for topic in required if topic.grows and _is_narrow(topic, existing)
    }


def _is_narrow(topic: RequiredTopic, existing: Mapping[str, int]) -> bool:
    return existing.get(topic.name, topic.partitions_min) < topic.partitions_min


def _ensure(
    admin: KafkaAdminClient,
    required: Sequence[RequiredTopic],
    existing: Mapping[str, int],
    settings: Settings,
) -> None:
    _create(admin, [topic for topic in required if topic.name not in existing], settings)
    if wider := widened(required, existing):
        with contextlib.suppress(InvalidPartitionsError):  # another process has added them
            admin.create_partitions(wider)
            _log.info("topics.widened", partitions=wider)
    limited = [topic for topic in required if topic.name in existing and MESSAGE_BYTES_MAX in topic.config]
    try:
        raised = raised_limits(limited, _limits(admin, [topic.name for topic in limited]))
        if raised:
            admin.alter_configs([_resource(name, limit) for name, limit in raised.items()])
            _log.info("topics.limits_raised", limits=raised)
    except AuthorizationError as error:
        # The process works with the limits as they are: what does not fit is reported record by record.
        _log.warning(
            "topics.limits_unknown", error=str(error), check="run 'driftline setup' as an administrator"
        )


def _limits(admin: KafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """Return the present limit for a record of each topic."""
    if not names:
        return {}
    described = admin.describe_configs([_resource(name) for name in names], config_filter="all")
    return {
        name: int(config[MESSAGE_BYTES_MAX]["value"])
        for name, config in described["topic"].items()
        if MESSAGE_BYTES_MAX in config
    }


def _resource(name: str, limit: str | None = None) -> ConfigResource:
    return ConfigResource(ConfigResourceType.TOPIC, name, {MESSAGE_BYTES_MAX: limit})


def _create(admin: KafkaAdminClient, missing: Sequence[RequiredTopic], settings: Settings) -> None:
    """Create topics and wait until each partition has a leader; another process may create them first."""
    if not missing:
        return
    new = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": settings.replication_factor,
            "configs": dict(topic.config),
        }
        for topic in missing
    }
    for created in admin.create_topics(new, raise_errors=False)["topics"]:
        error = for_code(created["error_code"])
        if created["error_code"] and error is not TopicAlreadyExistsError:
            raise error(f"topic {created['name']} cannot be created: {created['error_message']}")
    admin.wait_for_topics(list(new), timeout_ms=READY_MS_MAX)

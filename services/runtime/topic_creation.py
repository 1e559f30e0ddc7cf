"""Creation of the topics that must exist before any process starts: ours and those of the applications."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError, for_code

from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import topics
from streams.topics import InternalTopic

READY_MS_MAX = 30_000


class TopicsError(Exception):
    """An existing topic does not fit. The message names it and says what to do."""


@dataclass(frozen=True)
class RequiredTopic:
    """One topic that is created if it is missing."""

    name: str
    partitions: int
    config: Mapping[str, str]
    partitions_min: int = 1
    """An existing topic with fewer partitions is refused."""


def ensure_topics(
    settings: Settings,
    declarations: Mapping[str, ModelDeclaration],
    applications: Sequence[str] = (),
    views: Sequence[str] = (),
    *,
    sliced: bool = False,
) -> None:
    """Create the topics that are missing and leave the others as they are. Several processes may call this.

    Args:
        settings: The broker; partitions and replicas of the topics that are created.
        declarations: The models, whose request and label topics belong to the applications.
        applications: Other topics of the applications, such as the sources of feature views.
        views: Feature views that need an internal topic, because their entity is not the message key.
        sliced: Whether the topics of drift's gathering workers are needed.

    Raises:
        TopicsError: A predictions topic has fewer partitions than its request topic.
        KafkaError: The broker cannot be reached or refuses.
    """
    with _connected(settings) as admin:
        existing = _partition_counts(admin)
        required = required_topics(
            declarations, applications, views, existing, settings.partitions, sliced=sliced
        )
        if narrow := too_narrow(required, existing):
            raise TopicsError(narrow)
        _create(admin, [topic for topic in required if topic.name not in existing], settings)


def partition_counts(settings: Settings) -> dict[str, int]:
    """Return the number of partitions of each topic that exists, by name."""
    with _connected(settings) as admin:
        return _partition_counts(admin)


def create_missing(settings: Settings, topics_required: Sequence[RequiredTopic]) -> None:
    """Create those of these topics that are missing."""
    with _connected(settings) as admin:
        existing = _partition_counts(admin)
        _create(admin, [topic for topic in topics_required if topic.name not in existing], settings)


@contextlib.contextmanager
def _connected(settings: Settings) -> Iterator[KafkaAdminClient]:
    with contextlib.closing(KafkaAdminClient(**settings.kafka_options())) as admin:
        yield admin


def _partition_counts(admin: KafkaAdminClient) -> dict[str, int]:
    return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}


def required_topics(
    declarations: Mapping[str, ModelDeclaration],
    applications: Sequence[str],
    views: Sequence[str],
    existing: Mapping[str, int],
    partitions: int,
    *,
    sliced: bool = False,
) -> list[RequiredTopic]:
    """List every topic that must exist.

    Args:
        declarations: The models.
        applications: Other topics of the applications.
        views: Feature views with an internal topic.
        existing: The number of partitions of each topic that exists, by name.
        partitions: The number of partitions of a topic that follows no existing one.
        sliced: Whether the topics of drift's gathering workers are needed.
    """
    sources = {topic for one in declarations.values() for topic in (one.request.topic, one.label.topic)}
    # Applications decide on the retention of their events; by default we delete nothing.
    forever = {"retention.ms": "-1"}
    required = [RequiredTopic(name, partitions, forever) for name in sorted(sources | set(applications))]
    for declaration in declarations.values():
        requests = existing.get(declaration.request.topic, partitions)
        labels = existing.get(declaration.label.topic, partitions)
        # A prediction is written to the partition number of its request: it needs at least as many.
        required.append(_internal(topics.PREDICTIONS, requests, requests, model=declaration.name))
        required.append(_internal(topics.OUTCOMES, max(requests, labels), model=declaration.name))
        if sliced:
            count = max(existing.get(topics.predictions(declaration.name), requests), requests)
            required.append(_internal(topics.PREDICTION_SLICES, count, count, model=declaration.name))
            required.append(_internal(topics.LABEL_SLICES, labels, labels, model=declaration.name))
    required += [_internal(topics.REPARTITION, partitions, view=view) for view in views]
    required += [_internal(topic, partitions) for topic in topics.ALL if "{" not in topic.name]
    return required


def too_narrow(required: Sequence[RequiredTopic], existing: Mapping[str, int]) -> str:
    """Return a line for each existing topic that has too few partitions; empty if there is none."""
    lines = [
        f"topic {topic.name} has {existing[topic.name]} partitions and needs {topic.partitions_min}, "
        "one for each partition of the topic that it follows: add partitions, or delete the topic"
        for topic in required
        if existing.get(topic.name, topic.partitions_min) < topic.partitions_min
    ]
    return "\n".join(lines)


def _internal(topic: InternalTopic, partitions: int, partitions_min: int = 1, **names: str) -> RequiredTopic:
    return RequiredTopic(
        topic.name.format(**names), topic.partitions or partitions, topic.config(), partitions_min
    )


def _create(admin: KafkaAdminClient, missing: Sequence[RequiredTopic], settings: Settings) -> None:
    """Create topics and wait until each partition has a leader; another process may create them meanwhile."""
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

"""The topics that must exist before any process starts: Driftline's own, and those of the applications."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from streams import topics
from streams.topics import Topic

READY_MS_MAX = 30_000


class TopicsError(Exception):
    """A topic that exists cannot serve. The message names it and says what to do."""


@dataclass(frozen=True)
class Wanted:
    """One topic to be created if it is missing."""

    name: str
    partitions: int
    config: Mapping[str, str]
    partitions_min: int = 1
    """With fewer, one that exists is refused."""


def ensure_topics(
    settings: Settings,
    declarations: Mapping[str, ModelDeclaration],
    applications: Sequence[str] = (),
    views: Sequence[str] = (),
    *,
    sliced: bool = False,
) -> None:
    """Create the topics that are missing; leave alone those that exist. May be called again and by several.

    Args:
        settings: The broker; partitions and replicas of what is created.
        declarations: The models, whose request and label topics belong to the applications.
        applications: Further topics of the applications, as the sources of feature views.
        views: Feature views that need an internal topic, because their entity is not the message key.
        sliced: Whether drift's gathering workers write theirs.

    Raises:
        TopicsError: A predictions topic has fewer partitions than its request topic.
        KafkaError: The broker cannot be reached or refuses.
    """
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(**settings.kafka_options())
    try:
        existing = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
        wanted = wanted_topics(
            declarations, applications, views, existing, settings.partitions, sliced=sliced
        )
        if narrow := too_narrow(wanted, existing):
            raise TopicsError(narrow)
        missing = [topic for topic in wanted if topic.name not in existing]
        _create(admin, missing, settings.replication_factor)
    finally:
        admin.close()


def wanted_topics(
    declarations: Mapping[str, ModelDeclaration],
    applications: Sequence[str],
    views: Sequence[str],
    existing: Mapping[str, int],
    partitions: int,
    *,
    sliced: bool = False,
) -> list[Wanted]:
    """List every topic that must exist.

    Args:
        declarations: The models.
        applications: Further topics of the applications.
        views: Feature views with an internal topic.
        existing: Partitions by name of the topics that are there.
        partitions: Of a topic that follows none that is there.
        sliced: Whether drift's gathering workers write theirs.
    """
    sources = {topic for one in declarations.values() for topic in (one.request.topic, one.label.topic)}
    # Applications decide how long their events live; deleting them is not for us to begin with.
    kept = {"retention.ms": "-1"}
    wanted = [Wanted(name, partitions, kept) for name in sorted(sources | set(applications))]
    for declaration in declarations.values():
        requests = existing.get(declaration.request.topic, partitions)
        labels = existing.get(declaration.label.topic, partitions)
        # A prediction goes to the partition number of its request: it cannot do with fewer.
        wanted.append(_own(topics.PREDICTIONS, requests, requests, model=declaration.name))
        wanted.append(_own(topics.OUTCOMES, max(requests, labels), model=declaration.name))
        if sliced:
            asked = max(existing.get(topics.predictions(declaration.name), requests), requests)
            wanted.append(_own(topics.PREDICTION_SLICES, asked, asked, model=declaration.name))
            wanted.append(_own(topics.LABEL_SLICES, labels, labels, model=declaration.name))
    wanted += [_own(topics.REPARTITION, partitions, view=view) for view in views]
    wanted += [_own(topic, partitions) for topic in topics.ALL if "{" not in topic.name]
    return wanted


def too_narrow(wanted: Sequence[Wanted], existing: Mapping[str, int]) -> str:
    """Describe the topics with fewer partitions than they cannot do without; empty if there is none."""
    lines = [
        f"topic {topic.name} has {existing[topic.name]} partitions and needs {topic.partitions_min}, "
        "one for each of the topic that it follows: add partitions, or delete it"
        for topic in wanted
        if existing.get(topic.name, topic.partitions_min) < topic.partitions_min
    ]
    return "\n".join(lines)


def _own(topic: Topic, partitions: int, partitions_min: int = 1, **names: str) -> Wanted:
    return Wanted(topic.name.format(**names), topic.partitions or partitions, topic.config(), partitions_min)


def _create(admin: Any, missing: Sequence[Wanted], replication_factor: int) -> None:
    """Create topics and wait until each partition has a leader; another process may do the same just now."""
    from kafka.errors import TopicAlreadyExistsError, for_code

    if not missing:
        return
    new = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": replication_factor,
            "configs": dict(topic.config),
        }
        for topic in missing
    }
    for answer in admin.create_topics(new, raise_errors=False)["topics"]:
        error = for_code(answer["error_code"])
        if answer["error_code"] and error is not TopicAlreadyExistsError:
            raise error(f"topic {answer['name']} cannot be created: {answer['error_message']}")
    admin.wait_for_topics(list(new), timeout_ms=READY_MS_MAX)

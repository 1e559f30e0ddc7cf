"""What `driftline doctor` looks at: each server, the topics, the clock, the disk, the installed packages."""

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kafka.errors import KafkaError
from redis import RedisError

from services.feature_store import repository
from services.feature_store.plan import PlanError
from services.operations import server_probes
from services.operations.server_probes import ANSWER_SECONDS_MAX, UnreachableError
from services.runtime import redis_clients
from services.runtime.declaration import DeclarationError
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import partition_counts, required_topics, too_narrow

FREE_BYTES_MIN = 1 << 30
"""Below this, a checkpoint or a version of a model may not find room."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found about one part. ``fix`` is what to do; empty: nothing is wrong."""

    name: str
    text: str
    fix: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.fix


def diagnosed(settings: Settings) -> list[Diagnosis]:
    """Look at everything; what needs a server that does not respond is left out."""
    kafka = _probed("Kafka", server_probes.probe_kafka, settings)
    redis = _probed("Redis", server_probes.probe_redis, settings)
    found = [kafka, redis, _probed("MLflow", server_probes.probe_mlflow, settings)]
    if settings.schema_registry_url:
        found.append(_probed("schema registry", server_probes.probe_schema_registry, settings))
    if kafka.is_well:
        found.append(_topics(settings))
    if redis.is_well:
        found.append(_clock(settings))
    home = settings.home.resolve()
    while not home.exists():
        home = home.parent
    return [*found, disk(home, shutil.disk_usage(home).free), versions(_requirements(), _installed)]


def _probed(name: str, probe: Callable[[Settings], str], settings: Settings) -> Diagnosis:
    try:
        return Diagnosis(name, f"responds at {probe(settings)}")
    except UnreachableError as error:
        text, _, fix = str(error).partition("): ")
        return Diagnosis(name, f"{text})", fix)


def _topics(settings: Settings) -> Diagnosis:
    """Compare the topics that exist with those that the models and the feature repository need."""
    try:
        declarations, plan = load_all(settings.models), repository.load(settings)
    except DeclarationError as error:
        return Diagnosis("topics", f"not known: {str(error).splitlines()[0]}", "driftline check")
    except PlanError as error:
        return Diagnosis("topics", f"not known: {str(error).splitlines()[0]}", "driftline setup")
    views = [view.name for view in plan.views if view.is_repartitioned]
    try:
        existing = partition_counts(settings)
    except (KafkaError, OSError) as error:
        return Diagnosis("topics", f"cannot be listed: {error}", "allow this user to describe topics")
    required = required_topics(declarations, list(plan.by_topic()), views, existing, settings.partitions)
    return topics_compared([topic.name for topic in required], existing, too_narrow(required, existing))


def topics_compared(names: Iterable[str], existing: Mapping[str, int], narrow: str | None) -> Diagnosis:
    """Compare names with the topics that exist.

    Args:
        names: Those that must exist.
        existing: The number of partitions of each topic, by name.
        narrow: Why a topic has too few partitions; None or empty: none has.
    """
    wanted = list(names)
    if missing := [name for name in wanted if name not in existing]:
        return Diagnosis("topics", f"missing: {', '.join(missing)}", "driftline setup")
    if narrow:
        return Diagnosis("topics", narrow, "add partitions to the topic, as the text says")
    return Diagnosis("topics", f"all {len(wanted)} exist")


def _clock(settings: Settings) -> Diagnosis:
    """Compare this clock with that of Redis."""
    try:
        with redis_clients.connect_blocking(settings, socket_timeout=ANSWER_SECONDS_MAX) as client:
            before = time.time()
            seconds, microseconds = client.time()
            middle = (before + time.time()) / 2
    except (RedisError, OSError, ValueError, TypeError) as error:
        return Diagnosis("clock", f"cannot be compared: {error}", "allow this user the command TIME")
    return clock(seconds + microseconds / 1e6 - middle, settings.event_ahead_seconds_max)


def clock(difference_seconds: float, ahead_seconds_max: float) -> Diagnosis:
    """Judge how far the clock of Redis is ahead of this one."""
    text = f"that of Redis differs by {difference_seconds:+.1f} s"
    if abs(difference_seconds) <= ahead_seconds_max:
        return Diagnosis("clock", text)
    fix = "keep both machines in step with NTP: records that are dated ahead become dead letters"
    return Diagnosis("clock", f"{text}, the limit is {ahead_seconds_max:g} s", fix)


def disk(folder: Path, free_bytes: int) -> Diagnosis:
    """Judge the free room of the home folder."""
    text = f"{free_bytes / (1 << 30):.1f} GiB are free at {folder}"
    if free_bytes >= FREE_BYTES_MIN:
        return Diagnosis("disk", text)
    fix = "make room, or set DRIFTLINE_HOME to a folder on another disk; 1 GiB is the least"
    return Diagnosis("disk", text, fix)


def versions(requirements: Iterable[str], installed: Callable[[str], str | None]) -> Diagnosis:
    """Compare installed packages with what Driftline requires.

    Args:
        requirements: As a package declares them, with markers.
        installed: Returns the version of a package; None if it is not there.
    """
    from packaging.requirements import Requirement

    faults, count = [], 0
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        found = installed(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            faults.append(f"{requirement.name} is {found or 'missing'}, required is {requirement.specifier}")
    if faults:
        return Diagnosis(
            "packages", "; ".join(faults), "install Driftline again, in an environment of its own"
        )
    return Diagnosis("packages", f"all {count} fit")


def _requirements() -> list[str]:
    return importlib.metadata.requires("driftline") or []


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

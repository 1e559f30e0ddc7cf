"""``driftline check``: whether the settings and all declarations are valid, and the servers respond."""

import contextlib
import difflib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated
from urllib.parse import urlsplit

import httpx
from cyclopts import Parameter
from kafka.errors import KafkaError
from pydantic import ValidationError
from redis import RedisError

from services.alerting import destinations
from services.alerting.destinations import DestinationsError
from services.feature_store import declared_features, repository
from services.feature_store.plan import PlanError, View
from services.model_registry import training_code
from services.operations import schema_checks
from services.runtime import kafka_admin, redis_clients
from services.runtime.command_output import fail, ok, warn
from services.runtime.declaration import FILE, DeclarationError, ModelDeclaration
from services.runtime.declaration_file import load_all, positioned
from services.runtime.settings import Settings
from streams import topics
from streams.schemas import SchemaRegistryUnavailableError

ANSWER_SECONDS_MAX = 5
"""A server on the same network responds within milliseconds; after this it is down or the address is
wrong."""
PREFIX = "DRIFTLINE_"
NO_SETTINGS = {
    "DRIFTLINE_ONLINE_STORE": "feature_store.yaml expands it; set it to call feast by hand",
    "DRIFTLINE_SUPERVISORS": "marks what services.operations.local_servers has started",
}
"""Variables with our prefix that are not settings, and their meaning."""


class UnreachableError(Exception):
    """A server does not respond. The message has its address, the error, and what to do."""


def check(*, connect: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Check the settings and every model declaration; exit with 1 if anything is wrong.

    Args:
        connect: Also check whether Kafka, Redis and MLflow respond.
    """
    if unknown := unknown_settings(os.environ):
        fail(*unknown)
    try:
        settings = Settings()
        declarations = load_all(settings.models)
        routes = alert_summaries(settings, declarations)
    except ValidationError as error:
        fail(*invalid_settings(error))
    except (DeclarationError, DestinationsError) as error:
        fail(*str(error).splitlines())
    for declaration in declarations.values():
        ok(summary(declaration))
        for line in deprecations(declaration):
            warn(line)
    for line in routes:
        ok(line)
    if faults := [*training_faults(settings, declarations), *feature_faults(settings, declarations)]:
        fail(*faults)
    if faults := schema_faults(settings, declarations, connect=connect):
        fail(*faults)
    if connect and (faults := unreachable_servers(settings)):
        fail(*faults)


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """Return a line for each variable with our prefix that is not a setting: probably misspelt."""
    known = [*(PREFIX + name.upper() for name in Settings.model_fields), *NO_SETTINGS]
    ours = sorted(name for name in environment if name.upper().startswith(PREFIX))
    return [
        f"{name}: unknown setting{_suggestion(name, known)}" for name in ours if name.upper() not in known
    ]


def invalid_settings(error: ValidationError) -> list[str]:
    """Return a line with variable and error for each invalid setting, without the value: it may be secret."""
    return [
        f"{_variable(detail['loc'])}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors()
    ]


def summary(declaration: ModelDeclaration) -> str:
    """Return one line with the topics that a model joins."""
    service = declaration.features.service
    return (
        f"model {declaration.name}: {declaration.request.topic} -> {topics.predictions(declaration.name)}; "
        f"labels from {declaration.label.topic}; features from the "
        f"{f'service {service}' if service else 'request alone'}"
    )


def deprecations(declaration: ModelDeclaration) -> list[str]:
    """Return a line for each declared key that has no effect any more."""
    if declaration.monitoring.adwin_delta is None:
        return []
    advice = "remove it, or declare adwin in monitoring.detectors"
    return [f"model {declaration.name}: monitoring.adwin_delta has no effect any more; {advice}"]


def alert_summaries(settings: Settings, declarations: Mapping[str, ModelDeclaration]) -> list[str]:
    """Return the routes of each model's alerts, without URLs; `DestinationsError` if a name is unknown."""
    urls = destinations.load(settings)
    return [
        destinations.summary(declaration, urls)
        for declaration in declarations.values()
        if declaration.alerts.routes
    ]


def training_faults(settings: Settings, declarations: Mapping[str, ModelDeclaration]) -> list[str]:
    """Return what is wrong with the training.py of each model that is trained here."""
    found = []
    for name, declaration in declarations.items():
        faults = [training_code.fault_of(settings.models, name, each) for each in _functions_of(declaration)]
        found += [each for each in faults if each is not None]
    return list(dict.fromkeys(found))


def _functions_of(declaration: ModelDeclaration) -> list[str]:
    """Return the functions that a model's training.py must define."""
    if not declaration.is_retrained:
        return ["learner"] if declaration.learning else []
    return ["estimator", *(["search_space"] if declaration.retraining.search else [])]


def feature_faults(settings: Settings, declarations: Mapping[str, ModelDeclaration]) -> list[str]:
    """Return what does not fit between the declarations and the files of the feature repository."""
    if not any(declaration.features.service for declaration in declarations.values()):
        return []
    try:
        plan = repository.checked(settings)
    except PlanError as error:
        return [str(error)]
    return [
        line
        for name, declaration in declarations.items()
        for line in positioned(settings.models / name / FILE, declared_features.all_faults(declaration, plan))
    ]


def schema_faults(
    settings: Settings, declarations: Mapping[str, ModelDeclaration], *, connect: bool
) -> list[str]:
    """Return an error if a schema registry is missing; with ``connect``, one for each schema that differs."""
    views: tuple[View, ...] = ()
    with contextlib.suppress(PlanError):  # not applied yet: setup checks them
        views = tuple(repository.load(settings).views) if connect else ()
    try:
        sources = [view.source for view in views if view.source is not None]
        readers = schema_checks.readings(declarations, sources)
        registry = schema_checks.needed_by(settings, readers)
        if registry is None or not connect:
            return []
        well, faults = schema_checks.ensure(registry, readers, register=False)
    except (DeclarationError, SchemaRegistryUnavailableError) as error:
        return [str(error)]
    for line in well:
        ok(line)
    return faults


def unreachable_servers(settings: Settings) -> list[str]:
    """Connect to each server; print those that respond and return one line for each that does not."""
    faults = []
    probes: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("Kafka", _probe_kafka),
        ("Redis", _probe_redis),
        ("MLflow", _probe_mlflow),
    )
    for name, probe in probes:
        try:
            ok(f"{name} responds at {probe(settings)}")
        except UnreachableError as error:
            faults.append(f"{name} {error}")
    return faults


def _probe_kafka(settings: Settings) -> str:
    logging.getLogger("kafka").setLevel(
        logging.CRITICAL
    )  # it warns of each attempt; we say it once, with a hint
    milliseconds = ANSWER_SECONDS_MAX * 1000
    try:
        with kafka_admin.connected(settings.kafka_options(), timeout_ms=milliseconds) as admin:
            admin.list_topics()
    except (KafkaError, OSError, ValueError) as error:
        raise _unreachable(
            settings.broker, error, "DRIFTLINE_BROKER and, with SASL or TLS, its user and certificates"
        ) from error
    return settings.broker


def _probe_redis(settings: Settings) -> str:
    address = _without_user(settings.redis_url)
    try:
        with redis_clients.connect_blocking(
            settings, socket_timeout=ANSWER_SECONDS_MAX, socket_connect_timeout=ANSWER_SECONDS_MAX
        ) as client:
            client.ping()
    except (RedisError, OSError, ValueError) as error:
        raise _unreachable(address, error, "DRIFTLINE_REDIS_URL") from error
    return address


def _probe_mlflow(settings: Settings) -> str:
    address = _without_user(settings.mlflow_uri)
    try:
        httpx.get(f"{settings.mlflow_uri.rstrip('/')}/health", timeout=ANSWER_SECONDS_MAX).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(address, error, "DRIFTLINE_MLFLOW_URI") from error
    return address


def _unreachable(address: str, error: Exception, setting: str) -> UnreachableError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UnreachableError(
        f"does not respond at {address} ({reason}): start the servers with 'driftline up', or check {setting}"
    )


def _without_user(url: str) -> str:
    """Return a URL without user and password."""
    return url.replace(f"{urlsplit(url).netloc.rpartition('@')[0]}@", "", 1) if "@" in url else url


def _variable(location: Sequence[int | str]) -> str:
    return PREFIX + str(location[0]).upper().removeprefix(PREFIX) if location else "settings"


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.upper(), known, n=1)
    return f" (did you mean {near[0]}?)" if near else "; docs/reference/settings.md lists them all"

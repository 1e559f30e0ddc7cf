"""Whether the servers respond: one small request to each."""

import logging
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
from kafka.errors import KafkaError
from redis import RedisError

from services.runtime import kafka_admin, redis_clients
from services.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_SECONDS_MAX = 5
"""A server on the same network responds within milliseconds; after this it is down or the address is
wrong."""


class UnreachableError(Exception):
    """A server does not respond. The message has its address, the error, and what to do."""


def unreachable_servers(settings: Settings) -> tuple[list[str], list[str]]:
    """Connect to each server; return a line for each that responds and one for each that does not."""
    well, faults = [], []
    probes: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("Kafka", probe_kafka),
        ("Redis", probe_redis),
        ("MLflow", probe_mlflow),
    )
    for name, probe in probes:
        try:
            well.append(f"{name} responds at {probe(settings)}")
        except UnreachableError as error:
            faults.append(f"{name} {error}")
    return well, faults


def probe_kafka(settings: Settings) -> str:
    """Return where Kafka responds; raise `UnreachableError` if it does not."""
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


def probe_redis(settings: Settings) -> str:
    """Return where Redis responds; raise `UnreachableError` if it does not."""
    address = _without_user(settings.redis_url)
    try:
        with redis_clients.connect_blocking(
            settings, socket_timeout=ANSWER_SECONDS_MAX, socket_connect_timeout=ANSWER_SECONDS_MAX
        ) as client:
            client.ping()
    except (RedisError, OSError, ValueError) as error:
        raise _unreachable(address, error, "DRIFTLINE_REDIS_URL") from error
    return address


def probe_mlflow(settings: Settings) -> str:
    """Return where MLflow responds; raise `UnreachableError` if it does not."""
    address = _without_user(settings.mlflow_uri)
    try:
        httpx.get(f"{settings.mlflow_uri.rstrip('/')}/health", timeout=ANSWER_SECONDS_MAX).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(address, error, "DRIFTLINE_MLFLOW_URI") from error
    return address


def probe_schema_registry(settings: Settings) -> str:
    """Return where the schema registry responds; raise `UnreachableError` if it does not."""
    address = _without_user(settings.schema_registry_url)
    password = settings.schema_registry_password.get_secret_value()
    login = (settings.schema_registry_username, password) if settings.schema_registry_username else None
    url = f"{settings.schema_registry_url.rstrip('/')}/subjects"
    try:
        trust = ssl.create_default_context(cafile=settings.schema_registry_cafile)
        httpx.get(url, timeout=ANSWER_SECONDS_MAX, auth=login, verify=trust).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise _unreachable(address, error, "DRIFTLINE_SCHEMA_REGISTRY_URL and its user") from error
    return address


def _unreachable(address: str, error: Exception, setting: str) -> UnreachableError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UnreachableError(
        f"does not respond at {address} ({reason}): start the servers with 'driftline up', or check {setting}"
    )


def _without_user(url: str) -> str:
    """Return a URL without user and password."""
    return url.replace(f"{urlsplit(url).netloc.rpartition('@')[0]}@", "", 1) if "@" in url else url

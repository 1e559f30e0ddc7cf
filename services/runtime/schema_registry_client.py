"""The client of the schema registry."""

import functools
from typing import Any

from services.runtime.declaration import DeclarationError
from services.runtime.settings import Settings
from streams.schemas import Encoding, RegisteredSchema, Schema, SchemaRegistryUnavailableError

REQUEST_SECONDS_MAX = 2.0
RETRIES_MAX = 1
"""Retries of one request; after them the whole operation is retried, after a pause. A process that stops
waits for both attempts, within its ten seconds."""
RETRY_MS = 100
_UNKNOWN = (40401, 40402, 40403)
"""Error codes of the registry itself: no such subject, version, schema. Any other 404 is of something
in front of it, such as a gateway, and counts as an outage: the schema may exist."""
_REFUSED = (409, 422)
"""HTTP statuses for a schema that is incompatible with earlier ones, or invalid."""


class _RefusedError(Exception):
    """The registry refuses a schema."""


class ConfluentRegistry:
    """A registry with Confluent's API, which Karapace, Apicurio and Redpanda also have."""

    def __init__(self, client: Any, place: str) -> None:
        """Take Confluent's client, and the address for error messages."""
        self._client = client
        self._place = place

    def schema(self, schema_id: int) -> Schema | None:
        """Return a schema; None if the registry does not know the id."""
        found = self._ask(self._client.get_schema, schema_id)
        return None if found is None else _schema(found)

    def latest(self, subject: str) -> RegisteredSchema | None:
        """Return the latest version of a subject; None if there is no such subject."""
        found = self._ask(self._client.get_latest_version, subject)
        return found and RegisteredSchema(found.schema_id, found.version, _schema(found.schema))

    def register(self, subject: str, schema: Schema) -> str | None:
        """Add a version to a subject unless it exists; return the reason if it is refused, else None."""
        from confluent_kafka.schema_registry import Schema as Theirs

        try:
            self._ask(self._client.register_schema, subject, Theirs(schema.text, schema.kind))
        except _RefusedError as error:
            return str(error)
        return None

    def _ask(self, function: Any, *arguments: Any) -> Any:
        """Call the client; return None if the registry says that it does not exist."""
        from confluent_kafka.schema_registry import SchemaRegistryError

        try:
            return function(*arguments)
        except SchemaRegistryError as error:
            if error.error_code in _UNKNOWN:
                return None
            if error.http_status_code in _REFUSED:
                raise _RefusedError(error.error_message) from error
            raise SchemaRegistryUnavailableError(f"the schema registry at {self._place}: {error}") from error
        except Exception as error:  # errors of its HTTP client, which are not documented
            raise SchemaRegistryUnavailableError(
                f"the schema registry does not respond at {self._place} ({error!r}): check "
                "DRIFTLINE_SCHEMA_REGISTRY_URL"
            ) from error


def _schema(found: Any) -> Schema:
    return Schema(found.schema_type or Encoding.AVRO.kind, found.schema_str, bool(found.references))


@functools.cache
def connect(settings: Settings) -> ConfluentRegistry | None:
    """Return the registry of the settings, None if none is set; `DeclarationError` without its client."""
    if not settings.schema_registry_url:
        return None
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise DeclarationError(
            "DRIFTLINE_SCHEMA_REGISTRY_URL needs the optional packages: driftline[registry]"
        ) from error
    options: dict[str, Any] = {
        "url": settings.schema_registry_url,
        "timeout": REQUEST_SECONDS_MAX,
        "max.retries": RETRIES_MAX,
        "retries.wait.ms": RETRY_MS,
        "retries.max.wait.ms": RETRY_MS,
        "cache.latest.ttl.sec": 1,
    }
    if settings.schema_registry_username:
        secret = settings.schema_registry_password.get_secret_value()
        options["basic.auth.user.info"] = f"{settings.schema_registry_username}:{secret}"
    if settings.schema_registry_cafile:
        options["ssl.ca.location"] = str(settings.schema_registry_cafile)
    return ConfluentRegistry(SchemaRegistryClient(options), settings.schema_registry_url)

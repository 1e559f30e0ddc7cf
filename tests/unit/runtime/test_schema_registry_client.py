import sys
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import schema_registry
from confluent_kafka.schema_registry import SchemaRegistryError

from services.runtime.declaration import DeclarationError
from services.runtime.schema_registry_client import RETRY_MS, ConfluentRegistry, connect
from services.runtime.settings import Settings
from streams.outages import is_outage
from streams.schemas import RegisteredSchema, Schema, SchemaRegistryUnavailableError

URL = "http://registry.test"


class Client:
    """A client of Confluent's that returns or raises one thing, and keeps what it was called with."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self.calls: list[tuple[Any, ...]] = []

    def get_schema(self, *arguments: Any) -> Any:
        self.calls.append(arguments)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    get_latest_version = register_schema = get_schema


def registry(outcome: Any) -> ConfluentRegistry:
    return ConfluentRegistry(Client(outcome), URL)


def refusal(status: int, text: str = "no", code: int | None = None) -> SchemaRegistryError:
    return SchemaRegistryError(status, status * 100 if code is None else code, text)


def found(kind: str | None = "JSON", references: Any = ()) -> SimpleNamespace:
    return SimpleNamespace(schema_type=kind, schema_str="{}", references=references)


def test_a_schema_is_found_by_its_id() -> None:
    client = Client(found())
    assert ConfluentRegistry(client, URL).schema(7) == Schema("JSON", "{}", has_references=False)
    assert client.calls == [(7,)]


def test_a_schema_without_a_kind_is_avro_and_references_are_told() -> None:
    assert registry(found(None, ["other"])).schema(7) == Schema("AVRO", "{}", has_references=True)


def test_the_latest_version_has_its_id_and_number() -> None:
    latest = SimpleNamespace(schema_id=7, version=2, schema=found())
    assert registry(latest).latest("t-value") == RegisteredSchema(7, 2, Schema("JSON", "{}"))


@pytest.mark.parametrize("code", [40401, 40402, 40403])
def test_what_the_registry_does_not_know_is_none(code: int) -> None:
    unknown = registry(refusal(404, code=code))
    assert unknown.schema(7) is None
    assert unknown.latest("t-value") is None


def test_a_schema_is_registered_with_its_kind() -> None:
    client = Client(1)
    assert ConfluentRegistry(client, URL).register("t-value", Schema("JSON", "{}")) is None
    ((subject, schema),) = client.calls
    assert (subject, schema.schema_type, schema.schema_str) == ("t-value", "JSON", "{}")


@pytest.mark.parametrize("status", [409, 422])
def test_a_refused_schema_has_the_reason(status: int) -> None:
    assert registry(refusal(status, "incompatible")).register("t", Schema("AVRO", "{}")) == "incompatible"


@pytest.mark.parametrize("code", [-1, 404, 40400])
def test_a_404_of_a_gateway_is_an_outage(code: int) -> None:
    with pytest.raises(SchemaRegistryUnavailableError) as raised:
        registry(refusal(404, code=code)).schema(7)
    assert is_outage(raised.value)


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_another_error_of_the_registry_may_be_retried(status: int) -> None:
    with pytest.raises(SchemaRegistryUnavailableError, match=f"the schema registry at {URL}: no"):
        registry(refusal(status)).register("t", Schema("AVRO", "{}"))


def test_a_registry_that_does_not_respond_is_named_with_its_setting() -> None:
    with pytest.raises(SchemaRegistryUnavailableError) as raised:
        registry(OSError("refused")).schema(7)
    assert str(raised.value) == (
        f"the schema registry does not respond at {URL} (OSError('refused')): "
        "check DRIFTLINE_SCHEMA_REGISTRY_URL"
    )


def test_without_an_address_there_is_no_registry() -> None:
    assert connect(Settings(_env_file=None, schema_registry_url="")) is None


def test_a_missing_client_is_named_with_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
    with pytest.raises(DeclarationError, match=r"needs the optional packages: driftline\[registry\]"):
        connect(Settings(_env_file=None, schema_registry_url=f"{URL}/missing"))


@pytest.mark.parametrize("user", ["", "me"])
def test_the_connection_has_bounds_and_the_secret_only_with_a_user(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(schema_registry, "SchemaRegistryClient", given.append)
    settings = Settings(
        _env_file=None,
        schema_registry_url=f"{URL}/{user}",
        schema_registry_username=user,
        schema_registry_password="s3cret",
    )
    first = connect(settings)
    assert connect(settings.model_copy()) is first
    (options,) = given
    assert options["url"] == f"{URL}/{user}"
    assert (options["timeout"], options["max.retries"], options["retries.wait.ms"]) == (2, 1, RETRY_MS)
    assert options.get("basic.auth.user.info") == ("me:s3cret" if user else None)
    assert "ssl.ca.location" not in options

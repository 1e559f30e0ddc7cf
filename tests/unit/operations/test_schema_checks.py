from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from services.feature_store.plan import StreamSource
from services.operations import schema_checks
from services.operations.schema_checks import Reading
from services.runtime.declaration import DeclarationError, ModelDeclaration
from services.runtime.settings import Settings
from streams import schemas
from streams.codec import Field, FieldType
from streams.schemas import Encoding, RegisteredSchema, Schema
from tests.unit.drift import scenario

ID = Field("id", FieldType.STRING, nullable=False)
AMOUNT = Field("amount", FieldType.FLOAT, nullable=True)


class MemoryRegistry:
    """A registry in memory."""

    def __init__(self, latest: Mapping[str, Schema] | None = None, refusal: str | None = None) -> None:
        self.subjects = dict(latest or {})
        self._refusal = refusal

    def schema(self, schema_id: int) -> Schema | None:
        raise NotImplementedError

    def latest(self, subject: str) -> RegisteredSchema | None:
        found = self.subjects.get(subject)
        return None if found is None else RegisteredSchema(1, 4, found)

    def register(self, subject: str, schema: Schema) -> str | None:
        if self._refusal is None:
            self.subjects[subject] = schema
        return self._refusal


def reading(*fields: Field, who: str = "request of m", encoding: Encoding = Encoding.AVRO) -> Reading:
    return Reading(who, encoding, fields)


def model(request: str = "json", label: str = "json") -> ModelDeclaration:
    content: dict[str, Any] = scenario.document()
    content["request"] = {**content["request"], "encoding": request}
    content["label"] = {**content["label"], "encoding": label}
    return ModelDeclaration.model_validate(content)


def source(topic: str, encoding: Encoding) -> StreamSource:
    return StreamSource(topic, "at", (ID, AMOUNT), ("id",), 0, encoding=encoding)


def test_only_topics_with_an_encoding_of_the_registry_are_read_with_it() -> None:
    declared = model(request="avro")
    sources = [source("sales", Encoding.JSON_SCHEMA), source("plain", Encoding.JSON)]
    found = schema_checks.readings({"m": declared}, sources)
    assert found == {
        declared.request.topic: [Reading("request of m", Encoding.AVRO, declared.request.fields)],
        "sales": [Reading("feature views", Encoding.JSON_SCHEMA, (ID, AMOUNT))],
    }


def test_all_readers_of_a_topic_are_found() -> None:
    declared = model(label="avro")
    topic = declared.label.topic
    found = schema_checks.readings({"a": declared, "b": declared}, [source(topic, Encoding.AVRO)])
    assert [each.who for each in found[topic]] == ["label of a", "label of b", "feature views"]


def test_readers_with_different_encodings_are_refused_by_name() -> None:
    declared = model(request="avro")
    with pytest.raises(DeclarationError) as refused:
        schema_checks.readings({"m": declared}, [source(declared.request.topic, Encoding.JSON)])
    assert str(refused.value) == (
        f"topic {declared.request.topic} is avro for the request of m, and json for the feature views: "
        "declare the same encoding for both"
    )


def test_a_registry_without_an_address_is_only_an_error_if_a_topic_needs_it() -> None:
    settings = Settings(_env_file=None, schema_registry_url="")
    assert schema_checks.needed_by(settings, {}) is None
    with pytest.raises(DeclarationError) as refused:
        schema_checks.needed_by(settings, {"b": [], "a": []})
    assert str(refused.value) == (
        "the records of a, b need a schema registry: set DRIFTLINE_SCHEMA_REGISTRY_URL to its address"
    )


def ensured(
    registry: MemoryRegistry, readers: Mapping[str, Sequence[Reading]], *, register: bool = True
) -> tuple[list[str], list[str]]:
    return schema_checks.ensure(registry, readers, register=register)


@pytest.mark.parametrize("encoding", [Encoding.AVRO, Encoding.JSON_SCHEMA])
def test_a_registered_schema_fits_afterwards(encoding: Encoding) -> None:
    registry = MemoryRegistry()
    readers = {"sales": [reading(ID, AMOUNT, encoding=encoding)]}
    assert ensured(registry, readers) == (["registered the declared schema as sales-value"], [])
    assert ensured(registry, readers) == (["sales-value version 4 has all declared fields"], [])


def test_a_check_registers_nothing() -> None:
    registry = MemoryRegistry()
    fault = "sales-value has no schema: 'driftline setup' registers the declared one"
    assert ensured(registry, {"sales": [reading(ID)]}, register=False) == ([], [fault])
    assert registry.subjects == {}


def test_each_misfit_is_named_with_its_reader() -> None:
    """A topic that fits for one of its readers only is no topic that fits."""
    registry = MemoryRegistry({"sales-value": schemas.declared_schema(Encoding.AVRO, "Sale", [ID])})
    town, shop = (Field(name, FieldType.STRING, nullable=False) for name in ("town", "shop"))
    readers = {"sales": [reading(ID), reading(ID, town, shop, who="label of m")]}
    assert ensured(registry, readers) == (
        [],
        [
            "sales-value version 4 has no field 'town' (label of m)",
            "sales-value version 4 has no field 'shop' (label of m)",
        ],
    )


def test_a_refusal_has_the_registrys_reason() -> None:
    registry = MemoryRegistry(refusal="subjects are read-only")
    fault = "sales-value: the registry refuses the declared schema: subjects are read-only"
    assert ensured(registry, {"sales": [reading(ID)]}) == ([], [fault])


def test_a_registered_schema_has_the_fields_of_all_readers_once() -> None:
    """A field is nullable only if all its readers allow null."""
    registry = MemoryRegistry()
    required = Field("amount", FieldType.FLOAT, nullable=False)
    ensured(registry, {"shop.sales_eu": [reading(ID, AMOUNT), reading(required, ID)]})
    document = msgspec.json.decode(registry.subjects["shop.sales_eu-value"].text)
    assert document["name"] == "ShopSalesEu"
    assert [(field["name"], isinstance(field["type"], list)) for field in document["fields"]] == [
        ("id", False),
        ("amount", False),
    ]

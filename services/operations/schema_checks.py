"""Compares the schemas of the schema registry with the declared ones."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from services.feature_store.plan import StreamSource
from services.runtime.declaration import DeclarationError, ModelDeclaration
from services.runtime.schema_registry_client import ConfluentRegistry, connect
from services.runtime.settings import Settings
from streams import schemas
from streams.codec import Field
from streams.schemas import Encoding, Schema


def needed_by(settings: Settings, readers: Mapping[str, object]) -> ConfluentRegistry | None:
    """Return the registry if any topic needs it; `DeclarationError` if its address is not set."""
    if readers and not settings.schema_registry_url:
        raise DeclarationError(
            f"the records of {', '.join(sorted(readers))} need a schema registry: "
            "set DRIFTLINE_SCHEMA_REGISTRY_URL to its address"
        )
    return connect(settings) if readers else None


@dataclasses.dataclass(frozen=True)
class Reading:
    """The declaration of a topic by one of its readers."""

    who: str
    encoding: Encoding
    fields: tuple[Field, ...]


def readings(
    declarations: Mapping[str, ModelDeclaration], sources: Iterable[StreamSource] = ()
) -> dict[str, list[Reading]]:
    """Return the readers of each topic that needs a schema registry: models and sources of feature views.

    Raises `DeclarationError` if two readers declare different encodings of a topic.
    """
    found: dict[str, list[Reading]] = {}
    for name, declaration in declarations.items():
        for place, part in (("request", declaration.request), ("label", declaration.label)):
            own = Reading(f"{place} of {name}", part.encoding, part.fields)
            found.setdefault(part.topic, []).append(own)
    for source in sources:
        found.setdefault(source.topic, []).append(Reading("feature views", source.encoding, source.fields))
    for topic, (first, *others) in found.items():
        for other in others:
            if other.encoding is not first.encoding:
                raise DeclarationError(
                    f"topic {topic} is {first.encoding} for the {first.who}, and {other.encoding} for the "
                    f"{other.who}: declare the same encoding for both"
                )
    return {topic: each for topic, each in found.items() if each[0].encoding is not Encoding.JSON}


def ensure(
    registry: schemas.SchemaRegistry, readers: Mapping[str, Sequence[Reading]], *, register: bool
) -> tuple[list[str], list[str]]:
    """Compare the latest schema of each topic with the declared one; with ``register``, add missing ones.

    Returns a line for each schema that fits, and for each that does not. Raises
    `SchemaRegistryUnavailableError`.
    """
    well, faults = [], []
    for topic, own in readers.items():
        subject = schemas.subject_of(topic)
        latest = registry.latest(subject)
        if latest is not None:
            misfits = [
                f"{subject} version {latest.version} {misfit} ({each.who})"
                for each in own
                for misfit in schemas.misfits(latest.schema, each.encoding, each.fields)
            ]
            faults += misfits
            well += [] if misfits else [f"{subject} version {latest.version} has all declared fields"]
        elif not register:
            faults.append(f"{subject} has no schema: 'driftline setup' registers the declared one")
        elif refused := registry.register(subject, _declared(topic, own)):
            faults.append(f"{subject}: the registry refuses the declared schema: {refused}")
        else:
            well.append(f"registered the declared schema as {subject}")
    return well, faults


def _declared(topic: str, readers: Sequence[Reading]) -> Schema:
    """Return a schema with all fields that readers of a topic declare."""
    fields: dict[str, Field] = {}
    for field in (field for each in readers for field in each.fields):
        known = fields.setdefault(field.name, field)
        fields[field.name] = dataclasses.replace(known, nullable=known.nullable and field.nullable)
    name = "".join(map(str.capitalize, re.split(r"\W|_", topic)))
    return schemas.declared_schema(readers[0].encoding, name, list(fields.values()))

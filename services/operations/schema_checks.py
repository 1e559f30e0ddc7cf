"""Whether the schemas of the schema registry fit what is declared."""

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
    """Return the registry if any topic is read with it; `DeclarationError` if nothing says where it is."""
    if readers and not settings.schema_registry_url:
        raise DeclarationError(
            f"records of {', '.join(sorted(readers))} are written with a schema registry: "
            "DRIFTLINE_SCHEMA_REGISTRY_URL must say where it is"
        )
    return connect(settings) if readers else None


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one reader declares of a topic."""

    who: str
    encoding: Encoding
    fields: tuple[Field, ...]


def readings(
    declarations: Mapping[str, ModelDeclaration], sources: Iterable[StreamSource] = ()
) -> dict[str, list[Reading]]:
    """Return by topic who reads records of a registry: models, and the sources of feature views.

    Raises `DeclarationError` where two say of one topic that it is written in different ways.
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
                    f"{other.who}: say the same of both"
                )
    return {topic: each for topic, each in found.items() if each[0].encoding is not Encoding.JSON}


def ensure(
    registry: schemas.SchemaRegistry, readers: Mapping[str, Sequence[Reading]], *, register: bool
) -> tuple[list[str], list[str]]:
    """Compare the latest schema of each topic with what is declared; ``register``: add those that lack.

    Returns what is well, and what does not fit: a line each. Raises `SchemaRegistryUnavailableError`.
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
            well += [] if misfits else [f"{subject} version {latest.version} has all that is declared"]
        elif not register:
            faults.append(f"{subject} has no schema: 'driftline setup' registers the declared one")
        elif refused := registry.register(subject, _declared(topic, own)):
            faults.append(f"{subject}: the registry refuses the declared schema: {refused}")
        else:
            well.append(f"registered the declared schema as {subject}")
    return well, faults


def _declared(topic: str, readers: Sequence[Reading]) -> Schema:
    """Return a schema with all that readers of a topic declare."""
    fields: dict[str, Field] = {}
    for field in (field for each in readers for field in each.fields):
        known = fields.setdefault(field.name, field)
        fields[field.name] = dataclasses.replace(known, nullable=known.nullable and field.nullable)
    name = "".join(map(str.capitalize, re.split(r"\W|_", topic)))
    return schemas.declared_schema(readers[0].encoding, name, list(fields.values()))

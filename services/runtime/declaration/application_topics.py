"""The topics of requests and labels, with their schemas."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from services.runtime.declaration.strict import HOUR_MS, HOURS_MAX, SECOND_HOURS, Strict
from services.runtime.suggestions import suggestion
from streams import codec, registered_codec, schemas, topics


def _schema(columns: Any) -> Any:
    """Convert ``{name: "type?"}`` to fields; pydantic reports a ValueError at the schema's position."""
    if not isinstance(columns, dict):
        return columns
    fields, faults = [], []
    for name, kind in columns.items():
        text = str(kind)
        try:
            fields.append(
                codec.Field(str(name), codec.FieldType(text.removesuffix("?")), nullable=text.endswith("?"))
            )
        except ValueError:
            known = ", ".join(codec.FieldType)
            faults.append(
                f"field {name!r} has the type {text!r}; known are {known}, each with ? for nullable"
            )
    if faults:
        raise ValueError("\n".join(faults))
    return tuple(fields)


_KINDS = "|".join(codec.FieldType)
Schema = Annotated[
    tuple[codec.Field, ...],
    BeforeValidator(_schema),
    WithJsonSchema(
        {"type": "object", "additionalProperties": {"type": "string", "pattern": rf"^({_KINDS})\??$"}}
    ),
]


def _topic_name(name: str) -> str:
    topics.check_application_topic(name)
    return name


TopicName = Annotated[str, AfterValidator(_topic_name)]


class ApplicationTopic(Strict):
    """A topic of an application, and the schema of its records."""

    topic: TopicName
    id: str
    event_time: str
    fields: Schema = Field(alias="schema")
    encoding: schemas.Encoding = schemas.Encoding.JSON
    """Encoding of the values; all but json need a schema registry."""

    @property
    def bounded_fields(self) -> tuple[codec.Field, ...]:
        """The declared fields as decoders check them: the id has a maximum length."""
        longest = codec.ID_CHARACTERS_MAX
        return tuple(
            dataclasses.replace(field, characters_max=longest) if field.name == self.id else field
            for field in self.fields
        )

    def decoder(self, ranges: codec.Ranges | None = None) -> codec.EventDecoder:
        """Return a decoder of JSON, which HTTP requests have, for the declared schema."""
        return codec.EventDecoder(self.bounded_fields, ranges)

    def wire_decoder(
        self, registry: schemas.SchemaRegistry | None, ranges: codec.Ranges | None = None
    ) -> codec.EventDecoder:
        """Return a decoder of the topic's records; raise `SchemaError` if a schema registry is missing."""
        return registered_codec.decoder_of(self.topic, self.bounded_fields, self.encoding, registry, ranges)

    def wire_encoder(self, registry: schemas.SchemaRegistry | None) -> registered_codec.Encoder | None:
        """Return an encoder of the topic's records; None if they are plain JSON."""
        if self.encoding is schemas.Encoding.JSON or registry is None:
            return None
        return registered_codec.Encoder(self.encoding, registry, schemas.subject_of(self.topic))

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        types = {field.name: field for field in self.fields}
        wanted = {"id": codec.FieldType.STRING, "event_time": codec.FieldType.TIMESTAMP}
        faults = []
        for setting, kind in wanted.items():
            name = getattr(self, setting)
            field = types.get(name)
            if field is None or field.type is not kind or field.nullable:
                near = suggestion(name, types) if field is None else ""
                text = f"the schema must declare {name!r} with the type {kind}, not nullable{near}"
                faults.append(f"{setting}: {text}")
        if faults:
            raise ValueError("\n".join(faults))
        return self


class RequestTopic(ApplicationTopic):
    """The topic of the requests."""

    key: str = ""
    """The field whose value assigns a request to an arm; default: the id."""

    @property
    def routing_key(self) -> str:
        """The field whose value assigns a request to an arm."""
        return self.key or self.id

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        names = [field.name for field in self.fields]
        if self.routing_key not in names:
            near = suggestion(self.key, names)
            raise ValueError(f"key names {self.key!r}, which is not a field of the schema{near}")
        return self


class LabelTopic(ApplicationTopic):
    """The topic of the labels."""

    value: str
    positive_above: float | None = None
    """Binary: the label is 1 if the value is above this one."""
    horizon_hours: float = Field(ge=SECOND_HOURS, le=HOURS_MAX)
    """Maximum event time from the request to its label; later labels count as orphans, unless ``absent`` is
    declared."""
    absent: bool | int | float | str | None = None
    """The value of a request that has no label when its horizon has passed; default: it has none. Then labels
    count when the horizon has passed, those that came early too, and a label within one further horizon is a
    correction."""

    @property
    def horizon_ms(self) -> int:
        """The horizon in milliseconds."""
        return round(self.horizon_hours * HOUR_MS)

    @property
    def waits_ms(self) -> int:
        """The event time for which a prediction waits for labels and their corrections."""
        return self.horizon_ms if self.absent is None else 2 * self.horizon_ms

    def absent_fault(self, classes: Sequence[str]) -> str | None:
        """Return why ``absent`` is no value of the label, with the classes of a multiclass model."""
        kind = next(field.type for field in self.fields if field.name == self.value)
        if self.absent is None:
            return None
        if classes and str(self.absent) not in classes:
            return f"label.absent: {self.absent!r} is not one of the classes {', '.join(classes)}"
        if kind is codec.FieldType.STRING:
            return None if isinstance(self.absent, str) else f"label.absent: {self.absent!r} is not a string"
        if isinstance(self.absent, str) or not abs(self.absent) <= codec.MAGNITUDE_MAX:
            return f"label.absent: {self.absent!r} is not a number, as label.value {self.value!r} is"
        allowed = {codec.FieldType.BOOL: self.absent in (0, 1), codec.FieldType.INT: self.absent % 1 == 0}
        if not allowed.get(kind, True):
            return f"label.absent: {self.absent!r} does not fit label.value {self.value!r}, which is a {kind}"
        return None

"""``driftline asyncapi``: the wire as an AsyncAPI 3.0 document, made from the topics, records and models.

Schemas are those from which the strict decoders are compiled, so the document cannot differ from what
is accepted. The topics that are only a feature view's source are declared by the Feast repository and
are not in it.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from services.operations.cli import SUMMARY, VERSION
from services.runtime import yaml_text
from services.runtime.declaration import ApplicationTopic, DeclarationError, ModelDeclaration
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from streams import cloud_events, codec, records, topics

Json = dict[str, Any]

TITLE = "Driftline"
_SCHEMA_REF = "#/components/schemas/{name}"
_STRING = {"type": "string"}
_DIGITS = {"type": "string", "pattern": "^-?[0-9]+$"}
_CLOUD_EVENT: Json = {
    "ce_specversion": {"const": "1.0"},
    "ce_id": _STRING,
    "ce_type": _STRING,
    "ce_source": {"type": "string", "format": "uri-reference"},
    "ce_subject": _STRING,
    "ce_time": {"type": "string", "format": "date-time"},
    "content-type": {"const": "application/json"},
}
_TRACE: Json = {codec.TRACEPARENT_HEADER: _STRING, "tracestate": _STRING}
_TRACED = (records.Prediction, records.Outcome)
_CLOUD_EVENTS = (
    records.Prediction,
    records.Outcome,
    records.DriftReport,
    records.DriftAlarm,
    records.PerformanceReport,
    records.RetrainingRequested,
    records.RetrainingFinished,
    records.ModelChanged,
)
_HEARTBEAT, _FOREIGN = "Heartbeat", "Unchanged"
_WITH_HEARTBEATS = (topics.PREDICTIONS, topics.REPARTITION)


def asyncapi(*, output: Path | None = None) -> None:
    """Write the AsyncAPI 3.0 document of every topic of Driftline's own and of the models.

    Args:
        output: The file; default: standard output.
    """
    try:
        text = as_yaml(document(load_all(Settings().models)))
    except DeclarationError as error:
        sys.exit(str(error))
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


def document(declarations: Mapping[str, ModelDeclaration]) -> Json:
    """Return the document for these models."""
    channels: Json = {}
    operations: Json = {}
    schemas, messages = _own_schemas(), _own_messages()
    for topic in topics.ALL:
        name = _identifier(topic.name)
        channels[name] = _own_channel(topic, declarations)
        operations[f"send_{name}"] = _operation("send", name, f"Written by {topic.producer}.")
    for declaration in declarations.values():
        for suffix, part in (("request", declaration.request), ("label", declaration.label)):
            name = f"{declaration.name}_{suffix}"
            schemas[name] = _application_schema(name, part)
            messages[name] = _message(name, {"$ref": _SCHEMA_REF.format(name=name)}, part.__doc__, _TRACE)
            channels[name] = _channel(part.topic, f"Of {declaration.owner}.", [name, _HEARTBEAT])
            operations[f"receive_{name}"] = _operation("receive", name, part.__doc__)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": TITLE, "version": VERSION, "description": SUMMARY},
        "defaultContentType": "application/json",
        "servers": {"kafka": _server()},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }


def as_yaml(content: Json) -> str:
    """Return the text, always the same for the same document."""
    return yaml_text.as_yaml(content, 120)


def _server() -> Json:
    return {
        "host": "{broker}",
        "protocol": "kafka",
        "description": "Where DRIFTLINE_BROKER points.",
        "variables": {"broker": {"default": "127.0.0.1:19092"}},
    }


def _own_channel(topic: topics.InternalTopic, declarations: Mapping[str, ModelDeclaration]) -> Json:
    names = [kind.__name__ for kind in _kinds(topic)] or [_FOREIGN]
    if topic in _WITH_HEARTBEATS:
        names.append(_HEARTBEAT)
    text = f"Key: {topic.key}. Read by {', '.join(topic.consumers)}."
    channel = _channel(topic.name, text, names)
    if "{model}" in topic.name:
        channel["parameters"] = {"model": {"description": "Name of a model.", "enum": sorted(declarations)}}
    elif "{view}" in topic.name:
        channel["parameters"] = {"view": {"description": "Name of a stream feature view."}}
    kafka: Json = {
        "topicConfiguration": {
            "cleanup.policy": ["compact" if topic.compacted else "delete"],
            "retention.ms": topic.retention_ms,
            "max.message.bytes": topic.message_bytes_max(),
        },
        "bindingVersion": "0.5.0",
    }
    if topic.partitions is not None:
        kafka["partitions"] = topic.partitions
    return channel | {"bindings": {"kafka": kafka}}


def _channel(address: str, description: str, names: Iterable[str]) -> Json:
    messages = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
    return {"address": address, "description": description, "messages": messages}


def _operation(action: str, channel: str, summary: str | None) -> Json:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _own_messages() -> Json:
    messages = {
        kind.__name__: _record_message(kind)
        for topic in topics.ALL
        for kind in _kinds(topic)
        if kind is not records.ReplayMark
    }
    messages["ReplayMark"] = _message(
        "ReplayMark",
        {"type": "null"},
        f"{records.ReplayMark.__doc__} The header is JSON, see components/schemas/ReplayMark.",
        {codec.REPLAY_MARK_HEADER: {"type": "string", "contentMediaType": "application/json"}},
    )
    messages[_HEARTBEAT] = _message(
        _HEARTBEAT,
        {"type": "null"},
        "Promises: no event up to this time (ms since the epoch) will follow in this partition.",
        {codec.HEARTBEAT_HEADER: _DIGITS},
    )
    messages[_FOREIGN] = _message(_FOREIGN, {}, "What the topic says in words: no record of Driftline's own.")
    return messages


def _record_message(kind: type[msgspec.Struct]) -> Json:
    payload = {"$ref": _SCHEMA_REF.format(name=kind.__name__)}
    if kind not in _CLOUD_EVENTS:
        return _message(kind.__name__, payload, kind.__doc__)
    note = f"As a CloudEvent, where its headers are on, of the type {cloud_events.type_of(kind)}."
    headers = _CLOUD_EVENT | (_TRACE if kind in _TRACED else {})
    return _message(kind.__name__, payload, kind.__doc__, headers) | {"description": note}


def _message(name: str, payload: Json, summary: str | None, headers: Json | None = None) -> Json:
    message: Json = {"name": name, "summary": (summary or "").splitlines()[0], "payload": payload}
    if headers:
        message["headers"] = {"type": "object", "properties": headers}
    return message


def _kinds(topic: topics.InternalTopic) -> list[type[msgspec.Struct]]:
    """Return the kinds of records that a topic's declaration names."""
    return [getattr(records, word) for word in re.findall(r"[A-Z]\w+", topic.record)]


def _own_schemas() -> Json:
    kinds = [kind for topic in topics.ALL for kind in _kinds(topic)]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_SCHEMA_REF)
    return {name: _in_draft_7(schema) for name, schema in sorted(schemas.items())}


def _application_schema(name: str, part: ApplicationTopic) -> Json:
    """Return the schema of an application's record; fields that are not declared may be there."""
    _, schemas = msgspec.json.schema_components([part.decoder().struct], ref_template=_SCHEMA_REF)
    (schema,) = schemas.values()
    return {**_in_draft_7(schema), "title": name}


def _in_draft_7(schema: Any) -> Any:
    """Return a JSON Schema of 2020-12 as one of draft 7, AsyncAPI's own: tuples are spelt otherwise."""
    if isinstance(schema, list):
        return [_in_draft_7(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "prefixItems" in schema:
        schema = {**schema, "items": schema["prefixItems"], "additionalItems": False}
        del schema["prefixItems"]
    return {key: _in_draft_7(value) for key, value in schema.items()}


def _identifier(topic: str) -> str:
    return re.sub(r"\W+", "_", topic.removeprefix("driftline.").partition(".{")[0])

"""Views without a ``schema``: their columns follow from messages and aggregations, or from a file."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from services.feature_store import view_compiler
from services.feature_store.plan import PlanError
from streams import codec

_KEEPS_TYPE = ("sum", "min", "max", "first", "last")
"""Functions whose value has the type of the field."""


def complete(definitions: Iterable[Any], folder: Path) -> None:
    """Add what the schemas of views lack, before they are applied; Feast infers the rest from files.

    Args:
        definitions: Feast's objects.
        folder: The repository: relative paths of sources are below it.

    Raises:
        PlanError: A view has no schema, and the file of its source does not exist.
    """
    from feast import FeatureView, KafkaSource, StreamFeatureView  # late: imports Feast, 1.3 s

    found = list(definitions)
    entities = {each.name: each for each in found if type(each).__name__ == "Entity"}
    for view in found:
        if not isinstance(view, FeatureView):
            continue
        if isinstance(view, StreamFeatureView) and isinstance(view.stream_source, KafkaSource):
            _complete_stream(view, entities)
        elif _lacks(view, entities) and (missing := missing_file(view, folder)) is not None:
            raise PlanError(
                f"view {view.name!r}: without a complete schema its columns are read from its file, and "
                f"{missing} does not exist: declare schema with the join keys, or write the file first"
            )


def missing_file(view: Any, folder: Path) -> Path | None:
    """Return the local file of a view's batch source if it does not exist."""
    from feast import FileSource  # late: imports Feast, 1.3 s

    source = view.batch_source
    if not isinstance(source, FileSource):
        return None
    place = source.path.removeprefix("file://")
    if "://" in place:
        return None
    path = folder.resolve() / place
    return None if path.exists() else path


def _lacks(view: Any, entities: Mapping[str, Any]) -> bool:
    from feast import ValueType  # late: imports Feast, 1.3 s

    named = [entities[name] for name in view.entities if name in entities]
    columns = {field.name for field in view.entity_columns}
    unknown = [
        each for each in named if each.value_type == ValueType.UNKNOWN and each.join_key not in columns
    ]
    return not view.features or bool(unknown)


def _complete_stream(view: Any, entities: Mapping[str, Any]) -> None:
    """Add the columns of a stream view that follow from its messages."""
    source = view.stream_source
    where = f"view {view.name!r}: source {source.name!r}"
    fields, _ = view_compiler.message_fields(where, source.kafka_options.message_format, source.tags)
    types = {field.name: field.type for field in fields}
    keys = [entities[name].join_key for name in view.entities if name in entities]
    known = {field.name for field in view.entity_columns}
    view.entity_columns += [_field(key, types[key]) for key in keys if key in types and key not in known]
    if not view.features:
        times = {view.timestamp_field, source.timestamp_field}
        view.features = _features(view, types, {*keys, *times})


def _features(view: Any, types: Mapping[str, codec.FieldType], others: set[str]) -> Sequence[Any]:
    if not view.aggregations:
        return [_field(name, kind) for name, kind in types.items() if name not in others]
    found = []
    for item in view.aggregations:
        kind = codec.FieldType.FLOAT
        if "count" in item.function:
            kind = codec.FieldType.INT
        elif item.function in _KEEPS_TYPE:
            kind = types.get(item.column, kind)
        found.append(_field(item.resolved_name(item.time_window), kind))
    return found


def _field(name: str, kind: codec.FieldType) -> Any:
    from feast import Field, types  # late: imports Feast, 1.3 s

    found = {
        codec.FieldType.STRING: types.String,
        codec.FieldType.INT: types.Int64,
        codec.FieldType.FLOAT: types.Float64,
        codec.FieldType.BOOL: types.Bool,
        codec.FieldType.TIMESTAMP: types.UnixTimestamp,
    }
    return Field(name=name, dtype=found[kind])

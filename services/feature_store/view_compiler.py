"""Compile Feast's views and sources into the plan that Driftline runs."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from services.feature_store import aggregation_compiler
from services.feature_store.aggregation_compiler import milliseconds
from services.feature_store.plan import (
    BatchFile,
    Column,
    Materialized,
    PlanError,
    ServiceFeature,
    StreamSource,
    ValueType,
    View,
    ViewKind,
)
from services.runtime.settings import Settings
from streams import codec, schemas, tile_layout, topics

_TYPES = {
    "String": ValueType.STRING,
    "Int32": ValueType.INT32,
    "Int64": ValueType.INT64,
    "Float32": ValueType.FLOAT,
    "Float64": ValueType.DOUBLE,
    "Bool": ValueType.BOOL,
    "Bytes": ValueType.BYTES,
    "UnixTimestamp": ValueType.UNIX_TIMESTAMP,
    "Array(String)": ValueType.STRING_LIST,
    "Array(Int32)": ValueType.INT32_LIST,
    "Array(Int64)": ValueType.INT64_LIST,
    "Array(Float32)": ValueType.FLOAT_LIST,
    "Array(Float64)": ValueType.DOUBLE_LIST,
    "Array(Bool)": ValueType.BOOL_LIST,
    "Array(Bytes)": ValueType.BYTES_LIST,
    "Array(UnixTimestamp)": ValueType.UNIX_TIMESTAMP_LIST,
}

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_KEY_TYPES = (ValueType.STRING, ValueType.INT32, ValueType.INT64)

_STREAM_TYPES = {
    codec.FieldType.STRING: (ValueType.STRING,),
    codec.FieldType.INT: (ValueType.INT32, ValueType.INT64, ValueType.FLOAT, ValueType.DOUBLE),
    codec.FieldType.FLOAT: (ValueType.FLOAT, ValueType.DOUBLE),
    codec.FieldType.BOOL: (ValueType.BOOL,),
    codec.FieldType.TIMESTAMP: (),
}
"""The feature types that a field of an event can fill."""


def batch_view(view: Any) -> View:
    """Return the plan of a view that Feast writes."""
    return View(
        name=view.name,
        kind=ViewKind.BATCH,
        join_keys=_join_keys(view),
        features=_features(view),
        ttl_ms=milliseconds(view.ttl),
    )


def materialized(view: Any) -> Materialized:
    """Return what Feast has written for a batch view."""
    ranges = ((_epoch_us(start), _epoch_us(end)) for start, end in view.materialization_intervals)
    return Materialized(tuple(ranges), _epoch_us(view.last_updated_timestamp) // 1000 + 1)


def _epoch_us(moment: dt.datetime) -> int:
    """Convert one of Feast's times to microseconds; times without a zone are UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return (aware - _EPOCH) // dt.timedelta(microseconds=1)


def stream_view(view: Any, entities: dict[str, Any]) -> View:
    """Return the plan of a stream view; raise `PlanError` for what cannot be run.

    ``entities`` are all registered ones, by name.
    """
    for name in view.entities:
        if name not in entities:
            raise PlanError(
                f"view {view.name!r}: entity {name!r} is not registered; define it in the repository"
            )
    if view.udf is not None or view.feature_transformation is not None:
        raise PlanError(
            f"view {view.name!r}: udf: stream views cannot have transformations: remove the udf, and compute "
            "its columns before the events are written, or in the model (training.py)"
        )
    source = _source(view)
    fields = {field.name: field for field in source.fields}
    for key in _join_keys(view):
        if key.name not in fields or key.type not in _STREAM_TYPES[fields[key.name].type]:
            raise PlanError(
                f"view {view.name!r}: entity column {key.name!r} is not in the schema of {source.topic} "
                f"as {key.type}"
            )
    features = _features(view)
    aggregations = aggregation_compiler.aggregations(view, fields)
    if aggregations:
        features = aggregation_compiler.in_order(view, features, aggregations, fields)
    else:
        _check_latest(view, features, fields)
        by_schema = [field.name for field in source.fields]
        features = tuple(sorted(features, key=lambda feature: by_schema.index(feature.name)))
    return View(
        name=view.name,
        kind=ViewKind.WINDOWED if aggregations else ViewKind.LATEST,
        join_keys=_join_keys(view),
        features=features,
        ttl_ms=milliseconds(view.ttl),
        source=source,
        aggregations=aggregations,
        hop_ms=aggregation_compiler.hop_ms(view) if aggregations else 0,
    )


def _source(view: Any) -> StreamSource:
    from feast import KafkaSource  # late: imports Feast, 1.3 s

    source = view.stream_source
    where = f"view {view.name!r}: source {getattr(source, 'name', '')!r}"
    if not isinstance(source, KafkaSource):
        raise PlanError(f"{where}: only a KafkaSource can be run, not a {type(source).__name__}")
    options = source.kafka_options
    try:
        topics.check_source_topic(options.topic)
        topics.check_name(topics.repartition(view.name))
    except ValueError as error:
        raise PlanError(f"{where}: {error}") from error
    if source.field_mapping:
        raise PlanError(
            f"{where}: field_mapping is not supported: remove it, and use the names of the message's fields"
        )
    fields, encoding = message_fields(where, options.message_format, source.tags)
    event_time = view.timestamp_field or source.timestamp_field
    types = {field.name: field for field in fields}
    if (
        event_time not in types
        or types[event_time].type is not codec.FieldType.TIMESTAMP
        or types[event_time].nullable
    ):
        raise PlanError(
            f"{where}: timestamp_field {event_time!r} must be a 'timestamp not null' of the message's schema"
        )
    message_key = tuple(
        part.strip() for part in source.tags.get("message_key", "").split(",") if part.strip()
    )
    if not message_key or not set(message_key) <= types.keys():
        raise PlanError(
            f"{where}: tags must name the fields of the message key, as in {{'message_key': 'flight'}}"
        )
    return StreamSource(
        options.topic,
        event_time,
        fields,
        message_key,
        _lateness_ms(where, options.watermark_delay_threshold),
        _idle_ms(where, source.tags.get("idle_seconds")),
        encoding,
    )


def message_fields(
    where: str, message_format: Any, tags: Mapping[str, str]
) -> tuple[tuple[codec.Field, ...], schemas.Encoding]:
    """Return the fields that are read of a source's records, and the encoding of the records.

    Args:
        where: View and source, as an error message names them.
        message_format: Feast's format of the source.
        tags: The tags of the source; ``encoding`` refines the format.
    """
    from feast.data_format import AvroFormat, JsonFormat  # late: imports Feast, 1.3 s

    try:
        if isinstance(message_format, AvroFormat):
            return schemas.avro_fields(message_format.schema_json), schemas.Encoding.AVRO
        if isinstance(message_format, JsonFormat):
            return codec.parse_ddl(message_format.schema_json), schemas.Encoding(tags.get("encoding", "json"))
    except ValueError as error:
        raise PlanError(f"{where}: message_format: {error}") from error
    raise PlanError(
        f"{where}: message_format must be JsonFormat or AvroFormat, not {type(message_format).__name__}"
    )


def batch_file(view: Any, settings: Settings) -> BatchFile | None:
    """Return the file of the batch source; None if it is not a Parquet file on this machine."""
    from feast import FileSource  # late: imports Feast, 1.3 s

    source = view.batch_source
    if not isinstance(source, FileSource) or source.created_timestamp_column or source.field_mapping:
        return None
    path = source.path.removeprefix("file://")
    if "://" in path or not path.endswith(".parquet"):
        return None
    return BatchFile(str(settings.feature_repo.resolve() / path), source.timestamp_field)


def _lateness_ms(where: str, declared: dt.timedelta | None) -> int:
    lateness_ms = milliseconds(declared)
    if not 0 <= lateness_ms <= tile_layout.SLACK_MS:
        days = tile_layout.SLACK_MS // 86_400_000
        raise PlanError(
            f"{where}: watermark_delay_threshold must be from 0 to {days} days, the time that values are kept"
        )
    return lateness_ms


def _idle_ms(where: str, declared: str | None) -> int:
    if declared is not None and not (declared.isascii() and declared.isdigit() and int(declared)):
        raise PlanError(f"{where}: tag idle_seconds is {declared!r}; it must be whole seconds, at least 1")
    return int(declared or 0) * 1000


def _check_latest(view: Any, features: tuple[Column, ...], fields: dict[str, codec.Field]) -> None:
    for feature in features:
        if feature.name not in fields or feature.type not in _STREAM_TYPES[fields[feature.name].type]:
            raise PlanError(
                f"view {view.name!r}: feature {feature.name!r} is not in the message's schema "
                f"as {feature.type}"
            )


def _join_keys(view: Any) -> tuple[Column, ...]:
    keys = tuple(sorted((_column(view, field) for field in view.entity_columns), key=lambda key: key.name))
    for key in keys:
        if key.type not in _KEY_TYPES:
            raise PlanError(
                f"view {view.name!r}: entity column {key.name!r} must be one of {', '.join(_KEY_TYPES)}"
            )
    return keys


def _features(view: Any) -> tuple[Column, ...]:
    keys = {field.name for field in view.entity_columns}  # Feast lists them as features of stream views, too
    columns = (_column(view, field) for field in view.features if field.name not in keys)
    return tuple(
        sorted(columns, key=lambda column: column.name)
    )  # Feast's own order depends on the hash seed


def _column(view: Any, field: Any) -> Column:
    kind = _TYPES.get(str(field.dtype))
    if kind is None:
        raise PlanError(
            f"view {view.name!r}: field {field.name!r}: type {field.dtype} is not supported; "
            f"use one of {', '.join(_TYPES)}"
        )
    return Column(field.name, kind)


def not_run(store: Any) -> dict[str, str]:
    """Return why features of some views of a `FeatureStore` cannot be served, by view."""
    on_demand = (
        "on-demand feature views are not run: remove it from the service, and compute its features in the "
        "model (training.py) or in the application"
    )
    labels = "a label view has no features: remove it from the service"
    return dict.fromkeys((view.name for view in store.list_on_demand_feature_views()), on_demand) | (
        dict.fromkeys((view.name for view in store.list_label_views()), labels)
    )


def references(service: Any, not_run: Mapping[str, str]) -> tuple[ServiceFeature, ...]:
    """Return the features of a FeatureService, in its order; raise `PlanError` for what cannot be served.

    ``not_run`` are the reasons by view, see there.
    """
    references = []
    for projection in service.feature_view_projections:
        where = f"service {service.name!r}: view {projection.name!r}"
        if projection.name in not_run:
            raise PlanError(f"{where}: {not_run[projection.name]}")
        if projection.join_key_map:
            raise PlanError(
                f"{where}: join_key_map is not supported: name the field of the requests as the join key, or "
                "define the view once more, with an entity that has the other join key"
            )
        references += [ServiceFeature(projection.name, feature.name) for feature in projection.features]
    names = [reference.feature for reference in references]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise PlanError(
            f"service {service.name!r}: feature names must be unique, not repeated: {', '.join(repeated)}"
        )
    return tuple(references)

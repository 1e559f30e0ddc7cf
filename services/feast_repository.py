"""All that touches Feast itself: apply the repository, materialise batch views, compile the plan.

Feast costs 5 s to import, so only bootstraps and compilers come here; processes read `feature_plan`.
"""

import contextlib
import dataclasses
import datetime as dt
import os
import runpy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from services import aggregation_plan, feature_plan
from services.aggregation_plan import milliseconds
from services.feature_plan import (
    BatchFile,
    Column,
    FeaturePlan,
    Kind,
    Materialized,
    PlanError,
    Reference,
    Source,
    ValueType,
    View,
)
from streams import codec, schemas, windows

if TYPE_CHECKING:
    from services.settings import Settings

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
"""Which feature types a field of an event can fill."""


def apply(settings: "Settings") -> FeaturePlan:
    """Register what the repository's files define, like ``feast apply``; return the compiled plan.

    What the registry held and the files no longer define is deleted from it.
    """
    definitions = _definitions(settings)
    with _store(settings) as store:
        stale = _stale(store, definitions)
        store.apply(definitions, objects_to_delete=stale, partial=False)
    return compile_plan(settings)


def materialize(
    settings: "Settings", end: dt.datetime, start: dt.datetime = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)
) -> None:
    """Let Feast write its batch views online, from the files that their sources name.

    Each file holds the entity's columns, ``event_timestamp`` (between start and end) and the features.
    """
    names = [view.name for view in feature_plan.load(settings).views if view.kind is Kind.BATCH]
    if not names:
        return
    with _store(settings) as store:
        store.materialize(start_date=start, end_date=end, feature_views=names, disable_event_timestamp=False)
    compile_plan(settings)  # materialising writes to the registry, so the plan's digest has changed


def compile_plan(settings: "Settings") -> FeaturePlan:
    """Compile the registry; raise `PlanError` for what cannot be run. Keeps the plan beside it."""
    with _store(settings) as store:
        entities = {entity.name: entity for entity in store.list_entities()}
        views = [
            dataclasses.replace(_stream_view(view, entities), batch_file=_batch_file(view, settings))
            for view in store.list_stream_feature_views()
        ]
        batches = [view for view in store.list_batch_feature_views() if view.batch_source is not None]
        views += [
            dataclasses.replace(_batch_view(view), batch_file=_batch_file(view, settings)) for view in batches
        ]
        views.sort(key=lambda view: view.name)
        services = {service.name: _references(service) for service in store.list_feature_services()}
        materialized = {view.name: _materialized(view) for view in batches if view.materialization_intervals}
        plan = FeaturePlan(store.project, tuple(views), services, materialized)
    for topic, own in plan.by_topic().items():
        if len({view.source for view in own}) > 1:
            names = ", ".join(view.name for view in own)
            raise PlanError(f"views {names}: their sources of {topic} must agree in all but the batch source")
    for name in plan.services:
        plan.service(name)
    feature_plan.store(settings, plan)
    return plan


def online_store_address(redis_url: str) -> str:
    """Write a Redis URL in Feast's own form: ``host:port,db=0,password=...``."""
    url = urlsplit(redis_url)
    options = [f"{url.hostname}:{url.port or 6379}", f"db={url.path.strip('/') or 0}"]
    if url.username:
        options.append(f"username={unquote(url.username)}")
    if url.password:
        options.append(f"password={unquote(url.password)}")
    if url.scheme == "rediss":
        options.append("ssl=true")
    return ",".join(options)


@contextlib.contextmanager
def _environment(settings: "Settings") -> Iterator[None]:
    """Set the variables that feature_store.yaml and definitions.py expand."""
    ours = {
        "DRIFTLINE_HOME": str(settings.home.resolve()),
        "DRIFTLINE_ONLINE_STORE": online_store_address(settings.redis_url),
        "FEAST_USAGE": "False",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _store(settings: "Settings") -> Iterator[Any]:
    from feast import FeatureStore

    settings.home.mkdir(parents=True, exist_ok=True)
    with _environment(settings), quiet():
        yield FeatureStore(repo_path=str(settings.feature_repo))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Feast's warning that it cannot run stream views: here they are run."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="feast")
        warnings.filterwarnings(
            "ignore", message="Stream feature views are experimental", category=RuntimeWarning
        )
        yield


def _definitions(settings: "Settings") -> list[Any]:
    """Run each file of the repository afresh, so that a changed home or file counts at once."""
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView, Project
    from feast.data_source import DataSource

    kinds = (Entity, FeatureService, FeatureView, OnDemandFeatureView, Project, DataSource)
    found: dict[int, Any] = {}
    with _environment(settings), quiet():
        for path in sorted(settings.feature_repo.glob("*.py")):
            for value in runpy.run_path(str(path)).values():
                if isinstance(value, kinds):
                    found[id(value)] = value
    if not found:
        raise PlanError(f"{settings.feature_repo}: no Feast definitions found")
    return list(found.values())


def _stale(store: Any, definitions: Iterable[Any]) -> list[Any]:
    """List what the registry holds and the files no longer define."""
    from feast.errors import ProjectNotFoundException

    kept = {(type(value).__name__, value.name) for value in definitions}
    listings = (
        store.list_feature_services,
        store.list_stream_feature_views,
        store.list_batch_feature_views,
        store.list_entities,
    )
    try:
        registered = [value for listing in listings for value in listing()]
    except ProjectNotFoundException:
        return []
    return [
        value
        for value in registered
        if (type(value).__name__, value.name) not in kept and value.name != "__dummy"
    ]


def _batch_view(view: Any) -> View:
    return View(
        name=view.name,
        kind=Kind.BATCH,
        join_keys=_join_keys(view),
        features=_features(view),
        ttl_ms=milliseconds(view.ttl),
    )


def _materialized(view: Any) -> Materialized:
    ranges = ((_epoch_us(start), _epoch_us(end)) for start, end in view.materialization_intervals)
    return Materialized(tuple(ranges), _epoch_us(view.last_updated_timestamp) // 1000 + 1)


def _epoch_us(moment: dt.datetime) -> int:
    """Convert Feast's times, which are UTC also where they do not say so."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return (aware - _EPOCH) // dt.timedelta(microseconds=1)


def _stream_view(view: Any, entities: dict[str, Any]) -> View:
    for name in view.entities:
        if name not in entities:
            raise PlanError(f"view {view.name!r}: entity {name!r} is not registered")
    if view.udf is not None or view.feature_transformation is not None:
        raise PlanError(f"view {view.name!r}: udf: transformations of stream views are not supported")
    source = _source(view)
    fields = {field.name: field for field in source.fields}
    for key in _join_keys(view):
        if key.name not in fields or key.type not in _STREAM_TYPES[fields[key.name].type]:
            raise PlanError(
                f"view {view.name!r}: entity column {key.name!r} is not in the schema of {source.topic} "
                f"as {key.type}"
            )
    features = _features(view)
    aggregations = aggregation_plan.aggregations(view, fields)
    if aggregations:
        features = aggregation_plan.in_order(view, features, aggregations, fields)
    else:
        _check_latest(view, features, fields)
        by_schema = [field.name for field in source.fields]
        features = tuple(sorted(features, key=lambda feature: by_schema.index(feature.name)))
    return View(
        name=view.name,
        kind=Kind.WINDOWED if aggregations else Kind.LATEST,
        join_keys=_join_keys(view),
        features=features,
        ttl_ms=milliseconds(view.ttl),
        source=source,
        aggregations=aggregations,
        hop_ms=aggregation_plan.hop_ms(view) if aggregations else 0,
    )


def _source(view: Any) -> Source:
    from feast import KafkaSource

    source = view.stream_source
    place = f"view {view.name!r}: source {getattr(source, 'name', '')!r}"
    if not isinstance(source, KafkaSource):
        raise PlanError(f"{place}: only a KafkaSource can be run, not {type(source).__name__}")
    options = source.kafka_options
    if source.field_mapping:
        raise PlanError(f"{place}: field_mapping is not supported")
    fields, encoding = _fields(place, options.message_format, source.tags)
    event_time = view.timestamp_field or source.timestamp_field
    types = {field.name: field for field in fields}
    if (
        event_time not in types
        or types[event_time].type is not codec.FieldType.TIMESTAMP
        or types[event_time].nullable
    ):
        raise PlanError(
            f"{place}: timestamp_field {event_time!r} must be a 'timestamp not null' of the schema"
        )
    message_key = tuple(
        part.strip() for part in source.tags.get("message_key", "").split(",") if part.strip()
    )
    if not message_key or not set(message_key) <= types.keys():
        raise PlanError(
            f"{place}: tags must say which fields make up the message key, as in {{'message_key': 'flight'}}"
        )
    return Source(
        options.topic,
        event_time,
        fields,
        message_key,
        _lateness_ms(place, options.watermark_delay_threshold),
        _idle_ms(place, source.tags.get("idle_seconds")),
        encoding,
    )


def _fields(
    place: str, message_format: Any, tags: Mapping[str, str]
) -> tuple[tuple[codec.Field, ...], schemas.Encoding]:
    """Return what is read of a source's records, and how they are written."""
    from feast.data_format import AvroFormat, JsonFormat

    try:
        if isinstance(message_format, AvroFormat):
            return schemas.avro_fields(message_format.schema_json), schemas.Encoding.AVRO
        if isinstance(message_format, JsonFormat):
            return codec.parse_ddl(message_format.schema_json), schemas.Encoding(tags.get("encoding", "json"))
    except ValueError as error:
        raise PlanError(f"{place}: message_format: {error}") from error
    raise PlanError(
        f"{place}: message_format must be JsonFormat or AvroFormat, not {type(message_format).__name__}"
    )


def _batch_file(view: Any, settings: "Settings") -> BatchFile | None:
    """Return the file of the batch source; None if it is none that we write and read ourselves."""
    from feast import FileSource

    source = view.batch_source
    if not isinstance(source, FileSource) or source.created_timestamp_column or source.field_mapping:
        return None
    path = source.path.removeprefix("file://")
    if "://" in path or not path.endswith(".parquet"):
        return None
    return BatchFile(str(settings.feature_repo.resolve() / path), source.timestamp_field)


def _lateness_ms(place: str, declared: dt.timedelta | None) -> int:
    lateness_ms = milliseconds(declared)
    if not 0 <= lateness_ms <= windows.SLACK_MS:
        days = windows.SLACK_MS // 86_400_000
        raise PlanError(
            f"{place}: watermark_delay_threshold must be from 0 to {days} days: values are kept no longer"
        )
    return lateness_ms


def _idle_ms(place: str, declared: str | None) -> int:
    if declared is not None and not (declared.isascii() and declared.isdigit() and int(declared)):
        raise PlanError(f"{place}: tag idle_seconds is {declared!r}; write whole seconds, at least 1")
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
    )  # Feast's own order changes with the hash seed


def _column(view: Any, field: Any) -> Column:
    kind = _TYPES.get(str(field.dtype))
    if kind is None:
        raise PlanError(
            f"view {view.name!r}: field {field.name!r}: type {field.dtype} is not supported; "
            f"known are {', '.join(_TYPES)}"
        )
    return Column(field.name, kind)


def _references(service: Any) -> tuple[Reference, ...]:
    references = []
    for projection in service.feature_view_projections:
        if projection.join_key_map:
            raise PlanError(
                f"service {service.name!r}: view {projection.name!r}: join_key_map is not supported"
            )
        references += [Reference(projection.name, feature.name) for feature in projection.features]
    names = [reference.feature for reference in references]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PlanError(
            f"service {service.name!r}: feature names must be unique, twice there: {', '.join(twice)}"
        )
    return tuple(references)

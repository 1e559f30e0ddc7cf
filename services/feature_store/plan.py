"""What the Feast repository declares, compiled to plain data that can be read without importing Feast.

`services.feature_store.plan_cache` keeps the plan as JSON beside the registry, with the digest of the
registry's file. The first process after an apply may have to compile it (5 s of imports); every other process
reads it.
"""

import dataclasses
from enum import StrEnum
from functools import cached_property
from typing import Self

from streams import codec, schemas
from streams.spans import WindowChange


class PlanError(ValueError):
    """The Feast repository declares something that Driftline cannot run; the message names view and field."""


class ValueType(StrEnum):
    """Feast's types that features may have; join keys may be strings and integers."""

    STRING = "string"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT = "float"
    DOUBLE = "double"
    BOOL = "bool"
    BYTES = "bytes"
    UNIX_TIMESTAMP = "unix_timestamp"
    """Whole seconds since 1970-01-01 UTC."""
    STRING_LIST = "string_list"
    INT32_LIST = "int32_list"
    INT64_LIST = "int64_list"
    FLOAT_LIST = "float_list"
    DOUBLE_LIST = "double_list"
    BOOL_LIST = "bool_list"
    BYTES_LIST = "bytes_list"
    UNIX_TIMESTAMP_LIST = "unix_timestamp_list"

    @property
    def is_number(self) -> bool:
        """Whether a column of this type is served as floats."""
        return self in _NUMBERS


_NUMBERS = frozenset(
    {
        ValueType.INT32,
        ValueType.INT64,
        ValueType.FLOAT,
        ValueType.DOUBLE,
        ValueType.BOOL,
        ValueType.UNIX_TIMESTAMP,
    }
)


class ViewKind(StrEnum):
    """Where the values of a view come from."""

    WINDOWED = "windowed"
    """Aggregations over a stream."""
    LATEST = "latest"
    """The newest event of a stream."""
    BATCH = "batch"
    """Written by Feast itself."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A join key or a feature."""

    name: str
    type: ValueType


@dataclasses.dataclass(frozen=True)
class FeatureAggregation:
    """One feature of a windowed view."""

    feature: str
    column: str
    function: str
    window_ms: int
    """The length of the window; 0 for the entity's whole life.

    See `streams.spans` for the kinds of windows.
    """
    slide_ms: int = 0
    """The distance between hopping windows; 0 for a sliding window."""
    gap_ms: int = 0
    """The pause that ends a session, whose length ``window_ms`` limits.

    0 for windows that are not sessions.
    """
    change: WindowChange = WindowChange.NONE
    percentile: float = 0.0
    """The percentile of ``approx_percentile``, from 0 to 1."""


@dataclasses.dataclass(frozen=True)
class StreamSource:
    """The topic of a stream view."""

    topic: str
    event_time: str
    """The name of the field with the event time."""
    fields: tuple[codec.Field, ...]
    message_key: tuple[str, ...]
    """The fields that make up the message key, which decides the partition."""
    lateness_ms: int
    """Maximum time by which an event may be older than the newest event of its partition."""
    idle_ms: int = 0
    """Wall time without a record after which a partition stops holding the watermark back; 0: never."""
    encoding: schemas.Encoding = schemas.Encoding.JSON


@dataclasses.dataclass(frozen=True)
class BatchFile:
    """The Parquet file of a view's batch source."""

    path: str
    timestamp_field: str


@dataclasses.dataclass(frozen=True)
class View:
    """One feature view."""

    name: str
    kind: ViewKind
    join_keys: tuple[Column, ...]
    """Sorted by name, like Feast's keys."""
    features: tuple[Column, ...]
    ttl_ms: int
    """Values do not expire if 0."""
    source: StreamSource | None = None
    aggregations: tuple[FeatureAggregation, ...] = ()
    """One for each feature, in the order of the features."""
    hop_ms: int = 0
    batch_file: BatchFile | None = None
    """The file that a stream view's history is written to, or that a batch view is materialised from.

    None if the batch source is no such file.
    """

    @property
    def is_stream(self) -> bool:
        """Whether the features process keeps this view up to date."""
        return self.kind is not ViewKind.BATCH

    @property
    def is_repartitioned(self) -> bool:
        """Whether its events must first move to the partition of the view's entity."""
        return self.source is not None and set(self.source.message_key) != {
            key.name for key in self.join_keys
        }

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in order."""
        return tuple(feature.name for feature in self.features)


@dataclasses.dataclass(frozen=True)
class ServiceFeature:
    """A feature of a FeatureService."""

    view: str
    feature: str


@dataclasses.dataclass(frozen=True)
class OwnEvent:
    """Whether a request is in the values of the views that read the topic of the requests."""

    topic: str
    is_included: bool


@dataclasses.dataclass(frozen=True)
class ServicePlan:
    """One FeatureService: the features that are served together, in its order."""

    name: str
    project: str
    references: tuple[ServiceFeature, ...]
    views: tuple[View, ...]
    """Only the views that the service needs."""
    own_event: OwnEvent | None = None
    """None: the rows are no requests of a model, and all values are as of their event time."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in the order of the service's projections."""
        return tuple(reference.feature for reference in self.references)

    @cached_property
    def join_keys(self) -> tuple[str, ...]:
        """The entity columns that a read needs."""
        return tuple(dict.fromkeys(key.name for view in self.views for key in view.join_keys))

    @property
    def stream_views(self) -> tuple[str, ...]:
        """The names of the views that have a watermark."""
        return tuple(view.name for view in self.views if view.is_stream)

    @property
    def own_views(self) -> tuple[View, ...]:
        """The views whose events are the requests themselves."""
        topic = None if self.own_event is None else self.own_event.topic
        return tuple(view for view in self.views if view.source is not None and view.source.topic == topic)

    def for_requests(self, topic: str, own_event: str) -> Self:
        """Return the plan for the requests of a topic.

        ``own_event`` is ``features.own_event`` of model.yaml: included or excluded.
        """
        return dataclasses.replace(self, own_event=OwnEvent(topic, own_event == "included"))

    def check_inputs(self) -> None:
        """Raise `PlanError` if a feature cannot be an input of a model: it must be a number or a string."""
        for view in self.views:
            for feature in view.features:
                is_served = ServiceFeature(view.name, feature.name) in self.references
                if is_served and not (feature.type.is_number or feature.type is ValueType.STRING):
                    raise PlanError(
                        f"service {self.name!r}: feature {feature.name!r} of view {view.name!r} is of type "
                        f"{feature.type}; a model takes only numbers and strings"
                    )


@dataclasses.dataclass(frozen=True)
class Materialized:
    """What Feast has written to the online store for a batch view."""

    ranges_us: tuple[tuple[int, int], ...]
    """The first and last time of the rows of each materialisation, in order, in microseconds."""
    by_ms: int
    """The wall time by which all materialisations had finished."""


@dataclasses.dataclass(frozen=True)
class FeaturePlan:
    """Everything that Driftline runs of a Feast repository."""

    project: str
    views: tuple[View, ...]
    services: dict[str, tuple[ServiceFeature, ...]]
    materialized: dict[str, Materialized] = dataclasses.field(default_factory=dict)
    """The materialisations of batch views, by view."""
    entities: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """The join keys of each entity, by its name."""

    def view(self, name: str) -> View:
        """Return a view; `PlanError` if there is none."""
        for view in self.views:
            if view.name == name:
                return view
        raise PlanError(
            f"there is no feature view {name!r}; the views are {', '.join(view.name for view in self.views)}"
        )

    def service(self, name: str) -> ServicePlan:
        """Return the plan of a FeatureService, an empty one for an empty name.

        `PlanError` if there is none.
        """
        if not name:
            return self.select(name, ())
        if name not in self.services:
            raise PlanError(
                f"there is no feature service {name!r}; the services are {', '.join(self.services) or 'none'}"
            )
        return self.select(name, self.services[name])

    def select(self, name: str, references: tuple[ServiceFeature, ...]) -> ServicePlan:
        """Return a plan of only these features; `PlanError` names a feature that does not exist."""
        views = {reference.view: self.view(reference.view) for reference in references}
        for reference in references:
            if reference.feature not in views[reference.view].feature_names:
                known = ", ".join(views[reference.view].feature_names)
                raise PlanError(
                    f"view {reference.view!r} has no feature {reference.feature!r}; its features are {known}"
                )
        return ServicePlan(name, self.project, references, tuple(views.values()))

    def by_topic(self) -> dict[str, tuple[View, ...]]:
        """Return the stream views by topic."""
        topics: dict[str, tuple[View, ...]] = {}
        for view in self.views:
            if view.source is not None:
                topics[view.source.topic] = (*topics.get(view.source.topic, ()), view)
        return topics

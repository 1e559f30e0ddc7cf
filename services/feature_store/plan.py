"""What the Feast repository declares, compiled to plain data. Reading it costs no import of Feast.

The plan is kept as JSON beside the registry, under the digest of the registry's file: the first
process after an apply may have to compile it (5 s of imports), every other one reads it.
"""

import dataclasses
from enum import StrEnum
from functools import cached_property

from streams import codec, schemas
from streams.spans import WindowChange


class PlanError(ValueError):
    """The Feast repository declares something that cannot be run. The message names view and field."""


class ValueType(StrEnum):
    """Feast's types that can be features; of them strings and integers can be keys."""

    STRING = "string"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT = "float"
    DOUBLE = "double"
    BOOL = "bool"
    BYTES = "bytes"
    UNIX_TIMESTAMP = "unix_timestamp"
    """Whole seconds since 1970."""
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
        """Tell whether a column of it is one of floats."""
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
    """How a view comes to its values."""

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
    """0: the entity's whole life."""
    slide_ms: int = 0
    """The distance of hopping windows; 0 for a window that slides with the time. See `streams.spans`."""
    gap_ms: int = 0
    """What ends a session; 0 for windows that are none. The window is then the most that counts."""
    change: WindowChange = WindowChange.NONE
    percentile: float = 0.0
    """Of ``approx_percentile``, from 0 to 1."""


@dataclasses.dataclass(frozen=True)
class StreamSource:
    """The topic of a stream view."""

    topic: str
    event_time: str
    """Name of the field with the event time."""
    fields: tuple[codec.Field, ...]
    message_key: tuple[str, ...]
    """The fields that make up the message key, hence the partition."""
    lateness_ms: int
    """How far an event may be behind the newest of its partition."""
    idle_ms: int = 0
    """After how much wall time without a record a partition no longer holds the watermark back; 0: never."""
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
    """Sorted by name, as Feast's keys are."""
    features: tuple[Column, ...]
    ttl_ms: int
    """0: for ever."""
    source: StreamSource | None = None
    aggregations: tuple[FeatureAggregation, ...] = ()
    """In the order of the features."""
    hop_ms: int = 0
    batch_file: BatchFile | None = None
    """Of a stream view what its past is written to, of a batch view what is materialised; None if its batch
    source is no such file."""

    @property
    def is_stream(self) -> bool:
        """Tell whether the features process keeps this view up to date."""
        return self.kind is not ViewKind.BATCH

    @property
    def is_repartitioned(self) -> bool:
        """Tell whether its events must move to the partition of its own entity first."""
        return self.source is not None and set(self.source.message_key) != {
            key.name for key in self.join_keys
        }

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in order."""
        return tuple(feature.name for feature in self.features)


@dataclasses.dataclass(frozen=True)
class FeatureReference:
    """A feature of a FeatureService."""

    view: str
    feature: str


@dataclasses.dataclass(frozen=True)
class ServicePlan:
    """One FeatureService: what is served together, in its order."""

    name: str
    project: str
    references: tuple[FeatureReference, ...]
    views: tuple[View, ...]
    """Only those that it needs."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in the order of the service's projections."""
        return tuple(reference.feature for reference in self.references)

    @cached_property
    def join_keys(self) -> tuple[str, ...]:
        """The entity columns that a reader must bring."""
        return tuple(dict.fromkeys(key.name for view in self.views for key in view.join_keys))

    @property
    def stream_views(self) -> tuple[str, ...]:
        """The names of the views that have a watermark."""
        return tuple(view.name for view in self.views if view.is_stream)

    def check_inputs(self) -> None:
        """Raise `PlanError` if a feature can be no input of a model: it must be a number or a string."""
        for view in self.views:
            for feature in view.features:
                wanted = FeatureReference(view.name, feature.name) in self.references
                if wanted and not (feature.type.is_number or feature.type is ValueType.STRING):
                    raise PlanError(
                        f"service {self.name!r}: feature {feature.name!r} of view {view.name!r} is of type "
                        f"{feature.type}; a model takes numbers and strings"
                    )


@dataclasses.dataclass(frozen=True)
class Materialized:
    """What Feast has written online of a batch view."""

    ranges_us: tuple[tuple[int, int], ...]
    """By materialisation, in order: the first and the last time of the rows that were taken."""
    by_ms: int
    """The wall time by which all of them were done."""


@dataclasses.dataclass(frozen=True)
class FeaturePlan:
    """All of a Feast repository that is run."""

    project: str
    views: tuple[View, ...]
    services: dict[str, tuple[FeatureReference, ...]]
    materialized: dict[str, Materialized] = dataclasses.field(default_factory=dict)
    """Of the batch views that Feast has written."""

    def view(self, name: str) -> View:
        """Return a view; `PlanError` if there is none."""
        for view in self.views:
            if view.name == name:
                return view
        raise PlanError(
            f"there is no feature view {name!r}; known are {', '.join(view.name for view in self.views)}"
        )

    def service(self, name: str) -> ServicePlan:
        """Return a FeatureService, without a name an empty one; `PlanError` if there is none."""
        if not name:
            return self.select(name, ())
        if name not in self.services:
            raise PlanError(
                f"there is no feature service {name!r}; known are {', '.join(self.services) or 'none'}"
            )
        return self.select(name, self.services[name])

    def select(self, name: str, references: tuple[FeatureReference, ...]) -> ServicePlan:
        """Make a plan of just these features; `PlanError` names a feature that does not exist."""
        views = {reference.view: self.view(reference.view) for reference in references}
        for reference in references:
            if reference.feature not in views[reference.view].feature_names:
                known = ", ".join(views[reference.view].feature_names)
                raise PlanError(
                    f"view {reference.view!r} has no feature {reference.feature!r}; known are {known}"
                )
        return ServicePlan(name, self.project, references, tuple(views.values()))

    def by_topic(self) -> dict[str, tuple[View, ...]]:
        """Return the stream views by the topic that they read."""
        topics: dict[str, tuple[View, ...]] = {}
        for view in self.views:
            if view.source is not None:
                topics[view.source.topic] = (*topics.get(view.source.topic, ()), view)
        return topics

"""The declaration of a model, ``models/<name>/model.yaml``, decoded strictly.

An error names file, line and column; all errors are reported at once.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    model_validator,
)

from services.runtime import times
from streams import codec, records, schemas

MULTICLASS_MIN = 3
REFERENCE_ROWS_MIN = 300
"""Minimum rows of a reference: with fewer, chance alone moves distributions by more than a threshold."""
FILE = "model.yaml"
HOUR_MS = 3_600_000
INTERVALS_AHEAD_MAX = 32
"""Maximum published versions of a learning model that have not taken effect yet."""
LATE_WINDOWS_MAX = 400
"""Maximum closed windows kept for late records; each takes 1 KiB per feature."""
DAY_MS = 24 * HOUR_MS
SECOND_HOURS = 1 / 3600
"""Minimum length of a window or an interval: in milliseconds, as they are counted, it must not be 0."""
LATENCY_BOUNDS_MS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)
"""Bucket bounds of the latency histogram: only for these is the share of predictions in time known
exactly."""
MONTH_MS = 365 * DAY_MS // 12

Part = Literal["hour", "weekday", "month"]
"""The time zone is UTC; Monday is weekday 0, January month 0."""

Detector = Literal["adwin", "page_hinkley", "kswin", "ddm", "eddm", "hddm_a", "hddm_w", "fhddm"]


_NUMBERS = (codec.FieldType.INT, codec.FieldType.FLOAT, codec.FieldType.BOOL)
_LABEL_TYPES = {
    "binary": _NUMBERS,
    "regression": _NUMBERS,
    "multiclass": (codec.FieldType.STRING, *_NUMBERS),
}
"""The types that the value of a label may have, by task."""


class DeclarationError(ValueError):
    """A model.yaml cannot be used. The message has a line per error: ``file:line:column: setting: text``."""


def _schema(columns: Any) -> Any:
    """Convert ``{name: "type?"}`` to fields; pydantic reports a ValueError at the schema's position."""
    if not isinstance(columns, dict):
        return columns
    fields = []
    for name, kind in columns.items():
        text = str(kind)
        try:
            fields.append(
                codec.Field(str(name), codec.FieldType(text.removesuffix("?")), nullable=text.endswith("?"))
            )
        except ValueError:
            known = ", ".join(codec.FieldType)
            raise ValueError(
                f"field {name!r} has the type {text!r}; known are {known}, each with ? for nullable"
            ) from None
    return tuple(fields)


Schema = Annotated[tuple[codec.Field, ...], BeforeValidator(_schema)]


ALERT_KINDS = (*get_args(get_type_hints(records.DriftAlarm)["kind"]), "retraining", "rollout")
"""The kinds of alarms, retrainings, and changes of the arms."""


def _alert_kind(name: str) -> str:
    if name not in ALERT_KINDS:
        raise ValueError(f"{name!r} is not a kind of alert; known are {', '.join(ALERT_KINDS)}")
    return name


AlertKind = Annotated[str, AfterValidator(_alert_kind)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _topic_name(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", name) or name in (".", ".."):
        raise ValueError(
            f"{name!r} is not a valid topic name: Kafka accepts 1 to 249 letters, digits, '.', '_' and '-'"
        )
    return name


TopicName = Annotated[str, AfterValidator(_topic_name)]


class ApplicationTopic(_Strict):
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
        return schemas.decoder_of(self.topic, self.bounded_fields, self.encoding, registry, ranges)

    def wire_encoder(self, registry: schemas.SchemaRegistry | None) -> schemas.Encoder | None:
        """Return an encoder of the topic's records; None if they are plain JSON."""
        if self.encoding is schemas.Encoding.JSON or registry is None:
            return None
        return schemas.Encoder(self.encoding, registry, schemas.subject_of(self.topic))

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        types = {field.name: field for field in self.fields}
        for name, wanted in ((self.id, codec.FieldType.STRING), (self.event_time, codec.FieldType.TIMESTAMP)):
            field = types.get(name)
            if field is None or field.type is not wanted or field.nullable:
                raise ValueError(f"the schema must declare {name!r} with the type {wanted}, not nullable")
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
        if self.routing_key not in {field.name for field in self.fields}:
            raise ValueError(f"key names {self.key!r}, which is not a field of the schema")
        return self


class MissingValues(_Strict):
    """How features without a value are handled. Each is counted, whatever is declared."""

    otherwise: Literal["pass", "reject"] = "pass"
    """What happens to other features without a value: ``pass`` gives the model a null, ``reject`` refuses the
    request."""
    reject: tuple[str, ...] = ()
    """Features without which a request is refused."""
    fill: dict[str, float | str] = {}
    """The value that the model gets instead, by feature. The log holds the value that was served."""

    @model_validator(mode="after")
    def _check_once(self) -> Self:
        if both := set(self.reject) & self.fill.keys():
            raise ValueError(f"{', '.join(sorted(both))}: reject and fill exclude each other")
        return self


class Features(_Strict):
    """The inputs of the model."""

    service: str = ""
    """Name of the Feast FeatureService; empty: all inputs are fields of the request."""
    from_request: tuple[str, ...] = ()
    """Fields of the request that are inputs, in this order, before the features of the service."""
    missing: MissingValues = MissingValues()
    wait_seconds: float = Field(0.0, ge=0, le=600)
    """Maximum time that scoring waits for the features' watermark to pass the event time of a request."""

    @model_validator(mode="after")
    def _check_any(self) -> Self:
        if not self.service and not self.from_request:
            raise ValueError(
                "name a Feast FeatureService as service, fields of the request as from_request, or both"
            )
        return self


class LabelTopic(ApplicationTopic):
    """The topic of the labels."""

    value: str
    positive_above: float | None = None
    """Binary: the label is 1 if the value is above this one."""
    horizon_hours: float = Field(gt=0)
    """Maximum event time from the request to its label; later labels count as orphans."""

    @property
    def horizon_ms(self) -> int:
        """The horizon in milliseconds."""
        return round(self.horizon_hours * HOUR_MS)


class QualityBounds(_Strict):
    """Bounds on the values of one feature, as they are served."""

    min: float | None = None
    max: float | None = None
    allowed: tuple[str, ...] = ()
    """Allowed values; a number is compared as text."""
    null_share_max: float | None = Field(None, ge=0, le=1)
    """Maximum share of nulls in a window; default: no bound, but 0 for fields of the request that are not
    nullable."""
    invalid_share_max: float = Field(0.0, ge=0, le=1)
    """Maximum share of a window's values with a wrong type, out of bounds, or not allowed."""

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.allowed and (self.min is not None or self.max is not None):
            raise ValueError(
                "allowed excludes min and max: give allowed for categories, min and max for numbers"
            )
        return self


class Monitoring(_Strict):
    """Windows and thresholds of the drift process."""

    window_hours: float = Field(24, ge=SECOND_HOURS)
    lateness_hours: float = Field(24, ge=0)
    """Time after the end of a window in which late predictions and labels still change it; it is then
    reported again."""
    psi_threshold: float = Field(0.2, gt=0)
    """Effect: the population stability index from which a feature counts as drifted. The value that a small
    window would show by chance is added to it."""
    p_value_threshold: float = Field(0.001, gt=0, lt=1)
    """Evidence: the significance level for all features of a window together."""
    new_category_share: float = Field(0.01, gt=0, le=1)
    """Effect: the share of values in new categories from which they count as drift."""
    false_alarms_per_month: float = Field(0.1, gt=0, le=1000)
    """Maximum mean number of false alarms per month, for all features, segments and scores together."""
    season: dict[str, tuple[Part, ...]] = {}
    """The parts of the event time (UTC) with which a feature is known to change, by feature."""
    quality: dict[str, QualityBounds] = {}
    """Bounds on the values, by feature. A window that violates them raises an alarm."""
    segments: tuple[str, ...] = ()
    """Features whose most frequent values are monitored separately."""
    block_hours: float = Field(24, ge=SECOND_HOURS)
    """Length of a block of time: values within a block depend on each other, blocks are treated as
    independent."""
    loss_block_hours: float | None = Field(None, ge=SECOND_HOURS)
    """The same for losses; default: ``block_hours``. With a shorter block a bad week counts as harm although
    such weeks come by chance, and harm is found sooner."""
    detectors: tuple[Detector, ...] = ()
    """Additional detectors of river on the loss; their alarms are not limited by the false-alarm budget."""
    adwin_delta: float | None = Field(None, gt=0, lt=1, repr=False)
    """Has no effect since losses are judged by evidence; files that declare it stay valid."""
    alarm_windows: int = Field(3, ge=1, le=100)
    """Consecutive calm windows after which an alarm about the loss or a quality bound is resolved."""
    loss_tolerance: float = Field(0.03, ge=0)
    """How far the mean loss may be above the reference's before the model counts as worse; for a regression,
    as a share of the reference's loss."""
    loss_windows: int = Field(7, ge=1, le=366)
    """Number of windows in the mean of estimates, and of the first labels of a model without a reference."""
    sample: float = Field(1.0, ge=0.0001, le=1)
    """Share of the predictions, with their labels, that drift reads: less than 1 for a very hot model."""
    mature_share: float = Field(0.99, gt=0, le=1)
    """Share of the expected labels that must have arrived before the performance of a window's predictions
    counts as known. Until then it is provisional."""

    @property
    def patience_ms(self) -> float:
        """Minimum mean time between two false alarms of the model, in milliseconds."""
        return MONTH_MS / self.false_alarms_per_month

    @property
    def block_ms(self) -> int:
        """The block in milliseconds."""
        return round(self.block_hours * HOUR_MS)

    @property
    def loss_block_ms(self) -> int:
        """The block of losses in milliseconds."""
        return self.block_ms if self.loss_block_hours is None else round(self.loss_block_hours * HOUR_MS)

    @property
    def window_ms(self) -> int:
        """The window in milliseconds."""
        return round(self.window_hours * HOUR_MS)

    @property
    def lateness_ms(self) -> int:
        """The lateness in milliseconds."""
        return round(self.lateness_hours * HOUR_MS)

    @model_validator(mode="after")
    def _check_lateness(self) -> Self:
        if self.lateness_hours > LATE_WINDOWS_MAX * self.window_hours:
            raise ValueError(
                f"lateness_hours: at most {LATE_WINDOWS_MAX} times window_hours, as these windows are kept"
            )
        return self


def _named(costs: Any) -> Any:
    """Convert keys to text: the classes of a binary model are numbers in YAML."""
    if not isinstance(costs, dict):
        return costs
    return {str(name): _named(cost) for name, cost in costs.items()}


class Business(_Strict):
    """The cost of predictions: by prediction and label for classes, by the error for a regression."""

    unit: str = Field(min_length=1, max_length=40)
    """Unit of the cost of one prediction, such as USD or minutes."""
    costs: Annotated[dict[str, dict[str, FiniteFloat]], BeforeValidator(_named)] = {}
    """Classification: cost by prediction, then by label. Negative: a gain."""
    over: FiniteFloat = Field(0.0, ge=0)
    """Regression: cost of each unit by which the prediction is above the label."""
    under: FiniteFloat = Field(0.0, ge=0)
    """Regression: cost of each unit by which the prediction is below the label."""
    tolerance: FiniteFloat = Field(0.0, ge=0)
    """How far the mean cost may be above the reference's before the model counts as worse; used if
    ``retraining.harm`` is ``cost``."""


class Retraining(_Strict):
    """When a new model is trained, and on which data."""

    harm: Literal["loss", "cost"] = "loss"
    """The measure that must have risen: the loss, or the cost that ``business`` declares."""
    on_estimate: bool = False
    """Whether a rise that is only estimated, before the labels arrive, also requests a retraining."""
    window: Literal["all", "since_change"] = "all"
    """The training set: all data, or the data since the change, if that has enough labels."""
    cooldown_days: float = Field(14, ge=0)
    minimum_labels: int = Field(1000, ge=1)
    holdout_days: float = Field(7, gt=0)
    effective_after_hours: float = Field(0, ge=0)
    refit: bool = False
    """Whether a candidate that passed the gates is fitted again on all rows, including the held-out days."""


class Gates(_Strict):
    """The conditions that a candidate must meet."""

    metric: Literal["log_loss"] = "log_loss"
    floor: float
    margin: float = Field(0.0, ge=-1, le=1)
    """How much better than the champion the candidate must be; negative: how much worse it may be. If a
    candidate that passes is fitted again on newer rows, a difference within the noise of the held-out days
    is no reason to keep an older model."""


def _time_ms(value: Any) -> Any:
    """Convert a time as people write it to milliseconds; it has an offset."""
    return value if value is None else times.instant_ms(str(value))


class LearningReference(_Strict):
    """The labelled predictions from which the reference of a model that learns online is made."""

    rows: int = Field(5000, ge=REFERENCE_ROWS_MIN, le=50_000)
    """Maximum number of them, the first ones by event time; they are kept in the checkpoint until the label
    horizon of the last one has passed."""
    since_ms: Annotated[int | None, BeforeValidator(_time_ms)] = Field(None, alias="since")
    """Event time of the first one, with an offset; default: the first prediction with a score."""
    until_ms: Annotated[int | None, BeforeValidator(_time_ms)] = Field(None, alias="until")
    """Event time at which the period ends, even with fewer rows; default: when there are enough."""

    def contains(self, time_ms: int) -> bool:
        """Tell whether an event time is within the period."""
        return (self.since_ms is None or time_ms >= self.since_ms) and (
            self.until_ms is None or time_ms < self.until_ms
        )

    @model_validator(mode="after")
    def _check_period(self) -> Self:
        if self.since_ms is not None and self.until_ms is not None and self.since_ms >= self.until_ms:
            raise ValueError("since must be before until")
        return self


class Learning(_Strict):
    """Online learning: the model learns from every label instead of being retrained."""

    every_hours: float = Field(24, ge=SECOND_HOURS)
    """Length of an interval of event time. The labels of an interval are learned together, then the model is
    published as a version."""
    effective_after_hours: float = Field(24, ge=0)
    """Event time from the end of an interval until its version scores requests."""
    minimum_labels: int = Field(1000, ge=1)
    """Number of labels before the first version is published; until then requests are only collected."""
    reference: LearningReference = LearningReference()

    @property
    def interval_ms(self) -> int:
        """The interval in milliseconds."""
        return round(self.every_hours * HOUR_MS)

    @property
    def delay_ms(self) -> int:
        """The delay in milliseconds."""
        return round(self.effective_after_hours * HOUR_MS)

    @model_validator(mode="after")
    def _check_delay(self) -> Self:
        if self.effective_after_hours > INTERVALS_AHEAD_MAX * self.every_hours:
            raise ValueError(
                f"effective_after_hours: at most {INTERVALS_AHEAD_MAX} times every_hours; "
                "each version that has not taken effect yet is kept"
            )
        return self


class Rollout(_Strict):
    """How a new version replaces the champion."""

    keep_first_as_shadow: str | None = None
    """Name of a shadow arm that keeps scoring with the very first version."""


class Limits(_Strict):
    """Limits of one model in the scoring process, so that it does not slow down the others."""

    slice_records_max: int = Field(2000, ge=1, le=100_000)
    """Maximum requests of one partition that are scored together."""
    in_flight_mib_max: int = Field(32, ge=1, le=1024)
    """Maximum size of the requests that are fetched and not yet scored."""
    threads: int = Field(2, ge=1, le=64)
    """Maximum concurrent calls of the model."""
    rows_max: int = Field(1000, ge=1, le=100_000)
    """Maximum rows of one HTTP request."""
    requests_max: int = Field(64, ge=1, le=10_000)
    """Maximum concurrent HTTP requests; further ones are refused."""
    seconds_max: float = Field(5.0, gt=0, le=600)
    """Timeout of an HTTP request."""
    shadow_wait_ms: float = Field(20.0, ge=0, le=10_000)
    """How much longer than the prediction shadows may take; later scores are dropped and counted. A replay
    (``features.wait_seconds``) waits for them."""


class AlertRoute(_Strict):
    """Which alerts go to one destination."""

    to: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Name of the destination. Its URL is a secret and therefore in the settings."""
    kinds: tuple[AlertKind, ...] = ()
    """Kinds of alerts; empty: all."""
    minimum_severity: records.Severity = "warning"
    segments: tuple[str, ...] = ()
    """Only alarms of these segments, as ``origin=EWR``; ``all`` stands for alarms of all predictions."""
    resolved: bool = True
    """Whether a message is sent when an alarm is resolved."""


class Alerts(_Strict):
    """Where alerts about alarms, retrainings and changes of the arms are sent."""

    routes: tuple[AlertRoute, ...] = Field((), max_length=20)
    repeat_after_hours: float = Field(24, ge=0.1, le=24 * 31)
    """Wall time after which an open alert is sent again."""
    group_seconds: float = Field(30, ge=0, le=3600)
    """Alerts within this time of the first one are sent as one message."""


class Objective(_Strict):
    """The share of good events that is required, and the number of days over which it is measured."""

    objective: float = Field(gt=0, lt=1)
    window_days: float = Field(28, gt=0, le=366)

    @property
    def window_ms(self) -> int:
        """The window in milliseconds."""
        return round(self.window_days * DAY_MS)


class LatencyObjective(Objective):
    """The share of predictions in time."""

    within_ms: float
    """The maximum latency; one of the bounds of the histogram."""
    channel: Literal["rest", "kafka"] = "rest"
    """``rest``: HTTP requests; ``kafka``: slices of the request topic."""

    @model_validator(mode="after")
    def _check_bound(self) -> Self:
        if self.within_ms not in LATENCY_BOUNDS_MS:
            raise ValueError(f"within_ms: must be one of {', '.join(f'{ms:g}' for ms in LATENCY_BOUNDS_MS)}")
        return self


class AccuracyObjective(Objective):
    """The share of good windows, or of correct predictions."""

    measure: Literal["windows", "answers"] = "windows"
    """``windows``: windows whose mean loss is within the tolerance; ``answers``: predictions that are
    correct, among those with a label."""
    loss_tolerance: float | None = Field(None, ge=0)
    """Tolerance above the reference's loss; default: ``monitoring.loss_tolerance``."""


class Slo(_Strict):
    """Service level objectives; those not declared are not measured."""

    latency: LatencyObjective | None = None
    availability: Objective | None = None
    """The share of valid requests that get a prediction."""
    accuracy: AccuracyObjective | None = None


class ModelDeclaration(_Strict):
    """The content of one model.yaml."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    owner: str
    team: str = Field("", pattern=r"^[a-z0-9_-]*$")
    """The team whose tokens may request predictions; trusted teams may use models with code, see the
    settings."""
    task: Literal["binary", "multiclass", "regression"]
    threshold: float = Field(0.5, ge=0, le=1)
    """Binary: the score from which the prediction is 1."""
    classes: tuple[str, ...] = ()
    """Multiclass: the classes of predictions and labels, in the order of the model's probabilities."""
    request: RequestTopic
    features: Features
    label: LabelTopic
    monitoring: Monitoring = Monitoring()
    business: Business | None = None
    """None: no costs are declared."""
    retraining: Retraining = Retraining()
    gates: Gates | None = None
    """None: the model is not retrained here."""
    learning: Learning | None = None
    """None: the model does not learn online."""
    rollout: Rollout = Rollout()
    limits: Limits = Limits()
    alerts: Alerts = Alerts()
    slo: Slo = Slo()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the label, in the order of their indices; empty for a regression."""
        return ("0", "1") if self.task == "binary" else self.classes

    @property
    def is_retrained(self) -> bool:
        """Whether drift may request a retraining."""
        return self.gates is not None

    @model_validator(mode="after")
    def _check_task(self) -> Self:
        if self.task == "binary" and self.label.positive_above is None:
            raise ValueError("a binary model needs label.positive_above")
        if (self.task == "multiclass") != (len(self.classes) >= MULTICLASS_MIN):
            raise ValueError(
                f"classes: a multiclass model needs {MULTICLASS_MIN} or more, other tasks must not have any"
            )
        if self.task != "binary" and self.gates is not None:
            raise ValueError("gates: only binary models can be retrained")
        if self.learning is not None and self.gates is not None:
            raise ValueError(
                "learning: a model either learns online or is retrained; remove learning or gates"
            )
        if self.task == "regression" and self.slo.accuracy is not None:
            raise ValueError("slo.accuracy: not measured for a regression; use the alarm on its loss")
        if self.learning is not None and self.task == "multiclass":
            raise ValueError("learning: only binary models and regressions can learn online")
        return self

    @model_validator(mode="after")
    def _check_business(self) -> Self:
        if self.business is None:
            if self.retraining.harm == "cost":
                raise ValueError("retraining.harm: cost needs a section business that declares the costs")
            return self
        names, rates = set(self.class_names), (self.business.over, self.business.under)
        if not names and (self.business.costs or not any(rates)):
            raise ValueError(
                "business: a regression declares over and under, at least one above 0, not costs"
            )
        if names and any(rates):
            raise ValueError(
                "business: over and under are for regressions; this task declares costs by class"
            )
        for answer in names and {*names, *self.business.costs}:
            if set(self.business.costs.get(answer, ())) != names or answer not in names:
                known = ", ".join(self.class_names)
                raise ValueError(
                    f"business.costs: needs a cost for each pair of prediction and label, both of {known}; "
                    f"see the prediction {answer!r}"
                )
        return self

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        request = {field.name for field in self.request.fields}
        if len(set(self.features.from_request)) < len(self.features.from_request):
            raise ValueError("features.from_request: each field must be named once")
        for name in self.features.from_request:
            if name not in request:
                raise ValueError(
                    f"features.from_request names {name!r}, which is not a field of request.schema"
                )
        types = {field.name: field.type for field in self.request.fields}
        for name, bounds in self.monitoring.quality.items():
            if not self.features.service and name not in self.features.from_request:
                raise ValueError(f"monitoring.quality names {name!r}, which is not a feature")
            is_text = types.get(name) is codec.FieldType.STRING and name in self.features.from_request
            if is_text and (bounds.min is not None or bounds.max is not None):
                raise ValueError(f"monitoring.quality.{name}: min and max are not possible for a string")
        self._check_fill(types)
        return self

    def _check_fill(self, types: Mapping[str, codec.FieldType]) -> None:
        """Check the values in place of missing fields of the request; the service's are not known here."""
        for name, value in self.features.missing.fill.items():
            if name in self.features.from_request:
                is_text = types[name] in (codec.FieldType.STRING, codec.FieldType.TIMESTAMP)
                if is_text is not isinstance(value, str):
                    raise ValueError(f"features.missing.fill.{name}: {value!r} is not a {types[name]}")

    @model_validator(mode="after")
    def _check_label(self) -> Self:
        kinds = {field.name: field.type for field in self.label.fields}
        kind = kinds.get(self.label.value)
        if kind is None:
            raise ValueError(f"label.value names {self.label.value!r}, which is not a field of label.schema")
        if kind not in _LABEL_TYPES[self.task]:
            known = ", ".join(_LABEL_TYPES[self.task])
            raise ValueError(
                f"label.value names {self.label.value!r}, a {kind}: a {self.task} model needs one of {known}"
            )
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: each must be named once")
        return self


def learning(declarations: Mapping[str, ModelDeclaration]) -> dict[str, ModelDeclaration]:
    """Return the models that learn online."""
    return {name: one for name, one in declarations.items() if one.learning is not None}

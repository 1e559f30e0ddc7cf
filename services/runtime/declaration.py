"""The declaration of a model, ``models/<name>/model.yaml``, decoded strictly.

An error names file, line and column, and all errors come at once.
"""

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

from streams import codec, records, schemas

MULTICLASS_MIN = 3
FILE = "model.yaml"
HOUR_MS = 3_600_000
INTERVALS_AHEAD_MAX = 32
"""Of a learning model: published versions that have not taken effect yet."""
LATE_WINDOWS_MAX = 400
"""Closed windows kept for late records, one KiB a feature each."""
DAY_MS = 24 * HOUR_MS
LATENCY_BOUNDS_MS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)
"""Of the histogram of answers: whether an answer was within one of these is known exactly."""
MONTH_MS = 365 * DAY_MS // 12

Part = Literal["hour", "weekday", "month"]
"""In UTC; Monday is weekday 0, January month 0."""

Detector = Literal["adwin", "page_hinkley", "kswin", "ddm", "eddm", "hddm_a", "hddm_w", "fhddm"]


class DeclarationError(ValueError):
    """A model.yaml cannot be used. The message has one line an error: ``file:line:column: path: what``."""


def _schema(columns: Any) -> Any:
    """Turn ``{name: "type?"}`` into fields; pydantic reports a ValueError at the schema's place."""
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
"""Kinds of alarms; retrainings; changes of who answers."""


def _alert_kind(name: str) -> str:
    if name not in ALERT_KINDS:
        raise ValueError(f"{name!r} is none; known are {', '.join(ALERT_KINDS)}")
    return name


AlertKind = Annotated[str, AfterValidator(_alert_kind)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ApplicationTopic(_Strict):
    """Records of an application."""

    topic: str
    id: str
    event_time: str
    fields: Schema = Field(alias="schema")
    encoding: schemas.Encoding = schemas.Encoding.JSON
    """How the values are written; all but json with a schema registry."""

    def decoder(self) -> codec.EventDecoder:
        """Compile the declared schema for JSON, as it comes over HTTP."""
        return codec.EventDecoder(self.fields)

    def wire_decoder(self, registry: schemas.SchemaRegistry | None) -> codec.EventDecoder:
        """Compile the declared schema for the topic's records; `SchemaError` without a registry it needs."""
        return schemas.decoder_of(self.topic, self.fields, self.encoding, registry)

    def wire_encoder(self, registry: schemas.SchemaRegistry | None) -> schemas.Encoder | None:
        """Return what writes records to the topic; None where they are plain JSON."""
        if self.encoding is schemas.Encoding.JSON or registry is None:
            return None
        return schemas.Encoder(self.encoding, registry, schemas.subject_of(self.topic))

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        types = {field.name: field for field in self.fields}
        for name, wanted in ((self.id, codec.FieldType.STRING), (self.event_time, codec.FieldType.TIMESTAMP)):
            field = types.get(name)
            if field is None or field.type is not wanted or field.nullable:
                raise ValueError(f"the schema needs {name!r} as a {wanted} that is not nullable")
        return self


class RequestTopic(ApplicationTopic):
    """The records that ask for a prediction."""

    key: str = ""
    """The field by which requests are divided among arms; default: the id."""

    @property
    def routing_key(self) -> str:
        """The field by which requests are divided among arms."""
        return self.key or self.id

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        if self.routing_key not in {field.name for field in self.fields}:
            raise ValueError(f"key names {self.key!r}, which the schema does not have")
        return self


class MissingValues(_Strict):
    """What becomes of a feature without a value. Each is counted, whatever is declared."""

    otherwise: Literal["pass", "reject"] = "pass"
    """For features that are named below neither: the model gets the null, or the request is refused."""
    reject: tuple[str, ...] = ()
    """Features without which there is no answer."""
    fill: dict[str, float | str] = {}
    """By feature, the value that the model gets instead. What is logged is what was served."""

    @model_validator(mode="after")
    def _check_once(self) -> Self:
        if both := set(self.reject) & self.fill.keys():
            raise ValueError(f"{', '.join(sorted(both))}: reject and fill exclude each other")
        return self


class Features(_Strict):
    """Where the model's inputs come from."""

    service: str = ""
    """Name of the Feast FeatureService; without one, the request brings all inputs."""
    from_request: tuple[str, ...] = ()
    """Fields of the request that are inputs, in this order before those of the service."""
    missing: MissingValues = MissingValues()
    wait_seconds: float = Field(0.0, ge=0, le=600)
    """How long scoring waits until the features' watermark has passed a request's event time."""

    @model_validator(mode="after")
    def _check_any(self) -> Self:
        if not self.service and not self.from_request:
            raise ValueError(
                "name a Feast FeatureService as service, fields of the request as from_request, or both"
            )
        return self


class LabelTopic(ApplicationTopic):
    """The records that bring the truth."""

    value: str
    positive_above: float | None = None
    """Binary: the label is 1 above this value."""
    horizon_hours: float = Field(gt=0)
    """Of event time after the request; later labels count as orphans."""

    @property
    def horizon_ms(self) -> int:
        """The horizon in milliseconds."""
        return round(self.horizon_hours * HOUR_MS)


class QualityBounds(_Strict):
    """What the values of one feature are bound to be, as served."""

    min: float | None = None
    max: float | None = None
    allowed: tuple[str, ...] = ()
    """Names; a number is compared by how it is written."""
    null_share_max: float | None = Field(None, ge=0, le=1)
    """Share of a window's values; by default any, but none of a field of the request that is not nullable."""
    invalid_share_max: float = Field(0.0, ge=0, le=1)
    """Share of a window's values that may be of another type, out of the bounds, or of another name."""

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.allowed and (self.min is not None or self.max is not None):
            raise ValueError("allowed excludes min and max: a feature has names or numbers")
        return self


class Monitoring(_Strict):
    """Windows and thresholds of the drift process."""

    window_hours: float = Field(24, gt=0)
    lateness_hours: float = Field(24, ge=0)
    """For so long after its end, a late prediction or label still changes a window: it is reported again."""
    psi_threshold: float = Field(0.2, gt=0)
    """Effect: the population stability index from which a feature counts as drifted; what a small
    window would show by chance is added to it."""
    p_value_threshold: float = Field(0.001, gt=0, lt=1)
    """Evidence: the level of all features of a window together."""
    new_category_share: float = Field(0.01, gt=0, le=1)
    """Effect: the share of categories that the reference does not have, from which they count as drift."""
    false_alarms_per_month: float = Field(0.1, gt=0, le=1000)
    """Of all features, segments and scores together, on average, at most."""
    season: dict[str, tuple[Part, ...]] = {}
    """By feature: the parts of the event time (UTC) with which it changes by nature."""
    quality: dict[str, QualityBounds] = {}
    """By feature: what its values are bound to be. An alarm is raised when a window breaks it."""
    segments: tuple[str, ...] = ()
    """Features whose most frequent values are watched apart."""
    block_hours: float = Field(24, gt=0)
    """Within such a time values are alike; from block to block they are taken for independent."""
    detectors: tuple[Detector, ...] = ()
    """Of river, on the loss beside ours: they raise alarms without a budget."""
    alarm_windows: int = Field(3, ge=1, le=100)
    """Consecutive windows without drift after which an alarm is taken back."""
    loss_tolerance: float = Field(0.03, ge=0)
    """Harm: how far the mean loss may be above the reference's; of a regression, as a share of that."""
    loss_windows: int = Field(7, ge=1, le=366)
    """Closed windows over which that mean is taken."""
    adwin_delta: float = Field(0.002, gt=0, lt=1)
    """Of the ADWIN detector on the loss."""
    mature_share: float = Field(0.99, gt=0, le=1)
    """Of the labels expected: how many must have come before the performance of a window's predictions counts
    as known. Until then it is provisional."""

    @property
    def patience_ms(self) -> float:
        """Mean time between two false alarms of the model, at least."""
        return MONTH_MS / self.false_alarms_per_month

    @property
    def block_ms(self) -> int:
        """The block in milliseconds."""
        return round(self.block_hours * HOUR_MS)

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
                f"lateness_hours: at most {LATE_WINDOWS_MAX} times window_hours; each such window is kept"
            )
        return self


def _named(costs: Any) -> Any:
    """Let the classes of a binary model stand as the numbers that they are in YAML."""
    if not isinstance(costs, dict):
        return costs
    return {str(name): _named(cost) for name, cost in costs.items()}


class Business(_Strict):
    """What answers cost: of classes by answer and truth, of a regression by how far it is off."""

    unit: str = Field(min_length=1, max_length=40)
    """Of the cost of one answer, such as USD or minutes."""
    costs: Annotated[dict[str, dict[str, FiniteFloat]], BeforeValidator(_named)] = {}
    """Classification: by answer, then by truth. Below 0: a gain."""
    over: FiniteFloat = Field(0.0, ge=0)
    """Regression: for each unit that the answer is above the truth."""
    under: FiniteFloat = Field(0.0, ge=0)
    tolerance: FiniteFloat = Field(0.0, ge=0)
    """Harm: how far the mean cost may be above the reference's, where ``retraining.harm`` is ``cost``."""


class Retraining(_Strict):
    """When a new model is trained, and on what."""

    harm: Literal["loss", "cost"] = "loss"
    """What must have risen: the loss, or the cost that ``business`` declares."""
    on_estimate: bool = False
    """Whether a rise that is only estimated, before the labels are there, asks for a new version as well."""
    window: Literal["all", "since_change"] = "all"
    """What is trained on: all that is known, or what came since the change, if that has enough labels."""
    cooldown_days: float = Field(14, ge=0)
    minimum_labels: int = Field(1000, ge=1)
    holdout_days: float = Field(7, gt=0)
    effective_after_hours: float = Field(0, ge=0)
    refit: bool = False
    """Whether a candidate that passed is fitted again on all rows, the held-out days included."""


class Gates(_Strict):
    """What a candidate must reach."""

    metric: Literal["log_loss"] = "log_loss"
    floor: float
    margin: float = Field(0.0, ge=-1, le=1)
    """By how much the candidate must beat the champion; below 0, by how much it may be worse: where what
    passes is fitted again on newer rows, a difference within the noise of the held-out days is no reason
    to keep an older model."""


class Learning(_Strict):
    """A model that goes on learning from every label, instead of being retrained."""

    every_hours: float = Field(24, gt=0)
    """Of event time: the labels of such an interval are learned together, and the model is published."""
    effective_after_hours: float = Field(24, ge=0)
    """Of event time after the interval's end, until requests get what was learned in it."""
    minimum_labels: int = Field(1000, ge=1)
    """Before so many have been learned, nothing is published: requests are collected."""

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
                "each version that still waits is kept"
            )
        return self


class Rollout(_Strict):
    """How a new version takes over."""

    keep_first_as_shadow: str | None = None
    """Arm name under which the very first version goes on scoring silently."""


class Limits(_Strict):
    """What one model may take of the scoring process, so that it takes nothing from the others."""

    slice_records_max: int = Field(2000, ge=1, le=100_000)
    """Requests of one partition scored at once."""
    in_flight_mib_max: int = Field(32, ge=1, le=1024)
    """Requests fetched and not yet answered."""
    threads: int = Field(2, ge=1, le=64)
    """Calls of the model at the same time."""
    rows_max: int = Field(1000, ge=1, le=100_000)
    """Of one HTTP request."""
    requests_max: int = Field(64, ge=1, le=10_000)
    """HTTP requests at work; more are turned away."""
    seconds_max: float = Field(5.0, gt=0, le=600)
    """For the answer to an HTTP request."""
    shadow_wait_ms: float = Field(20.0, ge=0, le=10_000)
    """How much longer than the answer shadows may take; what comes later is dropped and counted. A replay
    (``features.wait_seconds``) waits for them."""


class AlertRoute(_Strict):
    """Who is told of what. Where that is, the settings say, as it is a secret."""

    to: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Name of a destination."""
    kinds: tuple[AlertKind, ...] = ()
    """Empty: all."""
    minimum_severity: records.Severity = "warning"
    segments: tuple[str, ...] = ()
    """Only alarms of these segments, as ``origin=EWR``; those of all predictions pass with ``all``."""
    resolved: bool = True
    """Whether to tell when an alarm is taken back."""


class Alerts(_Strict):
    """To whom alarms, retrainings and changes of the model go."""

    routes: tuple[AlertRoute, ...] = Field((), max_length=20)
    repeat_after_hours: float = Field(24, ge=0.1, le=24 * 31)
    """What still stands is told again, in wall time."""
    group_seconds: float = Field(30, ge=0, le=3600)
    """What comes within this time of the first goes out as one message."""


class Objective(_Strict):
    """Which share has to be good, over how many days."""

    objective: float = Field(gt=0, lt=1)
    window_days: float = Field(28, gt=0, le=366)

    @property
    def window_ms(self) -> int:
        """The window in milliseconds."""
        return round(self.window_days * DAY_MS)


class LatencyObjective(Objective):
    """How many answers are in time."""

    within_ms: float
    """One of the bounds of the histogram."""
    channel: Literal["rest", "kafka"] = "rest"
    """HTTP requests, or slices of the request topic."""

    @model_validator(mode="after")
    def _check_bound(self) -> Self:
        if self.within_ms not in LATENCY_BOUNDS_MS:
            raise ValueError(f"within_ms: one of {', '.join(f'{bound:g}' for bound in LATENCY_BOUNDS_MS)}")
        return self


class AccuracyObjective(Objective):
    """How many windows, or answers, are right."""

    measure: Literal["windows", "answers"] = "windows"
    """Windows whose mean loss is within the tolerance; or answers that were right, once labels came."""
    loss_tolerance: float | None = Field(None, ge=0)
    """Above the reference's loss; default: that of ``monitoring``."""


class Slo(_Strict):
    """Service level objectives; what is not declared is not watched."""

    latency: LatencyObjective | None = None
    availability: Objective | None = None
    """How many requests are answered, of those that could be."""
    accuracy: AccuracyObjective | None = None


class ModelDeclaration(_Strict):
    """All of one model.yaml."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    owner: str
    team: str = Field("", pattern=r"^[a-z0-9_-]*$")
    """Whose tokens may ask for predictions, and whether its models may bring code; see the settings."""
    task: Literal["binary", "multiclass", "regression"]
    threshold: float = Field(0.5, ge=0, le=1)
    """Binary: the score from which the prediction is 1."""
    classes: tuple[str, ...] = ()
    """Multiclass: the answers, in the order of the model's probabilities. Labels are of these, too."""
    request: RequestTopic
    features: Features
    label: LabelTopic
    monitoring: Monitoring = Monitoring()
    business: Business | None = None
    """None: nothing is said of what answers cost."""
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
        """What the label may be, in the order of the numbers that stand for it; empty for a regression."""
        return ("0", "1") if self.task == "binary" else self.classes

    @property
    def is_retrained(self) -> bool:
        """Whether drift may ask for a new version."""
        return self.gates is not None

    @model_validator(mode="after")
    def _check_task(self) -> Self:
        if self.task == "binary" and self.label.positive_above is None:
            raise ValueError("a binary model needs label.positive_above")
        if (self.task == "multiclass") != (len(self.classes) >= MULTICLASS_MIN):
            raise ValueError(
                f"classes: a multiclass model names {MULTICLASS_MIN} or more, other tasks have none"
            )
        if self.task != "binary" and self.gates is not None:
            raise ValueError("gates: only binary models are retrained here")
        if self.learning is not None and self.gates is not None:
            raise ValueError("learning: a model either learns online or is retrained behind gates")
        if self.learning is not None and self.task == "multiclass":
            raise ValueError("learning: only binary models and regressions learn online here")
        return self

    @model_validator(mode="after")
    def _check_business(self) -> Self:
        if self.business is None:
            if self.retraining.harm == "cost":
                raise ValueError("retraining.harm: cost needs a section business that declares it")
            return self
        names, rates = set(self.class_names), (self.business.over, self.business.under)
        if not names and (self.business.costs or not any(rates)):
            raise ValueError("business: a regression declares over and under, one of them above 0, not costs")
        if names and any(rates):
            raise ValueError("business: over and under are of regressions; here costs are declared by class")
        for answer in names and {*names, *self.business.costs}:
            if set(self.business.costs.get(answer, ())) != names or answer not in names:
                known = ", ".join(self.class_names)
                raise ValueError(
                    f"business.costs: needs a cost of each truth for each answer, both of {known}; "
                    f"look at the answer {answer!r}"
                )
        return self

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        request = {field.name for field in self.request.fields}
        for name in self.features.from_request:
            if name not in request:
                raise ValueError(f"features.from_request names {name!r}, which request.schema does not have")
        types = {field.name: field.type for field in self.request.fields}
        for name, bounds in self.monitoring.quality.items():
            if not self.features.service and name not in self.features.from_request:
                raise ValueError(f"monitoring.quality names {name!r}, which is no feature")
            is_text = types.get(name) is codec.FieldType.STRING and name in self.features.from_request
            if is_text and (bounds.min is not None or bounds.max is not None):
                raise ValueError(f"monitoring.quality.{name}: a string has no min and max")
        if self.label.value not in {field.name for field in self.label.fields}:
            raise ValueError(f"label.value names {self.label.value!r}, which label.schema does not have")
        return self


def learning(declarations: Mapping[str, ModelDeclaration]) -> dict[str, ModelDeclaration]:
    """Return the models that learn online."""
    return {name: one for name, one in declarations.items() if one.learning is not None}

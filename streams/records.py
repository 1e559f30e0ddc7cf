"""Every record that Driftline itself puts on the wire, as JSON.

Times are milliseconds since the epoch in UTC. "Event time" is when something happened in the world,
"wall time" when a process handled it. A record that shares a topic with another carries its kind in
the field ``type``. Fields are only ever added, with a default: an old record always decodes.
"""

from typing import Any, Literal

import msgspec

FeatureValue = float | int | str | bool | None
Trigger = Literal["bootstrap", "drift", "manual"]

ASKED_OVER_HTTP = -1
"""Source partition and offset of a prediction that no record asked for."""


class Prediction(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The answer to one request, in the request's own partition number and order.

    A repeat after a crash is exactly a record whose ``source_offset`` is not above the last one seen
    in its partition, so consumers drop repeats without remembering ids (see `streams.codec.RepeatFilter`).
    An answer over HTTP has `ASKED_OVER_HTTP` for both, lies in the partition of its id, and has no repeats.
    """

    prediction_id: str
    """The request's own id."""
    model: str
    version: int
    """Version in the registry; 0 while no model exists yet and features are only collected."""
    arm: str
    arm_weight: int
    """Share of the keys that this arm gets, in 1/10,000."""
    event_time_ms: int
    scored_time_ms: int
    """Wall time."""
    source_partition: int
    source_offset: int
    features: list[FeatureValue]
    """As served, in the order of the declaration's ``feature_names``."""
    features_lag_ms: int | None
    """How far the slowest feature view's watermark was behind ``event_time_ms``; 0 when it had passed."""
    score: float | None
    """Probability of the positive class (binary) or of the answer (multiclass), or the regressed value;
    null when ``version`` is 0."""
    prediction: FeatureValue
    shadow_scores: dict[str, float] = {}
    """By arm name: what the shadows would have answered."""
    probabilities: list[float] | msgspec.UnsetType = msgspec.UNSET
    """Multiclass: of each declared class, in their order; other tasks have no such field."""


class Label(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The truth about one request, read from the label topic as model.yaml declares it."""

    prediction_id: str
    event_time_ms: int
    """When the truth became known."""
    value: float
    """Binary: 1 or 0; multiclass: the number of the class in the order of ``classes``."""
    source_partition: int
    source_offset: int


class Outcome(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """A prediction joined with its label. Repeats: as for `Prediction`, by the label's source offset."""

    prediction_id: str
    model: str
    version: int
    arm: str
    event_time_ms: int
    """Of the request."""
    label_time_ms: int
    source_partition: int
    """Of the label."""
    source_offset: int
    label: float
    """As of `Label`."""
    score: float | None
    loss: float | None
    """Log loss (binary, multiclass) or squared error (regression); null when ``version`` is 0."""
    shadow_scores: dict[str, float] = {}
    class_name: str = ""
    """Multiclass: the true class."""
    cost: float | None = None
    """Where model.yaml declares it."""


class Bins(msgspec.Struct, kw_only=True, frozen=True):
    """A distribution in few bins, to be shown; the last bin is of missing values.

    Numeric: one bin more than ``edges``, as in `FeatureReference`, the first and the last are out of the
    reference's range. Categorical: a bin for each of ``categories``, with the rest of the known ones and
    the new ones at the end.
    """

    edges: list[float] | None = None
    categories: list[str] | None = None
    expected: list[float] = []
    """Shares of the reference, in its seasons mixed as the window's; all 0 where there was nothing to
    compare with."""
    counts: list[int] = []
    """Of the window."""
    psi: list[float] = []
    """What each bin adds to the index."""


class Contribution(msgspec.Struct, kw_only=True, frozen=True):
    """One bin of one feature, in all rows or a segment, and its part in the drift that reaches the model."""

    feature: str
    bin: str
    """``12 to 15``, ``below -3``, a category, ``(missing)``."""
    expected_share: float
    share: float
    psi: float
    """What the bin adds to the feature's index."""
    importance: float | None
    """Of the feature; null when it is not known."""
    weight: float
    """The index by the feature's share of all importances, or by an equal one when they are not known; in
    a segment by its share of the rows, too."""
    segment: str = ""
    """``origin=EWR``: all shares and the index are of its rows, against the reference's; empty: of all."""


class FeatureDrift(msgspec.Struct, kw_only=True, frozen=True):
    """How one feature of a window differs from the reference: effect and evidence apart."""

    feature: str
    psi: float
    """Population stability index over the reference's bins: the effect."""
    statistic: float
    """KS distance (numeric) or total variation (categorical), 0 to 1."""
    p_value: float
    """Of the two-sample test: the evidence."""
    threshold: float
    """The PSI from which this feature counts as drifted."""
    drifted: bool
    missing_share: float
    new_categories: list[str] = []
    jensen_shannon: float = 0.0
    hellinger: float = 0.0
    wasserstein: float = 0.0
    """In the feature's own unit; 0 for categories."""
    out_of_range_share: float = 0.0
    """Below or above all values of the reference."""
    cells_effective: float = 0.0
    """How many cells count, by entropy: 1 for a feature that froze."""
    missing_p_value: float = 1.0
    """Of "no more values are missing than before" (Fisher's test, exact for independent values)."""
    out_of_range_p_value: float = 1.0
    """Of "no more values are out of the reference's range than its size explains", likewise."""
    cells_effective_reference: float = 0.0
    cells_p_value: float = 1.0
    """Of "as many cells count as before"."""
    bins: Bins | None = None
    """What was compared."""
    importance: float | None = None
    """See `FeatureReference`."""


class ConfidenceDrift(msgspec.Struct, kw_only=True, frozen=True):
    """How sure a binary model is, ``max(score, 1 - score)``, against the reference."""

    mean: float
    reference_mean: float
    statistic: float
    """KS distance, 0 to 1."""
    p_value: float


class PairDrift(msgspec.Struct, kw_only=True, frozen=True):
    """How two features go together, by the rank correlation of their values."""

    first: str
    second: str
    correlation: float
    """Of the window."""
    reference_correlation: float
    p_value: float
    """Of "as before", from above, of this pair alone."""
    drifted: bool
    """The correlation differs by 0.1 or more, and so surely, of all pairs together."""


class RelationDrift(msgspec.Struct, kw_only=True, frozen=True):
    """How all pairs of features of a window go together, against the reference."""

    distance: float
    """Root mean square of the differences of the correlations: the effect."""
    p_value: float
    """Of "all as before", from above: the evidence."""
    pairs: list[PairDrift] = []
    """Those that changed most surely, ten at most."""


class SegmentDrift(msgspec.Struct, kw_only=True, frozen=True):
    """What a window counted of the predictions with one value of a feature."""

    segment: str
    """``origin=EWR``."""
    predictions: int
    labels: int
    """Labels that became known within the window."""
    score_psi: float | None = None
    """Of the champion's scores here against all of the reference's; null without them."""
    loss: float | None = None
    """Realised, as of `Outcome`, over those labels."""


class FeatureQuality(msgspec.Struct, kw_only=True, frozen=True):
    """How many values of a feature were not as declared; each counts once."""

    feature: str
    values: int
    """0 where something is declared of a name that is no feature."""
    nulls: int = 0
    wrong_type: int = 0
    below: int = 0
    above: int = 0
    not_allowed: int = 0
    null_share_max: float | None = None
    """As declared; null: any."""
    invalid_share_max: float = 0.0
    """Of all that is neither as declared nor null."""
    broken: bool = False
    """More than declared."""


class DriftReport(msgspec.Struct, kw_only=True, frozen=True, tag="drift_report"):
    """What one closed window of event time looked like. ``report_id`` is the same after a replay.

    Late records within the declared lateness change a closed window: it is reported again with the same id
    and a higher ``revision``, which then counts.
    """

    report_id: str
    model: str
    version: int
    """The champion for which the window's reference stood."""
    window_start_ms: int
    window_end_ms: int
    predictions: int
    labels: int
    """Labels that became known within the window, whenever their request was."""
    features: list[FeatureDrift] = []
    """Empty without a reference or predictions."""
    score_psi: float | None = None
    """Of the champion's scores; null without a reference or predictions."""
    log_loss: float | None = None
    """Realised, over the labels of this window; null without labels or scores."""
    accuracy: float | None = None
    reference_log_loss: float | None = None
    """What the champion reached on the window held out in its training."""
    shadow_log_loss: dict[str, float] = {}
    measures: dict[str, float] = {}
    """Realised over the labels of this window, of all tasks; see `services.monitoring.model_metrics`."""
    shadow_losses: dict[str, float] = {}
    """By arm: the mean log loss (binary) or absolute error (regression) of the shadows."""
    labels_joined_total: int = 0
    """Running totals since the first event, exact after a restart."""
    labels_orphaned_total: int = 0
    """Labels without a prediction."""
    labels_duplicate_total: int = 0
    predictions_unlabelled_total: int = 0
    """Predictions whose label horizon has passed."""
    score_bins: Bins | None = None
    """Of the champion's scores."""
    score: FeatureDrift | None = None
    """Of the champion's scores, as of features: what is predicted drifts."""
    confidence: ConfidenceDrift | None = None
    """Of the champion's scores; null for models that are not binary."""
    relations: RelationDrift | None = None
    """Null where the reference does not tell how features go together, or without predictions."""
    quality: list[FeatureQuality] = []
    """Of the features of which something is declared: how many values were not so."""
    contributions: list[Contribution] = []
    """The bins of all features to which most of the drift is due, 20 at most, the largest weight first."""
    alarms_standing: list[str] | None = None
    """Ids of the alarms that stood when the window was closed; null in reports of before."""
    revision: int = 0
    segments: list[SegmentDrift] = []
    """By name, those that have predictions or labels here."""


class Figure(msgspec.Struct, kw_only=True, frozen=True):
    """One measure of a cohort of predictions, or of those of a segment."""

    measure: str
    """See `services.monitoring.model_metrics`; ``auc`` has no interval and nothing running."""
    realised: float | None = None
    """Mean over the labels that have come."""
    low: float | None = None
    """95 %, at this one time, by the central limit theorem."""
    high: float | None = None
    estimated: float | None = None
    """Expected from the scores alone, before the labels; as it was when the window ended."""
    gap: float | None = None
    """Realised minus estimated."""
    running: float | None = None
    """Mean over mature cohorts since the promotion, of losses cut at 4, errors at their scale."""
    running_low: float | None = None
    """95 % at all times together: an empirical-Bernstein confidence sequence."""
    running_high: float | None = None


class SegmentPerformance(msgspec.Struct, kw_only=True, frozen=True):
    """Of the predictions of one segment."""

    segment: str
    """``origin=EWR``; empty: all."""
    predictions: int
    labels: int
    running_labels: int = 0
    """Behind the running figures."""
    figures: list[Figure] = []


class PerformanceReport(msgspec.Struct, kw_only=True, frozen=True, tag="performance_report"):
    """How the champion's predictions of one window of event time turned out, whenever their labels came.

    Reported when the window ends, again when its labels are mature, and once more when the label horizon
    has passed, if labels came after that. Of the same window and version the highest revision counts.
    """

    report_id: str
    """The same after a replay, and for all revisions."""
    model: str
    version: int
    window_start_ms: int
    """Event time of the predictions."""
    window_end_ms: int
    as_of_ms: int
    """Event time: labels that became known before are in it."""
    revision: int
    state: Literal["provisional", "mature", "complete"]
    """Early labels are not like all: a provisional figure is most likely too good or too bad."""
    predictions: int
    labels: int
    maturity: float | None
    """Share of the labels expected that have come, by the delays of earlier ones; null when unknown."""
    segments: list[SegmentPerformance]
    """All predictions first."""
    judged: str = ""
    """The measure by which harm is judged."""
    estimate_error: float | None = None
    """How far estimates of it were off of late: the largest gap of a block of windows."""
    unit: str = ""
    """Of the cost."""


class DriftAlarm(msgspec.Struct, kw_only=True, frozen=True, tag="drift_alarm"):
    """Something changed. ``alarm_id`` is the same after a replay."""

    alarm_id: str
    model: str
    version: int
    kind: Literal["feature", "category", "relation", "quality", "score", "loss"]
    subject: str
    """The feature's name, two of them, or ``score``, or ``log_loss``."""
    value: float
    threshold: float
    detected_at_ms: int
    """Event time."""
    since_ms: int
    """Event time at which the change is thought to have begun."""
    message: str
    detector: str = "window"
    """What raised it: ``e-detector``, ``window``, ``adwin`` or another of river's."""
    since_from_ms: int | None = None
    """The change began hardly before this and hardly after the next; null when the detector cannot tell."""
    since_to_ms: int | None = None
    effect: float | None = None
    """Where values of late stand among those known, 0 to 1; 0.5 when nothing changed."""
    segment: str = ""
    """``origin=EWR``: only predictions with this value; empty: all."""
    contributions: list[Contribution] = []
    """Of a feature: the bins that its change is due to, three at most, in the window so far."""


class RetrainingRequested(msgspec.Struct, kw_only=True, frozen=True, tag="retraining_requested"):
    """Asks for a new model, with the evidence. ``request_id`` is the same after a replay."""

    request_id: str
    model: str
    trigger: Trigger
    requested_at_ms: int
    """Event time: the training set holds what was known then, and nothing later."""
    reason: str
    evidence: list[DriftAlarm] = []
    offsets: dict[str, list[int]] = {}
    """By topic, for each partition: the next offset at the time of the request. Training waits until
    the archive holds everything before it."""
    since_ms: int | None = None
    """Event time at which the change is thought to have begun."""
    train_from_ms: int | None = None
    """What to train on, by event time of the predictions: what came since the change, if that has enough
    labels; null: everything. Honoured where model.yaml says ``retraining.window: since_change``."""
    train_to_ms: int | None = None
    basis: Literal["labels", "estimate"] = "labels"
    """What rose: the loss of labels as they became known, or an estimate that has been right of late."""
    contributions: list[Contribution] = []
    """Of the last window, see `DriftReport`."""


class RetrainingFinished(msgspec.Struct, kw_only=True, frozen=True, tag="retraining_finished"):
    """How a retraining ended. Exactly one for each request id (repeats are equal)."""

    request_id: str
    model: str
    trigger: Trigger
    requested_at_ms: int
    result: Literal["promoted", "rejected", "failed"]
    """``rejected``: a gate said no; ``failed``: an error."""
    version: int
    """The candidate's version; 0 when none was registered."""
    reasons: list[str] = []
    """Why it was rejected or failed; empty when promoted."""
    metrics: dict[str, float] = {}
    rows: int = 0
    run_id: str = ""
    duration_seconds: float = 0.0


class FeatureReference(msgspec.Struct, kw_only=True, frozen=True):
    """The distribution of one feature (or of the score) in the training set, in frozen bins.

    Numeric: ``edges`` are inner quantile edges, strictly increasing; bin i holds
    ``edges[i-1] <= x < edges[i]`` and ``counts`` has ``len(edges) + 1`` entries; the first and the last
    bin are empty where the outermost edges are the range.
    Categorical: ``categories`` by name; ``counts`` has as many entries.
    """

    feature: str
    counts: list[int]
    missing: int
    edges: list[float] | None = None
    categories: list[str] | None = None
    season: list[Literal["hour", "weekday", "month"]] = []
    """Parts of the event time with which this feature changes by nature."""
    seasons: dict[str, list[int]] = {}
    """By season (see `services.monitoring.seasons`): the counts, the missing ones last."""
    segments: dict[str, list[int]] = {}
    """By segment that is declared (``origin=EWR``): the counts, the missing ones last. Not of the feature
    whose value makes the segment, and of none with a season: it changes with that in each segment, too."""
    design_effect: float = 1.0
    """How much more the values of a block of time vary together than independent ones would."""
    importance: float | None = None
    """By how much the loss on the window held out in training rises when this feature is shuffled among its
    rows; null when it was not measured."""


class PairReference(msgspec.Struct, kw_only=True, frozen=True):
    """How features correlate in the training set: sums of scores by rank (`monitoring.rank_correlation`).

    Products and their squares are of the upper triangle of all pairs, the diagonal included, row by row.
    """

    rows: int
    sums: list[int]
    products: list[int]
    squares: list[int]


class Reference(msgspec.Struct, kw_only=True, frozen=True):
    """What the champion was trained on: against this, drift is measured."""

    version: int
    features: list[FeatureReference]
    score: FeatureReference | None
    log_loss: float
    """On the window held out in training."""
    loss_design_effect: float = 1.0
    """As of features, of the losses on that window."""
    pairs: PairReference | None = None
    """Of the first 64 features."""
    measures: dict[str, float] = {}
    """On that window, of all measures; see `services.monitoring.model_metrics`."""
    score_sums: dict[str, list[float]] = {}
    """How the scores of that window turned out, by their cell: ``labels``, ``positives``, and the sum of each
    measure."""
    error_max: float | None = None
    """Regression: the error that 99 of 100 stay below, where errors are cut for intervals and detectors."""


class Arm(msgspec.Struct, kw_only=True, frozen=True):
    """One model version that scores."""

    name: str
    version: int
    weight: int
    """Share of the keys in 1/10,000; 0 for a shadow."""
    effective_from_ms: int = 0
    """Requests with an event time from here on. 0: all."""
    shadow: bool = False
    segment: dict[str, list[FeatureValue]] = {}
    """Only requests whose fields have one of these values each; the share is one of theirs."""
    buckets: list[tuple[int, int]] = []
    """Which of the 10,000 buckets of keys it has, each from and up to before; empty: by its weight, the
    champion behind the others. See `services.model_registry.traffic_split`."""


class LearnedSpan(msgspec.Struct, kw_only=True, frozen=True):
    """What of a model that learns online its arms already know."""

    from_ms: int
    """Event time: the beginning of the first interval, from which versions are numbered."""
    until_ms: int
    """Event time: the end of the last interval whose version is among the arms, or was."""


class ModelChanged(msgspec.Struct, kw_only=True, frozen=True, tag="model_changed"):
    """Which versions score, from which event time on. Complete: the latest record alone is the state.

    Of the arms with the same name and segment, the one with the latest ``effective_from_ms`` not above
    the request's event time counts: the outgoing champion stays listed until the new one takes over.
    """

    model: str
    arms: list[Arm]
    changed_at_ms: int
    """Event time."""
    reason: str
    request_id: str = ""
    reference: Reference | None = None
    learned: LearnedSpan | None = None
    """Only of a model that learns online; whoever changes its arms leaves this as it is."""


class LearnedModel(msgspec.Struct, kw_only=True, frozen=True):
    """What a model had learned at the end of an interval. Equal after a replay."""

    model: str
    version: int
    """The number of the interval, the first with a record being 1."""
    interval_end_ms: int
    """Event time: it has learned the labels known before."""
    labels: int
    """Learned since the first one."""
    estimator: bytes
    """See `services.model_registry.river_format`."""


class DeadLetter(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A record that could not be processed, whole, with the reason."""

    service: str
    reason: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    failed_time_ms: int
    """Wall time."""
    headers: list[tuple[str, bytes]] = []


class ReplayMark(msgspec.Struct, kw_only=True, frozen=True):
    """How far the replay of some dead letters of one partition is: ``begun``, then ``arrived`` or ``lost``.

    It travels in a header of a record without a value among the dead letters, so that their readers skip it.
    """

    state: Literal["begun", "arrived", "lost"]
    topic: str
    partition: int
    offsets: list[int]
    """Of the failed records, in the topic and partition to which they are written again."""
    begun_ms: int
    """Wall time."""
    end_offset: int
    """The end of that partition before the first of them was written: no replayed one is before it."""


class FeatureRow(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """One row as written to the online store: the feature log."""

    view: str
    entity: list[str | int]
    """Values in the order of the view's join keys."""
    event_time_ms: int
    values: list[FeatureValue]
    """In the order of the view's features."""


Severity = Literal["info", "warning", "critical"]


class Alert(msgspec.Struct, kw_only=True, frozen=True):
    """What people are told of one alarm, retraining or change of models."""

    alert_id: str
    """The alarm's own, or one made of the request; the same after a replay."""
    model: str
    kind: str
    """Of the alarm, or ``retraining``, or ``rollout``."""
    severity: Severity
    title: str
    subject: str = ""
    segment: str = ""
    at_ms: int
    """Event time."""
    since_ms: int | None = None
    since_from_ms: int | None = None
    since_to_ms: int | None = None
    effect: str = ""
    """How much it hurts, in words."""
    stands: bool = False
    """Whether it lasts until it is taken back, as an alarm does."""
    recorded_ms: int = 0
    """Wall time of the record that told of it."""


class Notified(msgspec.Struct, kw_only=True, frozen=True, tag="notified"):
    """What became of an alert at one destination; the latest record of a key counts."""

    destination: str
    alert: Alert
    state: Literal["told", "given_up", "resolved"]
    """``given_up``: none of several attempts was taken; ``resolved``: nothing more will be said."""
    told_ms: int
    """Wall time of the last attempt."""
    times: int = 1


class Silence(msgspec.Struct, kw_only=True, frozen=True, tag="silence"):
    """Until then, nobody is told of the alerts that it matches; an empty field matches all."""

    silence_id: str
    until_ms: int
    """Wall time."""
    created_ms: int
    reason: str
    model: str = ""
    kind: str = ""
    subject: str = ""
    segment: str = ""


DriftRecord = DriftReport | DriftAlarm | PerformanceReport
AlertRecord = Notified | Silence
RetrainingRecord = RetrainingRequested | RetrainingFinished

_ENCODER = msgspec.json.Encoder()


def encode(record: msgspec.Struct) -> bytes:
    """Encode any record as JSON."""
    return _ENCODER.encode(record)


def decoder_of(kind: Any) -> msgspec.json.Decoder[Any]:
    """Make a reusable strict decoder for a record type or a union of tagged ones."""
    return msgspec.json.Decoder(kind)

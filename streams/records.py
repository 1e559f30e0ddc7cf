"""Every record that Driftline writes to Kafka, as JSON.

Times are milliseconds since the epoch in UTC. "Event time" is when something happened in the world,
"wall time" is when a process handled it. Records of different kinds in one topic carry their kind in the
field ``type``. Fields are only added, and have a default: an old record can always be decoded.
"""

from typing import Annotated, Any, Literal

import msgspec

from streams.json_decoder import JsonDecoder

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
TimeMs = Annotated[int, msgspec.Meta(ge=-62_135_596_800_000, le=253_402_300_799_999)]
"""A time from the year 1 to the year 9999."""
FeatureValue = float | Int64 | str | bool | None
Trigger = Literal["bootstrap", "drift", "manual"]

ASKED_OVER_HTTP = -1
"""Source partition and offset of a prediction that was requested over HTTP, not by a record."""


class Prediction(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The prediction for one request, in the partition number and order of the requests.

    After a crash, records may be repeated. A record is a repeat if its ``source_offset`` is not above the
    last one seen from its source partition, so consumers drop repeats without storing ids (see
    `streams.repeats.RepeatFilter`). A prediction requested over HTTP has `ASKED_OVER_HTTP` as source
    partition and offset, is in the partition of its id, and is not repeated.
    """

    prediction_id: str
    """The id of the request."""
    model: str
    version: Int32
    """Version in the model registry; 0 while no model exists yet and features are only collected."""
    arm: str
    arm_weight: Int32
    """Share of the keys that this arm receives, in 1/10,000."""
    call_us: Int32 | msgspec.UnsetType = msgspec.UNSET
    """Microseconds that the call of the model took, with all rows of this arm in the batch; absent where
    ``version`` is 0 and in records of older versions."""
    event_time_ms: TimeMs
    scored_time_ms: TimeMs
    """Wall time."""
    source_partition: Int32
    source_offset: Int64
    features: list[FeatureValue]
    """The features as served to the model, in the order of the names of ``feature_set``."""
    features_lag_ms: Int64 | None
    """How far the slowest feature view's watermark was below ``event_time_ms``; 0 if it was not."""
    score: float | None
    """Probability of the positive class (binary) or of the predicted class (multiclass), or the regressed
    value; null when ``version`` is 0."""
    prediction: FeatureValue
    shadow_scores: dict[str, float] = {}
    """The scores of the shadow arms, by arm name."""
    shadow_probabilities: dict[str, list[float]] | msgspec.UnsetType = msgspec.UNSET
    """Multiclass: the ``probabilities`` of the shadow arms that have a score; absent without any, and in
    records of older versions."""
    probabilities: list[float] | msgspec.UnsetType = msgspec.UNSET
    """Multiclass: the probability of each declared class, in their order; absent for other tasks."""
    fallback_from: str | msgspec.UnsetType = msgspec.UNSET
    """The arm that the request belongs to, if the champion answered because that arm's version cannot; then
    version, arm and share are the champion's. Absent otherwise."""
    fallback_version: Int32 | msgspec.UnsetType = msgspec.UNSET
    """The version of that arm, which cannot answer. Absent without ``fallback_from`` and in records of older
    versions."""
    feature_set: str = ""
    """Digest of the names of ``features``, see `FeatureSet`; empty in records of older versions."""
    source: str = ""
    """Digest of the request topic and its id, so a recreated topic has another digest. Empty over HTTP and in
    records of older versions."""
    shadow_versions: dict[str, Int32] | msgspec.UnsetType = msgspec.UNSET
    """Versions of the shadow arms, by arm name, also of those without a score for this request; absent
    without shadows and in records of older versions. Older records leave out versions without scores."""
    shadow_call_us: dict[str, Int32] | msgspec.UnsetType = msgspec.UNSET
    """As ``call_us``, of the shadow arms that have scores, by arm name."""


class Label(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """The label of one request, read from the label topic as model.yaml declares it."""

    prediction_id: str
    event_time_ms: int
    """When the label became known."""
    value: float
    """Binary: 1 or 0; multiclass: the index of the class in ``classes``; regression: the value."""
    source_partition: int
    source_offset: int
    written_time_ms: int | None = None
    """When its record was written."""
    is_over_http: bool = False
    """Whether it came over HTTP, and not from the application that writes the topic."""


class Outcome(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """A prediction joined with its label, or with a later label that corrects it.

    Repeats: as for `Prediction`, by the offset of the label.
    """

    prediction_id: str
    model: str
    version: Int32
    arm: str
    event_time_ms: TimeMs
    """Event time of the request."""
    label_time_ms: TimeMs
    source_partition: Int32
    """Partition of the label. For a label that came before its prediction it is -2 - (32,768 q + p), with the
    partitions q of the label and p of the prediction."""
    source_offset: Int64
    """Offset of the label, or of the prediction if ``source_partition`` is negative."""
    label: float
    """See `Label.value`."""
    score: float | None
    loss: float | None
    """Log loss (binary, multiclass) or squared error (regression); null when ``version`` is 0."""
    shadow_scores: dict[str, float] = {}
    class_name: str = ""
    """Multiclass: the class of the label."""
    cost: float | None = None
    """Cost of the prediction; null unless model.yaml declares costs."""
    source: str = ""
    """Digest of the label topic with its id, as `Prediction.source`; empty in records of older versions."""
    definition: str = ""
    """Digest of what ``label`` means: task, classes, field, type, bound; empty in older records."""
    correction: Int32 = 0
    """0: the first label of this prediction. Above: a later label with another value. Of the outcomes with
    one ``prediction_id`` and ``event_time_ms`` the one with the highest number counts."""
    corrected_label: float | None = None
    """The label that a correction replaces; null without a correction."""
    shadow_versions: dict[str, Int32] = {}
    """See `Prediction.shadow_versions`; empty in records of older versions."""


class Bins(msgspec.Struct, kw_only=True, frozen=True):
    """A distribution in a few bins, for display; the last bin holds the missing values.

    Numeric: one more bin than ``edges``, as in `FeatureReference`; the first and the last bin are outside the
    reference's range. Categorical: one bin for each of ``categories``, then one for all other known
    categories and one for new categories.
    """

    edges: list[float] | None = None
    categories: list[str] | None = None
    expected: list[float] = []
    """Shares of the reference, with its seasons weighted as in the window; all 0 if there was no reference to
    compare with."""
    counts: list[Int64] = []
    """Counts of the window."""
    psi: list[float] = []
    """The contribution of each bin to the population stability index."""


class Contribution(msgspec.Struct, kw_only=True, frozen=True):
    """One bin of one feature, in all rows or in a segment, and its contribution to the model's drift."""

    feature: str
    bin: str
    """``12 to 15``, ``below -3``, a category, ``(missing)``."""
    expected_share: float
    share: float
    psi: float
    """The contribution of the bin to the feature's population stability index."""
    importance: float | None
    """Importance of the feature; null if unknown."""
    weight: float
    """``psi`` times the feature's share of all importances, or an equal share if they are unknown; in a
    segment also times the segment's share of the rows."""
    segment: str = ""
    """``origin=EWR``: shares and index are of the segment's rows, compared with the segment in the reference;
    empty: all rows."""


class ValueStatistics(msgspec.Struct, kw_only=True, frozen=True):
    """The numbers of a feature, or the scores, to six digits."""

    mean: float
    deviation: float | None
    """Standard deviation of the sample; null for a single number."""
    quantiles: list[float] = []
    """At 0.05, 0.25, 0.5, 0.75 and 0.95, interpolated within the bins of the reference: each is off by at
    most the width of its bin. Empty without bins."""


class FeatureDrift(msgspec.Struct, kw_only=True, frozen=True):
    """How one feature of a window differs from the reference; effect and evidence are separate."""

    feature: str
    psi: float
    """The effect: population stability index over the bins of the reference."""
    statistic: float
    """Kolmogorov-Smirnov distance (numeric) or total variation (categorical), 0 to 1."""
    p_value: float
    """The evidence: p-value of all tests but that of new categories together (Bonferroni)."""
    threshold: float
    """The population stability index from which the distribution counts as drifted."""
    drifted: bool
    """The one verdict on this feature in this window; see ``drifted_in``."""
    missing_share: float
    new_categories: list[str] = []
    jensen_shannon: float = 0.0
    hellinger: float = 0.0
    wasserstein: float = 0.0
    """The unit is the feature's; 0 for categorical features."""
    out_of_range_share: float = 0.0
    """Share of values below or above all values of the reference."""
    cells_effective: float = 0.0
    """Effective number of bins, by entropy: 1 for a feature that always has the same value."""
    missing_p_value: float = 1.0
    """p-value of "no more values are missing than in the reference" (Fisher's test, exact for independent
    values)."""
    out_of_range_p_value: float = 1.0
    """p-value of "no more values are outside the reference's range than its size explains", also by Fisher's
    test."""
    cells_effective_reference: float = 0.0
    """``cells_effective`` of the reference."""
    cells_p_value: float = 1.0
    """p-value of "the effective number of bins is the same as in the reference"."""
    bins: Bins | None = None
    """The distributions that were compared."""
    importance: float | None = None
    """See `FeatureReference.importance`."""
    values: ValueStatistics | None = None
    """The numbers of the window; null for categories, without numbers, or if an older version counted."""
    reference_values: ValueStatistics | None = None
    """Those of the training set, all seasons together; null if the reference does not have their mean."""
    compared: bool = True
    """Whether the reference has values to compare with; it has none of a season that it does not contain.
    Then only missing values are tested, and the effect is 0."""
    drifted_in: list[str] = []
    """What drifted: ``distribution``, ``new categories``, ``missing``, ``out of range``, or ``rare``
    categories that became frequent; empty: nothing did."""


class ConfidenceDrift(msgspec.Struct, kw_only=True, frozen=True):
    """Confidence of a classifier, the probability of its predicted class, compared with the reference.

    That of a binary model is ``max(score, 1 - score)``. All figures follow from the bins of the scores.
    """

    mean: float
    reference_mean: float
    statistic: float
    """Kolmogorov-Smirnov distance, 0 to 1."""
    p_value: float
    low_share: float | None = None
    """Share of predictions with a confidence below 0.6; null in older records, as the next one."""
    reference_low_share: float | None = None


class PairDrift(msgspec.Struct, kw_only=True, frozen=True):
    """The relation between two features, by the rank correlation of their values."""

    first: str
    second: str
    correlation: float
    """Correlation in the window."""
    reference_correlation: float
    p_value: float
    """Upper bound of the p-value of "unchanged", for this pair alone."""
    drifted: bool
    """Whether the correlation differs by 0.1 or more, and significantly so, corrected for all pairs."""


class RelationDrift(msgspec.Struct, kw_only=True, frozen=True):
    """The relations between all pairs of features of a window, compared with the reference."""

    distance: float
    """The effect: root mean square of the differences of the correlations."""
    p_value: float
    """The evidence: upper bound of the p-value of "all pairs unchanged"."""
    pairs: list[PairDrift] = []
    """The pairs with the strongest evidence, at most ten."""


class SegmentDrift(msgspec.Struct, kw_only=True, frozen=True):
    """Counts of a window for the predictions with one value of a feature."""

    segment: str
    """``origin=EWR``."""
    predictions: Int64
    labels: Int64
    """Labels of the champion's predictions that became known within the window."""
    score_psi: float | None = None
    """Population stability index of the champion's scores in the segment, compared with all scores of the
    reference; null without scores."""
    loss: float | None = None
    """Realised mean loss over those labels, see `Outcome.loss`."""


class FeatureQuality(msgspec.Struct, kw_only=True, frozen=True):
    """How many values of a feature violate the declared bounds; each value counts once."""

    feature: str
    values: Int64
    """0 if the declared name is not a feature."""
    nulls: Int64 = 0
    wrong_type: Int64 = 0
    below: Int64 = 0
    above: Int64 = 0
    not_allowed: Int64 = 0
    null_share_max: float | None = None
    """The declared bound; null: none."""
    invalid_share_max: float = 0.0
    """Maximum share of values that are neither null nor as declared."""
    broken: bool = False
    """Whether a share exceeds its maximum."""


class MeasureFigures(msgspec.Struct, kw_only=True, frozen=True):
    """Exact sums of one measure, each rounded once: mean and variance follow, and tests over many windows."""

    measure: str
    """See `services.monitoring.model_metrics`."""
    labels: Int64
    total: float
    """Sum of the values."""
    squares: float | None
    """Sum of the squares of the values; null if an older version has counted some of them."""


class LossSums(msgspec.Struct, kw_only=True, frozen=True):
    """Sums of a loss over the labels of a window, and over the blocks of equal time that divide the window.

    `services.monitoring.arm_comparison` adds those of several windows.
    """

    labels: Int64
    total: float
    """Sum of the values."""
    squares: float
    """Sum of the squares of the values."""
    block_labels: list[Int64]
    """Labels by block."""
    block_totals: list[float]
    """Sum of the values by block."""


class LossDifference(msgspec.Struct, kw_only=True, frozen=True):
    """By how much the mean loss of an arm is above the champion's; below 0 the arm is better."""

    champion: Int64
    """The champion's version."""
    is_paired: bool
    """Whether both have answered the same requests, as a shadow does; else the requests are others."""
    labels: Int64
    champion_labels: Int64
    """Equal to ``labels`` if the difference is paired."""
    mean: float
    standard_error: float | None = None
    """Standard error of the mean, which allows for losses that are alike within a block of time; null with
    labels in fewer than two blocks."""
    low: float | None = None
    """Lower end of the 95 % confidence interval at this one time, by Student's distribution."""
    high: float | None = None
    """Upper end of that interval."""
    running_labels: Int64 = 0
    """Labels of the arm in the running figures, which begin with its first window with the champion."""
    running: float | None = None
    """Mean difference over these windows, with losses clipped at 4 and errors at their scale."""
    running_low: float | None = None
    """Lower end of a confidence sequence: it holds at all times together with 95 %."""
    running_high: float | None = None
    """Upper end of that sequence."""


class CallTimes(msgspec.Struct, kw_only=True, frozen=True):
    """How long the calls of a model took, by the rows that waited for them. Counts of windows add up."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    counts: dict[str, Int64]
    """Rows by upper limit of the time in microseconds, as text; limits are 19 % apart."""


class ArmFigures(msgspec.Struct, kw_only=True, frozen=True):
    """What one version did in one arm within a window."""

    arm: str
    """Empty in the entry that holds all arms after the first 64."""
    version: Int64
    """0 if it is unknown: of a shadow, or of requests not answered, in predictions of older versions of
    Driftline."""
    shadow: bool = False
    is_champion: bool = False
    """Whether it counts as the champion of this window."""
    predictions: Int64 = 0
    """Predictions of a shadow: those that have its score."""
    labels: Int64 = 0
    """Labels of these predictions that became known within the window."""
    measures: list[MeasureFigures] = []
    """The measures of those labels whose prediction has a score."""
    failed: Int64 = 0
    """Requests of this arm that its version did not answer: the champion has answered those of a challenger,
    and those of a shadow lack its score."""
    call_times: CallTimes | None = None
    """Null without predictions, and in reports of older versions."""
    losses: LossSums | None = None
    """Sums of the loss; of a shadow, of its difference from the loss of the champion ``DriftReport.version``
    for the same requests. Null without labels, and in reports of older versions."""
    difference: LossDifference | None = None
    """The comparison of this window with its champion; null for the champion itself."""


class DriftReport(msgspec.Struct, kw_only=True, frozen=True, tag="drift_report"):
    """The comparison of one closed window of event time with the reference.

    ``report_id`` is the same after a replay. Late records within the declared lateness change a closed
    window: it is reported again with the same id and a higher ``revision``; the highest one counts.
    """

    report_id: str
    model: str
    version: Int64
    """The champion version whose reference the window was compared with."""
    window_start_ms: TimeMs
    window_end_ms: TimeMs
    predictions: Int64
    labels: Int64
    """Labels of the champion's predictions that became known within the window, whatever the time of the
    request. Those of other arms are in ``arms``."""
    features: list[FeatureDrift] = []
    """Empty without a reference or predictions, see ``has_reference``."""
    score_psi: float | None = None
    """Population stability index of the champion's scores; null without a reference or predictions."""
    log_loss: float | None = None
    """Realised log loss over the labels of this window; null without labels or scores."""
    accuracy: float | None = None
    reference_log_loss: float | None = None
    """Log loss of the champion on the window held out in its training."""
    shadow_log_loss: dict[str, float] = {}
    measures: dict[str, float] = {}
    """Realised measures over the labels of this report; see `services.monitoring.model_metrics`."""
    shadow_losses: dict[str, float] = {}
    """Mean log loss or absolute error (regression) of each shadow, by arm name."""
    labels_joined_total: Int64 = 0
    """Running totals since the first event, exact after a restart."""
    labels_orphaned_total: Int64 = 0
    """Labels without a prediction."""
    labels_duplicate_total: Int64 = 0
    """Further labels of a prediction that changed nothing: of the same value, or dated before the one that
    counts."""
    labels_corrected_total: Int64 = 0
    """Further labels that replaced the value of the label."""
    predictions_asked_again_total: Int64 = 0
    """Predictions whose id was asked before, within the label horizon: labels belong to the first one."""
    predictions_unlabelled_total: Int64 = 0
    """Predictions whose label horizon has passed."""
    score_bins: Bins | None = None
    """Distribution of the champion's scores."""
    score: FeatureDrift | None = None
    """Drift of the champion's scores, measured like that of a feature: prediction drift."""
    prediction: FeatureDrift | None = None
    """Drift of the champion's predicted classes, measured like that of a feature; multiclass only."""
    has_reference: bool | None = None
    """Whether the champion has a reference: without one, features, scores, relations and segments are not
    compared. Null without a model, and in reports of older versions."""
    confidence: ConfidenceDrift | None = None
    """Drift of the champion's confidence; null for a regression."""
    relations: RelationDrift | None = None
    """Null without predictions, or if the reference holds no correlations."""
    quality: list[FeatureQuality] = []
    """Violations of the declared bounds, for each feature that has some."""
    contributions: list[Contribution] = []
    """The bins of all features that contribute most to the drift, at most 20, largest weight first."""
    alarms_standing: list[str] | None = None
    """Ids of the alarms that were open when the window was closed; null in reports of older versions."""
    revision: Int64 = 0
    segments: list[SegmentDrift] = []
    """The segments that have predictions or labels in this window, sorted by name."""
    arms: list[ArmFigures] = []
    """All arms that have predictions or labels in this window, by name and version."""
    fallbacks: dict[str, Int64] = {}
    """Requests of each arm that the champion answered, because that arm's version could not."""
    sample: float = 1.0
    """Share of the predictions, with their labels, that drift reads: all counts are of this sample."""


class Figure(msgspec.Struct, kw_only=True, frozen=True):
    """One measure of a cohort of predictions, or of the part of it in a segment."""

    measure: str
    """See `services.monitoring.model_metrics`. Besides, ``precision``, ``recall``, ``f1``, ``auc`` (binary),
    ``macro_precision``, ``macro_recall``, ``macro_f1`` (multiclass), all without running values, and ``rmse``
    (regression)."""
    realised: float | None = None
    """Mean over the labels that have arrived."""
    low: float | None = None
    """Lower end of the 95 % confidence interval at this one time, by the central limit theorem."""
    high: float | None = None
    """Upper end of that interval."""
    estimated: float | None = None
    """Expectation from the scores alone, before the labels, as of the end of the window."""
    gap: float | None = None
    """Realised minus estimated."""
    running: float | None = None
    """Mean over mature cohorts since the promotion, with losses clipped at 4 and errors at their scale."""
    running_low: float | None = None
    """Lower end of an empirical-Bernstein confidence sequence: it holds at all times together with 95 %."""
    running_high: float | None = None
    """Upper end of that sequence."""


class SegmentPerformance(msgspec.Struct, kw_only=True, frozen=True):
    """Performance of the predictions of one segment."""

    segment: str
    """``origin=EWR``; empty: all predictions."""
    predictions: Int64
    labels: Int64
    running_labels: Int64 = 0
    """Number of labels in the running figures."""
    figures: list[Figure] = []
    positives: list[Int64] = []
    """Binary: labels of 1 by score, one more entry than ``PerformanceReport.thresholds``; entry i counts the
    scores from threshold i - 1 up to below threshold i. Counts of several windows can be added. Empty if an
    older version has counted some of the labels."""
    negatives: list[Int64] = []
    """Labels of 0, likewise."""
    confusion: list[list[Int64]] = []
    """Multiclass: labels by label (rows) and predicted class (columns), in the order of
    ``PerformanceReport.classes``; empty for more than 64 classes, in a segment for more than 10."""


class CostAccount(msgspec.Struct, kw_only=True, frozen=True):
    """What the champion's labelled predictions cost, in ``PerformanceReport.unit``; below 0: a gain.

    Cumulative figures are of all mature windows and all champions since counting began, as of the report.
    """

    total: float
    """Sum over the labels of this window, see ``PerformanceReport.labels``."""
    reference: float | None
    """Mean cost of a prediction on the data held out in the champion's training; null if it is unknown."""
    before: float | None
    """Mean cost of a prediction of the previous champion, over its mature windows: about other requests."""
    cumulative_labels: Int64
    cumulative: float
    compared_labels: Int64
    """Labels among them whose champion has a reference with a cost."""
    saved: float | None
    """Over the compared labels: the cost to be expected by ``reference`` minus the realised cost."""


class PerformanceReport(msgspec.Struct, kw_only=True, frozen=True, tag="performance_report"):
    """Performance of the champion's predictions of one window of event time, whenever their labels arrive.

    Reported when the window ends, again when its labels are mature, and once more when the label horizon has
    passed, if labels arrived after the second report. For a window and version the highest revision counts.
    """

    report_id: str
    """The same after a replay and for all revisions."""
    model: str
    version: Int64
    window_start_ms: TimeMs
    """Event time of the predictions."""
    window_end_ms: TimeMs
    as_of_ms: TimeMs
    """Event time: labels that became known before it are included."""
    revision: Int64
    state: Literal["provisional", "mature", "complete"]
    """Early labels are not representative: a provisional figure is probably too good or too bad."""
    predictions: Int64
    labels: Int64
    maturity: float | None
    """Share of the expected labels that have arrived, from the delays of earlier labels; null if unknown."""
    segments: list[SegmentPerformance]
    """The entry for all predictions is first."""
    judged: str = ""
    """The measure that decides whether the model has become worse."""
    estimate_error: float | None = None
    """Recent error of the estimates of that measure: the largest gap of a block of windows."""
    unit: str = ""
    """Unit of the cost."""
    corrections: Int64 = 0
    """How often a label among ``labels`` was replaced by a later one; its last value is counted."""
    estimate_outside: float | None = None
    """Share of the scores outside those with known results: their estimates may be far off."""
    threshold: float | None = None
    """Binary: the declared threshold, for which precision, recall and F1 are among the figures."""
    thresholds: list[float] = []
    """Binary: the thresholds between which labels are counted, rising; the declared one is among them."""
    cost: CostAccount | None = None
    """Null unless model.yaml declares costs."""
    classes: list[str] = []
    """Multiclass: the declared classes, if labels are counted by class."""
    sample: float = 1.0
    """Share of the predictions, with their labels, that drift reads: all counts are of this sample."""


class DriftAlarm(msgspec.Struct, kw_only=True, frozen=True, tag="drift_alarm"):
    """A change was detected. ``alarm_id`` is the same after a replay."""

    alarm_id: str
    model: str
    version: Int64
    kind: Literal["feature", "category", "relation", "quality", "score", "loss"]
    subject: str
    """The name of a feature, the names of two features, ``score``, ``prediction`` (the predicted classes of a
    multiclass model), or the name of a loss."""
    value: float
    threshold: float
    detected_at_ms: TimeMs
    """Event time."""
    since_ms: TimeMs
    """Estimated event time at which the change began."""
    message: str
    detector: str = "window"
    """The detector: ``e-detector``, ``window``, ``adwin`` or another one of river."""
    since_from_ms: TimeMs | None = None
    """Start of the interval in which the change probably began; null if the detector gives none."""
    since_to_ms: TimeMs | None = None
    """End of that interval."""
    effect: float | None = None
    """Mean rank of recent values in the reference, 0 to 1; 0.5 means no change."""
    segment: str = ""
    """``origin=EWR``: only predictions with this value; empty: all."""
    contributions: list[Contribution] = []
    """The bins of a feature that contribute most to its change in the window so far, at most three."""


class RetrainingRequested(msgspec.Struct, kw_only=True, frozen=True, tag="retraining_requested"):
    """A request for a new model version, with the evidence. ``request_id`` is the same after a replay."""

    request_id: str
    model: str
    trigger: Trigger
    requested_at_ms: TimeMs
    """Event time: the training set holds what was known at this time, and nothing later."""
    reason: str
    evidence: list[DriftAlarm] = []
    offsets: dict[str, list[Int64]] = {}
    """The next offset of each partition at the time of the request, by topic. The training waits until the
    archive holds all records before these offsets."""
    since_ms: TimeMs | None = None
    """Estimated event time at which the change began."""
    train_from_ms: TimeMs | None = None
    """Start of the training set, by event time of the predictions: the time of the change, if enough labels
    have arrived since; null: train on everything. Used if model.yaml declares
    ``retraining.window: since_change``."""
    train_to_ms: TimeMs | None = None
    """End of the training set; null: no end."""
    basis: Literal["labels", "estimate"] = "labels"
    """What rose: the loss by labels, or an estimate of the loss that has recently been accurate."""
    contributions: list[Contribution] = []
    """Those of the last window, see `DriftReport.contributions`."""


class RetrainingFinished(msgspec.Struct, kw_only=True, frozen=True, tag="retraining_finished"):
    """The result of a retraining: exactly one for each request id (repeats are equal)."""

    request_id: str
    model: str
    trigger: Trigger
    requested_at_ms: TimeMs
    result: Literal["promoted", "rejected", "failed"]
    """``rejected``: the candidate did not pass a gate; ``failed``: an error."""
    version: Int64
    """The version of the candidate; 0 if none was registered."""
    reasons: list[str] = []
    """Why it was rejected or failed; empty if it was promoted."""
    metrics: dict[str, float] = {}
    rows: Int64 = 0
    run_id: str = ""
    duration_seconds: float = 0.0


class IndicatorReference(msgspec.Struct, kw_only=True, frozen=True):
    """Values of one kind in the training set, see `services.monitoring.value_kinds`."""

    rows: Int64
    """Number of these values, or of those that a part of the training set had and its other parts had not."""
    design_effect: float
    """Design effect of the indicator "the value is of this kind", see `FeatureReference.design_effect`."""


class FeatureReference(msgspec.Struct, kw_only=True, frozen=True):
    """The distribution of one feature (or of the score) in the training set, in fixed bins.

    Numeric: ``edges`` are inner quantile edges, strictly increasing; bin i holds
    ``edges[i-1] <= x < edges[i]`` and ``counts`` has ``len(edges) + 1`` entries; the first and the last
    bin are empty if the outermost edges are the range.
    Categorical: ``categories`` are sorted by name; ``counts`` has one entry for each.
    """

    feature: str
    counts: list[Int64]
    missing: Int64
    edges: list[float] | None = None
    categories: list[str] | None = None
    season: list[Literal["hour", "weekday", "month"]] = []
    """Parts of the event time with which the distribution of this feature is known to change."""
    seasons: dict[str, list[Int64]] = {}
    """Counts by season (see `services.monitoring.seasons`), the missing values last."""
    segments: dict[str, list[Int64]] = {}
    """Counts by declared segment (``origin=EWR``), the missing values last. Empty for the feature whose
    values are the segments, and for features with a season, which change with it in each segment, too."""
    design_effect: float = 1.0
    """Variance of the mean over a block of time, divided by that of independent values."""
    indicators: dict[str, IndicatorReference] = {}
    """By kind: ``missing``, and ``below`` and ``above`` the range, or ``new`` and ``rare`` categories. Empty
    in references of older versions."""
    mean: float | None = None
    """Mean of the numbers; null for categories and in references of older versions."""
    deviation: float | None = None
    """Standard deviation of the numbers; null as ``mean``, and for a single number."""
    importance: float | None = None
    """Permutation importance: by how much the loss on the held-out window rises when this feature is
    shuffled among its rows; null if it was not measured."""


class PairReference(msgspec.Struct, kw_only=True, frozen=True):
    """Correlations of features in the training set: sums of rank scores (`monitoring.rank_correlation`).

    Products and their squares are those of the upper triangle of all pairs with the diagonal, row by row.
    """

    rows: Int64
    sums: list[int]
    products: list[int]
    squares: list[int]
    design_effects: list[float] = []
    """Design effects of the products, of the pairs without the diagonal. Empty in references of older
    versions."""


class Reference(msgspec.Struct, kw_only=True, frozen=True):
    """Known rows of a version in numbers, with which drift compares later windows.

    They are of its training set, of the file given at its registration, or of the first labels of a model
    that learns online.
    """

    version: Int64
    """Of a model that learns online: the first version that is compared with it."""
    features: list[FeatureReference]
    score: FeatureReference | None
    log_loss: float | None
    """Log loss on the window held out in training, or on the known rows; null without labels, and for a
    regression."""
    loss_design_effect: float = 1.0
    """Design effect of the losses on that window, see `FeatureReference.design_effect`."""
    pairs: PairReference | None = None
    """Correlations of the first 64 features."""
    measures: dict[str, float] = {}
    """All measures on that window; see `services.monitoring.model_metrics`."""
    measure_errors: dict[str, float] = {}
    """Standard errors of those means, with the design effect of each measure; empty in references of older
    versions, whose means count as exact."""
    score_sums: dict[str, list[float]] = {}
    """Results of that window by bin of the score: ``labels``, ``positives``, and the sum of each measure."""
    error_max: float | None = None
    """Regression: the 99th percentile of the errors, at which intervals and detectors clip them."""
    prediction: FeatureReference | None = None
    """Multiclass: the predicted classes; null for other tasks and in references of older versions."""


class Arm(msgspec.Struct, kw_only=True, frozen=True):
    """One model version that scores."""

    name: str
    version: Int64
    weight: Int64
    """Share of the keys in 1/10,000; 0 for a shadow."""
    effective_from_ms: TimeMs = 0
    """The arm scores requests with this event time or a later one; 0: all requests."""
    shadow: bool = False
    """Whether its scores are only recorded, never used as predictions."""
    segment: dict[str, list[FeatureValue]] = {}
    """Only requests in which each of these fields has one of its values; ``weight`` is a share of these."""
    buckets: list[tuple[Int64, Int64]] = []
    """Ranges ``[start, stop)`` of the 10,000 buckets of keys that the arm scores; empty: ranges follow from
    the weights, with the champion after the others. See `services.model_registry.traffic_split`."""


class LearnedSpan(msgspec.Struct, kw_only=True, frozen=True):
    """The intervals of an online-learning model whose versions have been added to the arms."""

    from_ms: TimeMs
    """Event time: start of the first interval, from which versions are numbered."""
    until_ms: TimeMs
    """Event time: end of the last interval whose version is or was among the arms."""


class ReferenceName(msgspec.Struct, kw_only=True, frozen=True):
    """A reference that is too large for a change, in the topic ``driftline.references``."""

    version: Int32
    sha256: str
    """Digest of what the topic holds, see `services.model_registry.large_references`."""


class ModelChanged(msgspec.Struct, kw_only=True, frozen=True, tag="model_changed"):
    """All arms of a model: which versions score, from which event time on. The latest record is complete.

    Among the arms with the same name and segment, the one with the latest ``effective_from_ms`` that is not
    above the request's event time is used: the previous champion stays listed until the new one takes over.
    """

    model: str
    arms: list[Arm]
    changed_at_ms: TimeMs
    """Event time."""
    reason: str
    request_id: str = ""
    reference: Reference | None = None
    """The reference of the champion, with which drift compares."""
    learned: LearnedSpan | None = None
    """Online-learning models only; a change of the arms by other writers must keep it."""
    reference_name: ReferenceName | None = None
    """Set in place of ``reference`` if that is too large for this record."""


class FeatureSet(msgspec.Struct, kw_only=True, frozen=True, tag="feature_set"):
    """The names of the features that a model is served, to which predictions refer by their digest.

    Scoring writes it before the first prediction that refers to it. It never changes.
    """

    model: str
    digest: str
    """Digest of names, types and definitions in this order, see `streams.feature_sets`."""
    names: list[str]
    """The names, in the order of the values in predictions."""
    text: list[str] = []
    """Those of the names that hold text; the others hold numbers."""
    definitions: dict[str, str] = {}
    """Digest of the definition by name, of the features of a feature view. Older records have none."""


class LearnedModel(msgspec.Struct, kw_only=True, frozen=True):
    """The state of an online-learning model at the end of an interval. Equal after a replay."""

    model: str
    version: Int64
    """The number of the interval; 1 is the first interval with a record."""
    interval_end_ms: TimeMs
    """Event time: the model has learned all labels that were known before this time."""
    labels: Int64
    """Number of labels learned since the first interval."""
    estimator: bytes
    """See `services.model_registry.river_format`."""


class DeadLetter(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A record that could not be processed: the complete record, and the reason.

    Where the complete record does not fit into the dead-letter topic, it is cut: see ``cut_from_bytes``.
    """

    service: str
    reason: str
    topic: str
    partition: Int64
    offset: Int64
    key: bytes | None
    value: bytes | None
    failed_time_ms: TimeMs
    """Wall time."""
    headers: list[tuple[str, bytes | None]] = []
    kind: Literal["invalid", "defect"] = "invalid"
    """``invalid``: the record does not fit its declaration. ``defect``: its processing ended with an
    unexpected error, whose place the reason names."""
    cut_from_bytes: Int64 | None = None
    """Size of key, value and headers of the complete record, if the letter holds only the start of it. The
    complete record is in its topic, as long as the retention there keeps it."""


class ReplayMark(msgspec.Struct, kw_only=True, frozen=True):
    """The state of a replay of dead letters to one partition: ``begun``, then ``arrived`` or ``lost``.

    It is a header of a record without a value in the dead-letter topic, so readers of the letters skip it.
    """

    state: Literal["begun", "arrived", "lost"]
    topic: str
    partition: Int64
    offsets: list[Int64]
    """Offsets of the failed records, in the topic and partition to which they are written again."""
    begun_ms: TimeMs
    """Wall time."""
    end_offset: Int64
    """The end of that partition before the replay: all replayed records are at this offset or later."""


class FeatureRow(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """One row as it was written to the online store: an entry of the feature log."""

    view: str
    entity: list[str | Int64]
    """The values of the view's join keys, in their order."""
    event_time_ms: TimeMs
    values: list[FeatureValue]
    """The values of the view's features, in their order."""


Severity = Literal["info", "warning", "critical"]


class Alert(msgspec.Struct, kw_only=True, frozen=True):
    """A notification about one alarm, retraining or change of models."""

    alert_id: str
    """The id of the alarm, or an id derived from the retraining request; the same after a replay."""
    model: str
    kind: str
    """The kind of the alarm, or ``retraining``, or ``rollout``."""
    severity: Severity
    title: str
    subject: str = ""
    segment: str = ""
    at_ms: TimeMs
    """Event time."""
    since_ms: TimeMs | None = None
    since_from_ms: TimeMs | None = None
    since_to_ms: TimeMs | None = None
    effect: str = ""
    """The size of the effect, in words."""
    stands: bool = False
    """Whether the alert stays open until it is resolved, as alarms do."""
    recorded_ms: TimeMs = 0
    """Wall time of the record from which the alert was made."""


class Notified(msgspec.Struct, kw_only=True, frozen=True, tag="notified"):
    """The state of an alert at one destination; the latest record of a key counts."""

    destination: str
    alert: Alert
    state: Literal["told", "given_up", "resolved"]
    """``told``: delivered; ``given_up``: all attempts failed; ``resolved``: closed, no more messages."""
    told_ms: TimeMs
    """Wall time of the last attempt."""
    times: Int64 = 1


class Silence(msgspec.Struct, kw_only=True, frozen=True, tag="silence"):
    """Alerts that match are not sent until ``until_ms``; an empty field matches all values."""

    silence_id: str
    until_ms: TimeMs
    """Wall time."""
    created_ms: TimeMs
    reason: str
    model: str = ""
    kind: str = ""
    subject: str = ""
    segment: str = ""


ModelsRecord = ModelChanged | FeatureSet
DriftRecord = DriftReport | DriftAlarm | PerformanceReport
AlertRecord = Notified | Silence
RetrainingRecord = RetrainingRequested | RetrainingFinished

_ENCODER = msgspec.json.Encoder()


def encode(record: msgspec.Struct) -> bytes:
    """Encode any record as JSON."""
    return _ENCODER.encode(record)


def decoder_of(kind: Any) -> JsonDecoder[Any]:
    """Make a reusable strict decoder for a record type or a union of tagged ones."""
    return JsonDecoder(kind)

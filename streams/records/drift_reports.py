"""The report of one window: drift of features, scores, segments and relations, and their quality."""

import msgspec

from streams.records.arm_figures import ArmFigures
from streams.records.field_types import Int64, TimeMs


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
    """Quantiles at 0.05, 0.25, 0.5, 0.75 and 0.95, interpolated within the bins of the reference: each is
    off by at most the width of its bin. Empty without bins."""


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
    """The numbers of the training set, all seasons together; null if the reference does not have their
    mean."""
    compared: bool = True
    """Whether the reference has values of the window's seasons to compare with. If not, only missing values
    are tested, and the effect is 0."""
    drifted_in: list[str] = []
    """What drifted: ``distribution``, ``new categories``, ``missing``, ``out of range``, or ``rare``
    categories that became frequent; empty: nothing did."""


class ConfidenceDrift(msgspec.Struct, kw_only=True, frozen=True):
    """Confidence of a classifier, the probability of its predicted class, compared with the reference.

    The confidence of a binary model is ``max(score, 1 - score)``. All figures follow from the bins of the
    scores.
    """

    mean: float
    reference_mean: float
    statistic: float
    """Kolmogorov-Smirnov distance, 0 to 1."""
    p_value: float
    low_share: float | None = None
    """Share of predictions with a confidence below 0.6; this field and the next are null in older records."""
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
    """Realised mean loss over these labels, see `Outcome.loss`."""


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
    request. Labels of other arms' predictions are in ``arms``."""
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
    """Further labels of a prediction that changed nothing: with the same value, or dated before the label
    that counts."""
    labels_corrected_total: Int64 = 0
    """Further labels that replaced the value of an earlier label."""
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
    reference_loss: float | None = None
    """Mean loss of the champion in its reference: log loss, or absolute error of a regression. Null without a
    reference or its labels, and in reports of older versions."""
    reference_loss_error: float = 0.0
    """Upper end of the 95 % interval of ``reference_loss`` minus ``reference_loss``: the limit of the loss is
    above it by at least this."""

"""Predictions, their labels, and the outcomes that join both."""

import msgspec

from streams.records.field_types import FeatureValue, Int32, Int64, TimeMs


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
    """How far the slowest feature view's watermark was below ``event_time_ms``; 0 if it was not below."""
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
    """Values as ``call_us`` for the shadow arms that have scores, by arm name."""


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

    Repeats are recognised as for `Prediction`, by the offset of the label.
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


class FeatureRow(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """One row as it was written to the online store: an entry of the feature log."""

    view: str
    entity: list[str | Int64]
    """The values of the view's join keys, in their order."""
    event_time_ms: TimeMs
    values: list[FeatureValue]
    """The values of the view's features, in their order."""

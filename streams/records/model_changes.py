"""The arms of a model, its learned versions, and the names of its features."""

import msgspec

from streams.records.field_types import FeatureValue, Int32, Int64, TimeMs
from streams.records.references import Reference


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


HELD_MS = 253_402_300_799_999
"""The last event time: no learned version becomes the champion until an operator releases the model."""


class LearnedSpan(msgspec.Struct, kw_only=True, frozen=True):
    """The intervals of an online-learning model whose versions have been added to the arms."""

    from_ms: TimeMs
    """Event time: start of the first interval, from which versions are numbered."""
    until_ms: TimeMs
    """Event time: end of the last interval whose version is or was among the arms."""
    not_before_ms: TimeMs = 0
    """Event time before which no further version becomes the champion. After an operator's rollback it is
    `HELD_MS`, after the release that of the release."""


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
    """Names of the features that hold text; all other features hold numbers."""
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

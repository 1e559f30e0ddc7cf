"""Segments that are monitored separately: the most frequent values of the declared features."""

from collections.abc import Sequence
from typing import NamedTuple

from services.runtime.declaration import Monitoring
from streams.feature_sets import Alignment, FeatureSets
from streams.records import FeatureReference, FeatureValue, Reference

SEGMENTS_MAX = 20
"""Maximum segments of a model, shared equally by the declared features."""


class Segment(NamedTuple):
    """The predictions with one value of a categorical feature."""

    feature: int
    """Index among the features of the reference."""
    value: str
    bin: int
    """Index of the value among the bins of the feature."""


def segments_of(references: Sequence[FeatureReference], declared: Sequence[str]) -> dict[str, Segment]:
    """Return the most frequent values of the declared categorical features, by name: ``origin=EWR``."""
    segments = {}
    for number, each in enumerate(references):
        if each.feature in declared and each.categories is not None:
            names = each.categories
            by_count = sorted(range(len(names)), key=lambda index: (-each.counts[index], names[index]))
            for index in by_count[: SEGMENTS_MAX // len(declared)]:
                segments[f"{each.feature}={names[index]}"] = Segment(number, names[index], index)
    return segments


class SegmentMatcher:
    """Finds the segments that a row belongs to."""

    def __init__(
        self, reference: Reference | None, monitoring: Monitoring, feature_sets: FeatureSets | None = None
    ) -> None:
        """Read the most frequent values from the reference; without a reference there are no segments.

        Args:
            reference: The champion's.
            monitoring: The declared monitoring.
            feature_sets: The names of the rows' features; without them rows must hold the reference's.
        """
        features = reference.features if reference else []
        self._alignment = Alignment(feature_sets or FeatureSets(), [each.feature for each in features])
        names: dict[int, dict[str, str]] = {}
        for name, segment in segments_of(features, monitoring.segments).items():
            names.setdefault(segment.feature, {})[segment.value] = name
        self._names = list(names.items())

    def match(self, features: Sequence[FeatureValue], digest: str = "") -> list[str]:
        """Return the names of a row's segments; none if the names of its features are not known.

        Args:
            features: The values of the row.
            digest: Digest of their names, see `streams.feature_sets`.
        """
        row = self._alignment.row(digest, features) if self._names else None
        if row is None:
            return []
        return [found for number, names in self._names if (found := names.get(str(row[number]))) is not None]

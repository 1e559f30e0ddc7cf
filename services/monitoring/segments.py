"""The segments that are watched apart: the most frequent values of the declared features."""

from collections.abc import Sequence
from typing import NamedTuple

from services.runtime.declaration import Monitoring
from streams.records import FeatureReference, FeatureValue, Reference

SEGMENTS_MAX = 20
"""Values watched apart, the most frequent ones of each declared feature."""


class Segment(NamedTuple):
    """The predictions with one value of a feature."""

    feature: int
    value: str
    cell: int


def segments_of(references: Sequence[FeatureReference], declared: Sequence[str]) -> dict[str, Segment]:
    """Return the most frequent values of the declared features of categories, by name: ``origin=EWR``."""
    found = {}
    for number, each in enumerate(references):
        if each.feature in declared and each.categories is not None:
            names = each.categories
            by_count = sorted(range(len(names)), key=lambda cell: (-each.counts[cell], names[cell]))
            for cell in by_count[: SEGMENTS_MAX // len(declared)]:
                found[f"{each.feature}={names[cell]}"] = Segment(number, names[cell], cell)
    return found


class SegmentMatcher:
    """Tells to which segments a row belongs."""

    def __init__(self, reference: Reference | None, monitoring: Monitoring) -> None:
        """Take the reference that knows how frequent values are; without one there are no segments."""
        features = reference.features if reference else []
        self._width = len(features)
        names: dict[int, dict[str, str]] = {}
        for name, segment in segments_of(features, monitoring.segments).items():
            names.setdefault(segment.feature, {})[segment.value] = name
        self._names = list(names.items())

    def of(self, features: Sequence[FeatureValue]) -> list[str]:
        """Return the segments of a row, none if it has other features than the reference."""
        if not self._names or len(features) != self._width:
            return []
        return [
            found for number, names in self._names if (found := names.get(str(features[number]))) is not None
        ]

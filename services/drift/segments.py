"""The segments that are watched apart: the most frequent values of the declared features."""

from collections.abc import Sequence

from services.model import Monitoring
from streams.records import FeatureReference, FeatureValue, Reference

SEGMENTS_MAX = 20
"""Values watched apart, the most frequent ones of each declared feature."""


class Segments:
    """Tells to which segments a row belongs."""

    def __init__(self, reference: Reference | None, monitoring: Monitoring) -> None:
        """Take the reference that knows how frequent values are; without one there are no segments."""
        features = reference.features if reference else []
        self._width = len(features)
        self._names = [
            (number, {value: f"{each.feature}={value}" for value, _ in values})
            for number, each in enumerate(features)
            if (values := most_frequent(each, monitoring.segments))
        ]

    def of(self, features: Sequence[FeatureValue]) -> list[str]:
        """Return the segments of a row, none if it has other features than the reference."""
        if not self._names or len(features) != self._width:
            return []
        return [
            found for number, names in self._names if (found := names.get(str(features[number]))) is not None
        ]


def most_frequent(reference: FeatureReference, declared: Sequence[str]) -> list[tuple[str, int]]:
    """Return the most frequent values of a declared feature of categories, each with its cell."""
    if reference.feature not in declared or reference.categories is None:
        return []
    names = reference.categories
    found = sorted(range(len(names)), key=lambda cell: (-reference.counts[cell], names[cell]))
    return [(names[cell], cell) for cell in found[: SEGMENTS_MAX // len(declared)]]

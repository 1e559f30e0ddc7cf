"""Counts of the features within segments that the reference describes, in the reference's bins. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from services.drift.binning.bin_counts import BinCounts
from services.drift.binning.bin_search import BinIndices
from services.drift.binning.statistics import Counts
from streams.records import FeatureReference


class SegmentFeature(NamedTuple):
    """One feature within a segment, with the reference's counts of the same segment."""

    segment: str
    """Empty for all rows."""
    counted: BinCounts
    reference: Counts


class SegmentCounts:
    """Counts by segment; those of all features are one array, so one pass per segment counts them all."""

    def __init__(
        self,
        references: Sequence[FeatureReference],
        features: Sequence[BinCounts],
        segments: Mapping[str, Sequence[int]],
    ) -> None:
        """Start empty, or from the counts of a snapshot.

        Args:
            references: The references of the features.
            features: The bins of the features, in the same order.
            segments: The monitored segments by name, with the counts of a snapshot or none.
        """
        described = [number for number, each in enumerate(references) if each.segments]
        self._numbers = np.array(described, dtype=np.intp)
        self._references = [references[number] for number in described]
        self._features = [features[number] for number in described]
        self._offsets = np.cumsum([0, *(len(each.counts) for each in self._features)], dtype=np.intp)
        self.counts: dict[str, Counts] = {}
        """Counts by segment; segments that the reference does not describe are left out."""
        for name, stored in segments.items():
            if any(name in each.segments for each in self._references):
                self.counts[name] = np.array(stored or [0] * int(self._offsets[-1]), dtype=np.int64)

    def add(self, name: str, bins: BinIndices) -> None:
        """Count rows of one segment, by their bins ``(n_rows, n_features)``."""
        if (counts := self.counts.get(name)) is not None:
            positions = bins[:, self._numbers] + self._offsets[:-1]
            counts += np.bincount(positions.ravel(), minlength=len(counts))

    def features(self, segment: str) -> Iterator[SegmentFeature]:
        """Yield the features that the reference describes within a segment; none without rows."""
        counts = self.counts.get(segment)
        if counts is None or not counts.any():
            return
        for number, (reference, feature) in enumerate(zip(self._references, self._features, strict=True)):
            known = reference.segments.get(segment)
            if known is not None:
                counted = feature.with_counts(counts[self._offsets[number] : self._offsets[number + 1]])
                expected = np.array(feature.binner.with_unseen(known), dtype=np.int64)
                yield SegmentFeature(segment, counted, expected)

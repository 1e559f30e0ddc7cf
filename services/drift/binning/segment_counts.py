"""Counts of the features within those segments that the reference tells apart, in its cells. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from services.drift.binning.bin_counts import BinCounts
from services.drift.binning.bin_search import BinIndices
from services.drift.binning.statistics import Counts
from streams.records import FeatureReference


class SegmentFeature(NamedTuple):
    """One feature in a segment, beside the reference's rows of the same segment."""

    segment: str
    """Empty: all rows."""
    cells: BinCounts
    reference: Counts


class SegmentCounts:
    """Counts by segment, those of all features in one row: one pass a segment counts them all."""

    def __init__(
        self,
        references: Sequence[FeatureReference],
        features: Sequence[BinCounts],
        segments: Mapping[str, Sequence[int]],
    ) -> None:
        """Take the segments that are watched, with what was counted of each, if anything.

        Args:
            references: Of the features.
            features: Their cells, in the same order.
            segments: By name, the counts of a snapshot or none.
        """
        told = [number for number, each in enumerate(references) if each.segments]
        self._numbers = np.array(told, dtype=np.intp)
        self._references = [references[number] for number in told]
        self._features = [features[number] for number in told]
        self._ends = np.cumsum([0, *(len(cells.counts) for cells in self._features)], dtype=np.intp)
        self.counts: dict[str, Counts] = {}
        """By segment; none where the reference tells nothing of it."""
        for name, kept in segments.items():
            if any(name in each.segments for each in self._references):
                self.counts[name] = np.array(kept or [0] * int(self._ends[-1]), dtype=np.int64)

    def count(self, name: str, cells: BinIndices) -> None:
        """Count rows (n, n_features) of one segment."""
        if (counts := self.counts.get(name)) is not None:
            places = cells[:, self._numbers] + self._ends[:-1]
            counts += np.bincount(places.ravel(), minlength=len(counts))

    def parts(self, segment: str) -> Iterator[SegmentFeature]:
        """Yield what was counted of each feature within a segment."""
        counts = self.counts.get(segment)
        if counts is None or not counts.any():
            return
        for number, (reference, cells) in enumerate(zip(self._references, self._features, strict=True)):
            known = reference.segments.get(segment)
            if known is not None:
                own = counts[self._ends[number] : self._ends[number + 1]]
                beside = np.array(cells.places.counts_of(known), dtype=np.int64)
                yield SegmentFeature(segment, cells.with_counts(own), beside)

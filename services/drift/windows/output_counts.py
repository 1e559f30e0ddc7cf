"""Counts of the outputs in a window: of the scores and, of a multiclass model, of its predicted classes."""

from collections.abc import Mapping

from services.drift.binning.bin_counts import BinCounts
from services.drift.binning.bin_search import BinIndices
from services.drift.binning.binning import BinnedRows, PredictionRows
from services.drift.binning.segment_counts import SegmentFeature
from services.drift.windows import contributions
from services.monitoring.reference import SCORE, outputs_of
from streams.records import Contribution, Reference


class OutputCounts:
    """The counts of each output that a reference describes, in its bins."""

    def __init__(
        self, reference: Reference | None, stored: Mapping[str, tuple[list[int], dict[str, int]]]
    ) -> None:
        """Start empty, or from counts and unseen categories of a snapshot, by the name of the output."""
        described = {} if reference is None else outputs_of(reference)
        self.counts = {
            name: BinCounts(each, stored[name][0], stored[name][1].items())
            if name in stored
            else BinCounts(each)
            for name, each in described.items()
        }

    @property
    def score(self) -> BinCounts | None:
        """The counts of the scores; None without a reference."""
        return self.counts.get(SCORE)

    def add(self, rows: PredictionRows, binned: BinnedRows, indices: BinIndices) -> None:
        """Count the rows of these indices."""
        for name, counted in self.counts.items():
            column = () if counted.numeric else [rows.predictions[row].prediction for row in indices.tolist()]
            counted.add_binned(binned.outputs[name][indices], column)

    def contributions(self, name: str) -> list[Contribution]:
        """Return the bins of an output that differ most so far."""
        counted = self.counts.get(name)
        if counted is None or not counted.counts.sum():
            return []
        return contributions.of_feature(SegmentFeature("", counted, counted.reference))

"""Rows of predictions in the cells of a reference: placed once, together, then counted and watched. Pure."""

import dataclasses
from collections.abc import Mapping, Sequence

import mmh3
import numpy as np
import numpy.typing as npt

from services.drift.binning.bin_counts import FeatureBinner
from services.drift.binning.data_quality import Faults, QualityRules
from services.monitoring.rank_correlation import RankScorer, Scores
from services.monitoring.segments import Segment, segments_of
from services.runtime.declaration import ModelDeclaration
from streams.records import FeatureValue, Prediction, Reference

_CHANCES = 2**32

BinIndices = npt.NDArray[np.intp]


class PredictionRows:
    """Predictions in the common order, with what is needed of all of them at once."""

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        """Take at least one."""
        self.predictions = predictions
        self.times_ms = np.array([each.event_time_ms for each in predictions], dtype=np.int64)
        self.versions = np.array([each.version for each in predictions], dtype=np.int64)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.predictions)

    def chances(self) -> npt.NDArray[np.float64]:
        """Return a number in (0, 1) for each row, which follows from its id: it breaks ties."""
        hashes = [mmh3.hash(each.prediction_id, signed=False) for each in self.predictions]
        return (np.array(hashes, dtype=np.float64) + 0.5) / _CHANCES


@dataclasses.dataclass(frozen=True)
class BinnedRows:
    """Rows in the cells of one reference."""

    rows: npt.NDArray[np.intp]
    """Which have the reference's features, rising; others are left out of `cells`."""
    cells: BinIndices
    """Shape ``(len(rows), n_features)``."""
    scores: BinIndices | None
    """Of all rows; None where the reference knows no scores."""
    columns: list[Sequence[FeatureValue]]
    """By feature, the values of `rows`."""
    pair_scores: Scores
    """Of `rows`, by each feature of which the reference tells how it goes together with others."""
    segments: Mapping[str, Segment]
    faults: Faults
    """Of `rows`, by each feature of which something is declared."""


class RowBinner:
    """Finds the cells of rows."""

    def __init__(self, reference: Reference, declaration: ModelDeclaration) -> None:
        """Take the frozen cells of features and scores, and what is declared of values and segments."""
        self.reference = reference
        self.rules = QualityRules(declaration, [each.feature for each in reference.features])
        self.features = [FeatureBinner(each) for each in reference.features]
        self.score = None if reference.score is None else FeatureBinner(reference.score)
        paired = len(reference.pairs.sums) if reference.pairs else 0
        self._scorers = [RankScorer(each) for each in reference.features[:paired]]
        self.segments = segments_of(reference.features, declaration.monitoring.segments)

    def of(self, rows: PredictionRows) -> BinnedRows:
        """Place all rows."""
        width = len(self.features)
        features = [each.features for each in rows.predictions]
        fitting = [number for number, each in enumerate(features) if len(each) == width > 0]
        if len(fitting) < len(features):
            features = [features[number] for number in fitting]
        columns: list[Sequence[FeatureValue]] = list(zip(*features, strict=True)) or [()] * width
        cells = np.empty((len(fitting), width), dtype=np.intp)
        for feature, (places, column) in enumerate(zip(self.features, columns, strict=True)):
            cells[:, feature] = places.of(column)
        scores = None
        if self.score is not None:
            scores = self.score.of([each.score for each in rows.predictions])
        numbers = np.array(fitting, dtype=np.intp)
        pair_scores = np.empty((len(fitting), len(self._scorers)), dtype=np.int8)
        for feature, scorer in enumerate(self._scorers):
            pair_scores[:, feature] = scorer.scores(cells[:, feature], rows.times_ms[numbers])
        faults = self.rules.faults(columns)
        return BinnedRows(numbers, cells, scores, columns, pair_scores, self.segments, faults)

"""Assigns rows of predictions to the bins of a reference, once for counting and for detectors. Pure."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import mmh3
import numpy as np
import numpy.typing as npt

from services.drift.binning import value_statistics
from services.drift.binning.bin_counts import FeatureBinner, numbers_of
from services.drift.binning.bin_search import BinIndices, Numbers
from services.drift.binning.data_quality import Faults, QualityRules
from services.monitoring.rank_correlation import RankScorer, Scores
from services.monitoring.reference import PREDICTION, SCORE, outputs_of
from services.monitoring.segments import Segment, segments_of
from services.runtime.declaration import ModelDeclaration
from streams.feature_sets import Alignment, FeatureSets
from streams.records import FeatureValue, Prediction, Reference

_HASH_VALUES = 2**32


class PredictionRows:
    """Predictions in the common order of all inputs, with their times and versions as arrays."""

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        """Take at least one prediction."""
        self.predictions = predictions
        self.times_ms = np.array([each.event_time_ms for each in predictions], dtype=np.int64)
        self.versions = np.array([each.version for each in predictions], dtype=np.int64)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.predictions)

    @property
    def feature_sets(self) -> set[str]:
        """The digests of the names of the rows' features."""
        return {each.feature_set for each in self.predictions}

    def tie_breakers(self) -> npt.NDArray[np.float64]:
        """Return a number in (0, 1) for each row, a hash of its id: it breaks ties of ranks."""
        hashes = [mmh3.hash(each.prediction_id, signed=False) for each in self.predictions]
        return (np.array(hashes, dtype=np.float64) + 0.5) / _HASH_VALUES


@dataclasses.dataclass(frozen=True)
class BinnedRows:
    """Rows in the bins of one reference."""

    rows: npt.NDArray[np.intp]
    """Indices, rising, of the rows that have the reference's features; the arrays below leave out the
    others."""
    bins: BinIndices
    """Shape ``(len(rows), n_features)``."""
    outputs: Mapping[str, BinIndices]
    """Bins of the scores of all rows, and of a multiclass model of its predicted classes, as far as the
    reference has them; see `services.monitoring.reference.outputs_of`."""
    values: Numbers
    """Numbers ``(n_numeric, len(rows))`` of the numeric features; nan is missing."""
    score_values: Numbers
    """Scores of all rows; empty where the reference has no scores."""
    columns: list[Sequence[FeatureValue]]
    """The values of ``rows``, by feature."""
    pair_scores: Scores
    """Rank scores ``(len(rows), n_paired)`` of the features whose pairs the reference describes."""
    segments: Mapping[str, Segment]
    answered: npt.NDArray[np.bool_]
    """Whether each of all rows was answered by a version that has the reference; shape ``(n_rows,)``."""
    faults: Faults
    """Faults ``(len(rows), n_rules)`` of the features with quality rules."""


_OUTPUT: Mapping[str, Callable[[Sequence[Prediction]], list[FeatureValue]]] = {
    SCORE: lambda predictions: [each.score for each in predictions],
    PREDICTION: lambda predictions: [each.prediction for each in predictions],
}


Answered = Callable[[PredictionRows, Reference], npt.NDArray[np.bool_]]
"""Returns which rows ``(n_rows,)`` were answered by a version that has a reference."""


def _of_version(rows: PredictionRows, reference: Reference) -> npt.NDArray[np.bool_]:
    answered: npt.NDArray[np.bool_] = rows.versions == reference.version
    return answered


class RowBinner:
    """Assigns rows to the bins of one reference."""

    def __init__(
        self,
        reference: Reference,
        declaration: ModelDeclaration,
        feature_sets: FeatureSets | None = None,
        answered: Answered | None = None,
    ) -> None:
        """Read bins from the reference, and quality rules and segments from the declaration.

        Args:
            reference: The reference of one version.
            declaration: The model's.
            feature_sets: The names of the rows' features; without them rows must hold the reference's.
            answered: Tells which rows a version with this reference answered; by default its own version.
        """
        self.reference = reference
        self._answered = answered or _of_version
        self._alignment = Alignment(feature_sets or FeatureSets(), [e.feature for e in reference.features])
        self.rules = QualityRules(declaration, [each.feature for each in reference.features])
        self.features = [FeatureBinner(each) for each in reference.features]
        self.outputs = {name: FeatureBinner(each) for name, each in outputs_of(reference).items()}
        self.reference_values = [value_statistics.of_reference(each) for each in reference.features]
        self.reference_score = value_statistics.of_reference(reference.score) if reference.score else None
        paired = len(reference.pairs.sums) if reference.pairs else 0
        self._scorers = [RankScorer(each) for each in reference.features[:paired]]
        self.segments = segments_of(reference.features, declaration.monitoring.segments)

    def assign(self, rows: PredictionRows) -> BinnedRows:
        """Return all rows with their bins."""
        width = len(self.features)
        fitting, features = self._fitting(rows)
        columns: list[Sequence[FeatureValue]] = list(zip(*features, strict=True)) or [()] * width
        bins = np.empty((len(fitting), width), dtype=np.intp)
        values = np.empty((sum(each.numeric for each in self.features), len(fitting)))
        number = 0
        for feature, (binner, column) in enumerate(zip(self.features, columns, strict=True)):
            if binner.numeric:
                values[number] = numbers_of(column)
                bins[:, feature] = binner.bins_of_numbers(values[number])
                number += 1
            else:
                bins[:, feature] = binner.bins(column)
        outputs_given = {name: _OUTPUT[name](rows.predictions) for name in self.outputs}
        score_values = numbers_of(outputs_given.get(SCORE, []))
        outputs = {
            name: each.bins_of_numbers(score_values) if name == SCORE else each.bins(outputs_given[name])
            for name, each in self.outputs.items()
        }
        indices = np.array(fitting, dtype=np.intp)
        pair_scores = np.empty((len(fitting), len(self._scorers)), dtype=np.int8)
        for feature, scorer in enumerate(self._scorers):
            pair_scores[:, feature] = scorer.scores(bins[:, feature], rows.times_ms[indices])
        faults = self.rules.faults(columns)
        answered = self._answered(rows, self.reference)
        return BinnedRows(
            indices,
            bins,
            outputs,
            values,
            score_values,
            columns,
            pair_scores,
            self.segments,
            answered,
            faults,
        )

    def _fitting(self, rows: PredictionRows) -> tuple[list[int], list[Sequence[FeatureValue]]]:
        """Return the indices of the rows whose features have known names, and their values in order."""
        width = len(self.features)
        digest = rows.predictions[0].feature_set
        if self._alignment.layout(digest) == (width, None):  # nearly always all rows hold just these features
            features: list[Sequence[FeatureValue]] = [
                each.features
                for each in rows.predictions
                if each.feature_set == digest and len(each.features) == width > 0
            ]
            if len(features) == len(rows):
                return list(range(len(rows))), features
        layouts = {digest: self._alignment.layout(digest) for digest in rows.feature_sets}
        fitting: list[int] = []
        features = []
        for number, each in enumerate(rows.predictions):
            layout = layouts[each.feature_set]
            if layout is not None and len(each.features) == layout.width and width:
                fitting.append(number)
                features.append(layout.row(each.features))
        return fitting, features

"""The account of the model that learns online: every request has one prediction; mean errors by month.

Arithmetic only; `services.demo.followers` reads the records. The baseline is the running mean of all labels
that the answering version could know.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from services.demo import months
from services.demo.figures import Figures, MinutesLine, MinutesSummary
from services.demo.months import Floats, Integers
from services.runtime.declaration import Learning
from streams import records
from streams.json_decoder import JsonDecoder, valid
from streams.repeats import RepeatFilter


class _Prediction(msgspec.Struct, gc=False):
    """The part of a `Prediction` that is counted here; the decoder skips the rest."""

    prediction_id: str
    version: int
    event_time_ms: int
    source_partition: int
    source_offset: int
    score: float | None


_decode_prediction = JsonDecoder[_Prediction](_Prediction).decode
LabelSource = Callable[[], Mapping[str, tuple[int, float]]]
"""Returns by request id when its label becomes known, and the label."""


class MinutesAccount:
    """Counts of predictions and repeats; errors by month."""

    positives = None

    def __init__(self, model: str, learning: Learning, known_labels: LabelSource) -> None:
        """Start empty; the labels are read at the end."""
        self.model = model
        self.learning = learning
        self._label_source = known_labels
        self.collected = 0
        """Predictions without a score, before the first version took effect."""
        self.predicted = 0
        self.repeats = 0
        self.version = 0
        """The latest version that answered."""
        self._repeats = RepeatFilter()
        self._answers: list[tuple[str, int, float]] = []
        """Request id, event time, score."""

    def add_predictions(self, values: Sequence[bytes]) -> None:
        """Add predictions of one partition, in order."""
        for record in valid(_decode_prediction, values):
            if self._repeats.is_repeat(record.source_partition, record.source_offset):
                self.repeats += 1
            elif record.score is None:
                self.collected += 1
            else:
                self.predicted += 1
                self.version = max(self.version, record.version)
                self._answers.append((record.prediction_id, record.event_time_ms, record.score))

    def add_drift(self, record: records.DriftRecord) -> None:
        """Take a record of drift; none is about this model's figures."""

    def figures(self) -> Figures:
        """Return what the summary shows."""
        return Figures(
            minutes=MinutesSummary(
                predicted=self.predicted,
                collected=self.collected,
                repeats=self.repeats,
                version=self.version,
                months=self.months(),
            )
        )

    def months(self) -> list[MinutesLine]:
        """Return the months with labelled predictions; the order of the records has no effect."""
        known_labels = self._label_source()
        rows = sorted(
            (event_ms, known_labels[name][1], score)
            for name, event_ms, score in self._answers
            if name in known_labels
        )
        if not rows:
            return []
        times, labels, scores = np.array(rows, dtype=np.float64).T
        event_ms = times.astype(np.int64)
        errors = np.abs(labels - scores), np.abs(labels - self._running_means(event_ms, known_labels))
        places = months.month_of(event_ms)
        return [
            MinutesLine(
                month=months.NAMES[month],
                labels=int(np.count_nonzero(places == month)),
                mae_live=float(errors[0][places == month].mean()),
                mae_running_mean=float(errors[1][places == month].mean()),
            )
            for month in np.unique(places).tolist()
        ]

    def _running_means(self, event_ms: Integers, known_labels: Mapping[str, tuple[int, float]]) -> Floats:
        """Return for each request (n,) the mean of the labels of the intervals known by its version."""
        known = np.array(sorted(known_labels.values()), dtype=np.float64)
        length_ms = self.learning.interval_ms
        until_ms = (event_ms - self.learning.delay_ms) // length_ms * length_ms
        count = np.searchsorted(known[:, 0], until_ms, side="left")
        sums = np.concatenate([[0.0], np.cumsum(known[:, 1])])
        return sums[count] / np.maximum(count, 1)

    def faults(self, requests_sent: int, dead_letters: int) -> list[str]:
        """Return the errors of the account: every request has exactly one prediction or one dead letter."""
        found = self.collected + self.predicted + dead_letters
        if requests_sent == found:
            return []
        answered = f"{self.collected:,} collected + {self.predicted:,} predicted"
        lost = f"{dead_letters:,} dead letters = {found:,}"
        return [f"{self.model}: {requests_sent:,} requests were sent, but {answered} + {lost}"]

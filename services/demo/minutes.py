"""The account of the model that learns online: every request answered once, and how far off it was, by month.

Arithmetic only; `services.demo.following` brings the records. The baseline is the running mean: of all
labels that the version which answered, or would have, could know.
"""

import dataclasses
from collections.abc import Sequence

import msgspec
import numpy as np

from services.demo import months
from services.demo.months import Floats, Integers
from services.model import Learning
from streams.codec import RepeatFilter


class _Prediction(msgspec.Struct, gc=False):
    """The part of a `Prediction` that is counted here; the decoder skips the rest."""

    source_partition: int
    source_offset: int
    score: float | None


class _Outcome(msgspec.Struct, gc=False):
    """The part of an `Outcome` that is counted here."""

    version: int
    event_time_ms: int
    label_time_ms: int
    source_partition: int
    source_offset: int
    label: float
    score: float | None


_predictions = msgspec.json.Decoder(_Prediction).decode
_outcomes = msgspec.json.Decoder(_Outcome).decode


@dataclasses.dataclass(frozen=True)
class MinutesMonth:
    """One month of the table, over the requests with a score and a label."""

    month: str
    labels: int
    mae_live: float
    mae_running_mean: float


class MinutesAccount:
    """Counts of answers, repeats, labels; errors by month."""

    def __init__(self, model: str, request_topic: str, learning: Learning) -> None:
        """Start empty."""
        self.model = model
        self.request_topic = request_topic
        self._learning = learning
        self.collected = 0
        """Answers without a score, before the first version took effect."""
        self.predicted = 0
        self.repeats = 0
        self.outcomes = 0
        self.version = 0
        """The latest that answered a request with a label."""
        self._prediction_repeats = RepeatFilter()
        self._outcome_repeats = RepeatFilter()
        self._rows: list[tuple[int, int, float, float]] = []
        """Of each outcome: event time, label time, label, score (nan without one)."""

    def add_predictions(self, values: Sequence[bytes]) -> None:
        """Take predictions of one partition, in order."""
        for value in values:
            record = _predictions(value)
            if self._prediction_repeats.is_repeat(record.source_partition, record.source_offset):
                self.repeats += 1
            elif record.score is None:
                self.collected += 1
            else:
                self.predicted += 1

    def add_outcomes(self, values: Sequence[bytes]) -> None:
        """Take outcomes of one partition, in order."""
        for value in values:
            record = _outcomes(value)
            if self._outcome_repeats.is_repeat(record.source_partition, record.source_offset):
                self.repeats += 1
                continue
            self.outcomes += 1
            self.version = max(self.version, record.version)
            score = np.nan if record.score is None else record.score
            self._rows.append((record.event_time_ms, record.label_time_ms, record.label, score))

    def months(self) -> list[MinutesMonth]:
        """Return the months with answers whose label came, whatever order the records came in."""
        rows = np.array(sorted(self._rows, key=lambda row: (row[1], row[0], row[2])), dtype=np.float64)
        if not len(rows):
            return []
        event_ms, label_ms, labels, scores = rows.T
        baseline = self._running_means(event_ms.astype(np.int64), label_ms.astype(np.int64), labels)
        scored = ~np.isnan(scores) & ~np.isnan(baseline)
        places = months.month_of(event_ms.astype(np.int64))
        return [
            MinutesMonth(
                month=months.NAMES[month],
                labels=int(chosen.sum()),
                mae_live=float(np.abs(labels[chosen] - scores[chosen]).mean()),
                mae_running_mean=float(np.abs(labels[chosen] - baseline[chosen]).mean()),
            )
            for month in np.unique(places[scored]).tolist()
            if (chosen := scored & (places == month)).any()
        ]

    def _running_means(self, event_ms: Integers, label_ms: Integers, labels: Floats) -> Floats:
        """Return for each request (n,) the mean of the labels of the intervals that count by then."""
        length_ms = self._learning.interval_ms
        known_ms = (event_ms - self._learning.delay_ms) // length_ms * length_ms
        known = np.searchsorted(label_ms, known_ms, side="left")
        sums = np.concatenate([[0.0], np.cumsum(labels)])
        return np.where(known > 0, sums[known] / np.maximum(known, 1), np.nan)

    def faults(self, requests_sent: int, dead_letters: int) -> list[str]:
        """Say what does not add up: every request is answered exactly once, or in the dead letters."""
        found = self.collected + self.predicted + dead_letters
        if requests_sent == found:
            return []
        answered = f"{self.collected:,} collected + {self.predicted:,} predicted"
        lost = f"{dead_letters:,} dead letters = {found:,}"
        return [f"{self.model}: {requests_sent:,} requests were sent, but {answered} + {lost}"]

"""The account of the model that learns online: every request answered once, and how far off it was, by month.

Arithmetic only; `services.demo.followers` brings the records. The baseline is the running mean: of all
labels that the version which answered could know.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from services.demo import months
from services.demo.months import Floats, Integers
from services.runtime.declaration import Learning
from streams.codec import RepeatFilter


class _Prediction(msgspec.Struct, gc=False):
    """The part of a `Prediction` that is counted here; the decoder skips the rest."""

    prediction_id: str
    version: int
    event_time_ms: int
    source_partition: int
    source_offset: int
    score: float | None


_predictions = msgspec.json.Decoder(_Prediction).decode
Truths = Callable[[], Mapping[str, tuple[int, float]]]
"""Returns by request id when its label becomes known, and the label."""


@dataclasses.dataclass(frozen=True)
class MinutesMonth:
    """One month of the table, over the requests with a score and a label."""

    month: str
    labels: int
    mae_live: float
    mae_running_mean: float


class MinutesAccount:
    """Counts of answers and repeats; errors by month."""

    def __init__(self, model: str, learning: Learning, truths: Truths) -> None:
        """Start empty; the truths are asked for at the end."""
        self.model = model
        self._learning = learning
        self._truths = truths
        self.collected = 0
        """Answers without a score, before the first version took effect."""
        self.predicted = 0
        self.repeats = 0
        self.version = 0
        """The latest that answered."""
        self._repeats = RepeatFilter()
        self._answers: list[tuple[str, int, float]] = []
        """Request id, event time, score."""

    def add_predictions(self, values: Sequence[bytes]) -> None:
        """Take predictions of one partition, in order."""
        for value in values:
            record = _predictions(value)
            if self._repeats.is_repeat(record.source_partition, record.source_offset):
                self.repeats += 1
            elif record.score is None:
                self.collected += 1
            else:
                self.predicted += 1
                self.version = max(self.version, record.version)
                self._answers.append((record.prediction_id, record.event_time_ms, record.score))

    def months(self) -> list[MinutesMonth]:
        """Return the months with answers that have a label, whatever order the records came in."""
        truths = self._truths()
        rows = sorted(
            (event_ms, truths[name][1], score) for name, event_ms, score in self._answers if name in truths
        )
        if not rows:
            return []
        times, labels, scores = np.array(rows, dtype=np.float64).T
        event_ms = times.astype(np.int64)
        errors = np.abs(labels - scores), np.abs(labels - self._running_means(event_ms, truths))
        places = months.month_of(event_ms)
        return [
            MinutesMonth(
                month=months.NAMES[month],
                labels=int(np.count_nonzero(places == month)),
                mae_live=float(errors[0][places == month].mean()),
                mae_running_mean=float(errors[1][places == month].mean()),
            )
            for month in np.unique(places).tolist()
        ]

    def _running_means(self, event_ms: Integers, truths: Mapping[str, tuple[int, float]]) -> Floats:
        """Return for each request (n,) the mean of the labels of the intervals that count by then."""
        known = np.array(sorted(truths.values()), dtype=np.float64)
        length_ms = self._learning.interval_ms
        until_ms = (event_ms - self._learning.delay_ms) // length_ms * length_ms
        count = np.searchsorted(known[:, 0], until_ms, side="left")
        sums = np.concatenate([[0.0], np.cumsum(known[:, 1])])
        return sums[count] / np.maximum(count, 1)

    def faults(self, requests_sent: int, dead_letters: int) -> list[str]:
        """Say what does not add up: every request is answered exactly once, or in the dead letters."""
        found = self.collected + self.predicted + dead_letters
        if requests_sent == found:
            return []
        answered = f"{self.collected:,} collected + {self.predicted:,} predicted"
        lost = f"{dead_letters:,} dead letters = {found:,}"
        return [f"{self.model}: {requests_sent:,} requests were sent, but {answered} + {lost}"]

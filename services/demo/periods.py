"""How good the answers were in truth, by period of some days, beside what the performance reports showed.

The truth is that of the world: a request without a positive label has the label 0, whenever anybody could
know it. So these figures do not depend on what the processes count. Arithmetic only;
`services.demo.followers` reads the records.
"""

from collections.abc import Collection, Iterator, Sequence

import msgspec
import numpy as np

from services.demo.figures import Figures, PeriodLine
from services.demo.months import Floats, rfc3339
from services.monitoring.model_metrics import log_losses
from services.runtime.declaration import DAY_MS, ModelDeclaration
from streams import records
from streams.json_decoder import JsonDecoder, valid
from streams.repeats import RepeatFilter

PERIOD_MS = 5 * DAY_MS
"""Length of a period: about 200 frauds, so that the average precision is known to within 0.07."""


class _Prediction(msgspec.Struct, gc=False):
    """The part of a `Prediction` that is counted here; the decoder skips the rest."""

    prediction_id: str
    event_time_ms: int
    source_partition: int
    source_offset: int
    score: float | None
    shadow_scores: dict[str, float] = {}


_decode_prediction = JsonDecoder[_Prediction](_Prediction).decode


class PeriodsAccount:
    """Scores by period, with the labels of the world."""

    learning = None

    def __init__(
        self,
        declaration: ModelDeclaration,
        positives: Collection[str],
        *,
        start_ms: int,
        change_ms: int,
    ) -> None:
        """Start empty.

        Args:
            declaration: A binary model that keeps its first version as a shadow.
            positives: Ids of all requests whose label is 1.
            start_ms: Start of the first period.
            change_ms: When the world changes: a multiple of `PERIOD_MS` after it.
        """
        assert (change_ms - start_ms) % PERIOD_MS == 0, "the change begins a period"
        self.model = declaration.name
        self._frozen_arm = declaration.rollout.keep_first_as_shadow
        self.positives = positives
        self._start_ms, self._change_ms = start_ms, change_ms
        self._repeats = RepeatFilter()
        self._ids: list[str] = []
        self._rows: list[tuple[int, float, float]] = []
        """Event time, score, score of the first version."""
        self._shown: dict[str, tuple[int, int, float]] = {}
        """Start of the window, labels and mean log loss of the first mature report, by report id."""

    def add_predictions(self, values: Sequence[bytes]) -> None:
        """Add predictions of one partition, in order."""
        for record in valid(_decode_prediction, values):
            if record.source_offset == records.ASKED_OVER_HTTP or record.score is None:
                continue
            if not self._repeats.is_repeat(record.source_partition, record.source_offset):
                frozen = record.shadow_scores.get(self._frozen_arm or "", record.score)
                self._ids.append(record.prediction_id)
                self._rows.append((record.event_time_ms, record.score, frozen))

    def add_drift(self, record: records.DriftRecord) -> None:
        """Keep what the first mature report of each window shows."""
        if not isinstance(record, records.PerformanceReport) or record.model != self.model:
            return
        shown = {figure.measure: figure.realised for figure in record.segments[0].figures}
        loss = shown.get("log_loss")
        if record.state != "provisional" and loss is not None:
            self._shown.setdefault(record.report_id, (record.window_start_ms, record.labels, loss))

    def faults(self, _requests_sent: int, _dead_letters: int) -> list[str]:
        """Return no errors: the account of the requests has them."""
        return []

    def figures(self) -> Figures:
        """Return a line for each period with answers."""
        return Figures(periods=list(self._lines()))

    def _lines(self) -> Iterator[PeriodLine]:
        if not self._rows:
            return
        times, live, frozen = np.array(self._rows, dtype=np.float64).T
        labels = np.fromiter((name in self.positives for name in self._ids), np.float64, len(self._ids))
        numbers = ((times - self._start_ms) // PERIOD_MS).astype(np.int64)
        for number in np.unique(numbers).tolist():
            chosen, from_ms = numbers == number, self._start_ms + number * PERIOD_MS
            yield PeriodLine(
                from_=rfc3339(from_ms),
                before_change=from_ms + PERIOD_MS <= self._change_ms,
                requests=int(chosen.sum()),
                positives=int(labels[chosen].sum()),
                average_precision_live=average_precision(labels[chosen], live[chosen]),
                average_precision_frozen=average_precision(labels[chosen], frozen[chosen]),
                log_loss_shown=self._shown_loss(from_ms),
                log_loss_true=float(log_losses(labels[chosen], live[chosen]).mean()),
            )

    def _shown_loss(self, from_ms: int) -> float | None:
        """Return the mean over the labels of the windows that begin in a period."""
        found = [
            (labels, loss)
            for start_ms, labels, loss in self._shown.values()
            if from_ms <= start_ms < from_ms + PERIOD_MS
        ]
        count = sum(labels for labels, _ in found)
        return sum(labels * loss for labels, loss in found) / count if count else None


def average_precision(labels: Floats, scores: Floats) -> float | None:
    """Return the mean precision at the ranks of the positive labels; None if one class is missing.

    Equal scores share a rank.

    >>> average_precision(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.8, 0.7, 0.1]))
    0.8333333333333333
    """
    positives = int(labels.sum())
    if not 0 < positives < len(labels):
        return None
    _, places = np.unique(-scores, return_inverse=True)
    hits = np.bincount(places, weights=labels)
    precision = np.cumsum(hits) / np.cumsum(np.bincount(places))
    return float((precision * hits).sum() / positives)

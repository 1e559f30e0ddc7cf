"""The live account: the result of every request and label, and the quality of the predictions by month.

Arithmetic only; `services.demo.followers` reads the records. Predictions, outcomes and dead letters may
repeat after a crash of the process that wrote them. Each carries its source offset, so repeats are dropped
and counted.
"""

import dataclasses
from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from services.demo import months
from services.monitoring.model_metrics import log_losses
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
    shadow_scores: dict[str, float] = {}


class _Outcome(msgspec.Struct, gc=False):
    """The part of an `Outcome` that is counted here."""

    version: int
    event_time_ms: int
    source_partition: int
    source_offset: int
    label: float
    score: float | None
    shadow_scores: dict[str, float] = {}


_decode_prediction = JsonDecoder[_Prediction](_Prediction).decode
_decode_outcome = JsonDecoder[_Outcome](_Outcome).decode
_decode_letter = JsonDecoder[records.DeadLetter](records.DeadLetter).decode


@dataclasses.dataclass(frozen=True)
class Month:
    """One month of the table. Losses and AUC are over the requests with a label."""

    month: str
    requests: int
    """Requests answered with a score."""
    labels: int
    log_loss_live: float | None
    log_loss_frozen: float | None
    auc_live: float | None = None


class _MonthScores:
    """The labels and scores of one month."""

    def __init__(self) -> None:
        self.requests = 0
        self.labels = 0
        self._chunks: list[months.Floats] = []
        self._loss_live = 0.0
        self._loss_frozen = 0.0
        self._labels_frozen = 0

    def add(self, rows: months.Floats) -> None:
        """Add rows (n, 3): label, live score, frozen score (NaN if the first model did not answer)."""
        self._chunks.append(rows)
        self.labels += len(rows)
        self._loss_live += float(log_losses(rows[:, 0], rows[:, 1]).sum())
        frozen = rows[~np.isnan(rows[:, 2])]
        self._labels_frozen += len(frozen)
        self._loss_frozen += float(log_losses(frozen[:, 0], frozen[:, 2]).sum())

    def summary(self, name: str, *, with_auc: bool) -> Month:
        """Summarise the rows so far; the AUC sorts all scores, so it is computed only at the end."""
        auc = None
        if with_auc and self.labels:
            rows = np.concatenate(self._chunks)
            auc = months.area_under_curve(rows[:, 0], rows[:, 1])
        count = self.labels
        return Month(
            month=name,
            requests=self.requests,
            labels=count,
            log_loss_live=self._loss_live / count if count else None,
            log_loss_frozen=self._loss_frozen / self._labels_frozen if self._labels_frozen else None,
            auc_live=auc,
        )


class RequestAccount:
    """Counts of requests, predictions, repeats and labels; alarms; versions; scores by month."""

    def __init__(
        self,
        model: str,
        request_topic: str,
        frozen_arm: str | None,
        calendar: months.Calendar = months.FLIGHTS,
        positives: Collection[str] | None = None,
    ) -> None:
        """Start empty.

        Args:
            model: The model whose predictions are counted.
            request_topic: Its topic of requests.
            frozen_arm: The arm under which the first version keeps scoring.
            calendar: The months.
            positives: Ids of the requests whose label is 1, where a request without a label has the label 0:
                no outcome says so. None: the labels are those of the outcomes.
        """
        self._positives = positives
        self._calendar = calendar
        self.model = model
        self.request_topic = request_topic
        self.frozen_arm = frozen_arm
        self.collected = 0
        """Predictions without a score, before scoring started."""
        self.predicted = 0
        self.unscored = 0
        """Predictions without a score after scoring started; there must be none."""
        self.repeats = 0
        self.asked_over_http = 0
        """Predictions for REST callers; not part of the requests that the demo sent."""
        self.dead_letters = 0
        """Dead letters of requests after scoring started."""
        self.dead_letters_before = 0
        """Dead letters of requests before scoring started."""
        self.outcomes = 0
        self.outcome_time_ms = 0
        """The latest event time of a request with an outcome."""
        self.report: records.DriftReport | None = None
        self.alarms: dict[str, records.DriftAlarm] = {}
        self.change: records.ModelChanged | None = None
        self._first_version: int | None = None
        self._scoring_offsets: dict[int, int] = {}
        self._prediction_repeats = RepeatFilter()
        self._outcome_repeats = RepeatFilter()
        self._letters_seen: set[tuple[str, int, int]] = set()
        self._months = [_MonthScores() for _ in calendar.names]

    def start_scoring(self, offsets: dict[int, int]) -> None:
        """Record the next offset of each request partition at the time of the first model."""
        self._scoring_offsets = dict(offsets)

    def add_predictions(self, values: Sequence[bytes]) -> None:
        """Add predictions of one partition, in order."""
        times: list[int] = []
        rows: list[tuple[float, float, float]] = []
        for record in valid(_decode_prediction, values):
            if self._prediction_repeats.is_repeat(record.source_partition, record.source_offset):
                self.repeats += 1
            elif record.source_offset == records.ASKED_OVER_HTTP:
                self.asked_over_http += 1
            elif record.score is not None:
                self.predicted += 1
                times.append(record.event_time_ms)
                if self._positives is not None:
                    label = float(record.prediction_id in self._positives)
                    rows.append((label, record.score, self._frozen_score(record, record.score)))
            elif record.event_time_ms < self._calendar.scoring_start_ms:
                self.collected += 1
            else:
                self.unscored += 1
        for month, count in enumerate(np.bincount(self._calendar.month_of(np.array(times, dtype=np.int64)))):
            self._months[month].requests += int(count)
        if rows:
            self._add_scores(np.array(times, dtype=np.int64), np.array(rows, dtype=np.float64))

    def add_outcomes(self, values: Sequence[bytes]) -> None:
        """Add outcomes of one partition, in order."""
        times: list[int] = []
        rows: list[tuple[float, float, float]] = []
        for record in valid(_decode_outcome, values):
            if self._outcome_repeats.is_repeat(record.source_partition, record.source_offset):
                self.repeats += 1
                continue
            self.outcomes += 1
            if record.score is not None and self._positives is None:
                times.append(record.event_time_ms)
                rows.append((record.label, record.score, self._frozen_score(record, record.score)))
        if rows:
            self._add_scores(np.array(times, dtype=np.int64), np.array(rows, dtype=np.float64))

    def _frozen_score(self, record: _Prediction | _Outcome, score: float) -> float:
        """Return the first version's score: as champion, later as shadow."""
        if self._first_version is None or record.version < self._first_version:
            self._first_version = record.version
        if self.frozen_arm in record.shadow_scores:
            return record.shadow_scores[self.frozen_arm]
        return score if record.version == self._first_version else np.nan

    def _add_scores(self, times_ms: months.Integers, rows: months.Floats) -> None:
        self.outcome_time_ms = max(self.outcome_time_ms, int(times_ms.max()))
        row_months = self._calendar.month_of(times_ms)
        for month in np.unique(row_months).tolist():
            self._months[month].add(rows[row_months == month])

    def add_dead_letters(self, values: Sequence[bytes]) -> None:
        """Add dead letters of any process and topic."""
        for letter in valid(_decode_letter, values):
            source = (letter.topic, letter.partition, letter.offset)
            if source in self._letters_seen:
                self.repeats += 1
                continue
            self._letters_seen.add(source)
            if letter.topic == self.request_topic:
                if letter.offset >= self._scoring_offsets.get(letter.partition, 0):
                    self.dead_letters += 1
                else:
                    self.dead_letters_before += 1

    def add_drift(self, record: records.DriftRecord) -> None:
        """Add a report or an alarm."""
        if record.model != self.model:
            return
        if isinstance(record, records.DriftAlarm):
            self.alarms.setdefault(record.alarm_id, record)
        elif isinstance(record, records.DriftReport) and (
            self.report is None or _order(record) >= _order(self.report)
        ):
            self.report = record

    def alarms_in_order(self) -> list[records.DriftAlarm]:
        """Return the alarms by event time."""
        return sorted(self.alarms.values(), key=lambda alarm: (alarm.detected_at_ms, alarm.alarm_id))

    def add_change(self, record: records.ModelChanged) -> None:
        """Keep the latest arms."""
        if record.model == self.model:
            self.change = record

    def version_at(self, event_time_ms: int) -> int:
        """Return the champion's version for a request of this event time; 0 before the first."""
        arms = [arm for arm in self.change.arms if not arm.shadow] if self.change else []
        effective = [arm for arm in arms if arm.effective_from_ms <= event_time_ms]
        return (
            max(effective, key=lambda arm: (arm.effective_from_ms, arm.version)).version if effective else 0
        )

    def months(self, *, with_auc: bool = False) -> list[Month]:
        """Summarise each month that has requests with a score."""
        named = zip(self._calendar.names, self._months, strict=True)
        return [scores.summary(name, with_auc=with_auc) for name, scores in named if scores.requests]

    def faults(self, requests_sent: int, collecting_sent: int) -> list[str]:
        """Return the errors of the account: every request has exactly one prediction or one dead letter.

        ``requests_sent`` counts from the start of scoring, ``collecting_sent`` before it.
        """
        found = []
        if requests_sent != self.predicted + self.dead_letters:
            found.append(
                f"{requests_sent:,} requests were sent, but {self.predicted:,} predicted + "
                f"{self.dead_letters:,} dead letters = {self.predicted + self.dead_letters:,} "
                f"({self.unscored:,} predictions had no score)"
            )
        if collecting_sent != self.collected + self.dead_letters_before:
            found.append(
                f"{collecting_sent:,} requests were sent without a model, but {self.collected:,} collected + "
                f"{self.dead_letters_before:,} dead letters = {self.collected + self.dead_letters_before:,}"
            )
        return found


def _order(report: records.DriftReport) -> tuple[int, int]:
    return report.window_end_ms, report.revision


def mean_log_losses(table: Sequence[Month]) -> tuple[float | None, float | None]:
    """Return the means of the monthly means, live and frozen, over the months that have both."""
    pairs = [
        (month.log_loss_live, month.log_loss_frozen)
        for month in table
        if month.log_loss_live is not None and month.log_loss_frozen is not None
    ]
    if not pairs:
        return None, None
    live, frozen = np.array(pairs, dtype=np.float64).mean(axis=0).tolist()
    return live, frozen

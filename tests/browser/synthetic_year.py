"""A year of reports, alarms, retrainings and promotions that never happened, with the shape of one that did.

January has no model; weather drifts with the season, against what the champion was trained on; losses rise
with the summer's thunderstorms and in December. Everything follows from the seed.
"""

import dataclasses
import datetime as dt
import math
from typing import Any

import msgspec
import numpy as np

from services.monitoring import arm_comparison, call_times, classification
from streams import topics
from streams.records import (
    Arm,
    ArmFigures,
    CostAccount,
    DriftAlarm,
    DriftReport,
    FeatureDrift,
    Figure,
    LossDifference,
    LossSums,
    MeasureFigures,
    ModelChanged,
    PerformanceReport,
    RetrainingFinished,
    RetrainingRequested,
    SegmentPerformance,
    ValueStatistics,
    encode,
)

DAY_MS = 86_400_000
START_MS = round(dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC).timestamp() * 1000)
TRAINED_DAY = 31
REFERENCE_LOG_LOSS = 0.462
LATE_SHARES = (0.23, 0.23, 0.23, 0.28, 0.22, 0.31, 0.32, 0.24, 0.13, 0.17, 0.17, 0.33)

# By feature: how strongly the season moves it, and its noise.
FEATURES = {
    "hour": (0.0, 0.004),
    "weekday": (0.0, 0.02),
    "carrier": (0.01, 0.006),
    "origin": (0.0, 0.004),
    "dest": (0.03, 0.02),
    "distance": (0.01, 0.01),
    "seats": (0.01, 0.008),
    "temperature": (2.6, 0.12),
    "dew_point": (2.2, 0.16),
    "humidity": (0.12, 0.18),
    "wind_speed": (0.1, 0.12),
    "precipitation": (0.05, 0.07),
    "visibility": (0.06, 0.1),
    "pressure": (0.15, 0.22),
    "origin_departure_delay_mean_1h": (0.22, 0.09),
    "origin_departure_delay_mean_3h": (0.26, 0.1),
    "carrier_origin_departure_delay_mean_3h": (0.16, 0.06),
    "aircraft_departure_delay_last_16h": (0.1, 0.03),
    "destination_arrival_delay_mean_3h": (0.18, 0.06),
    "carrier_arrival_delay_mean_3h": (0.2, 0.07),
}
THRESHOLD = 0.25
DECIDED_FROM = 0.4
REFERENCE_COST = 4.4
NUMBERS = frozenset({"temperature", "dew_point"})
LEARNED = dict.fromkeys(
    NUMBERS, ValueStatistics(mean=1.2, deviation=5.0, quantiles=[-7.0, -2.1, 1.0, 4.2, 9.5])
)
THRESHOLDS = classification.thresholds_of(DECIDED_FROM)


@dataclasses.dataclass
class Year:
    """The records by topic name, in the order of event time."""

    model: str
    days: int = 365
    seed: int = 7
    records: list[tuple[str, bytes]] = dataclasses.field(default_factory=list)
    reports: list[DriftReport] = dataclasses.field(default_factory=list)
    performances: list[PerformanceReport] = dataclasses.field(default_factory=list)
    alarms: list[DriftAlarm] = dataclasses.field(default_factory=list)
    finished: list[RetrainingFinished] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        """Make all records."""
        self._random = np.random.default_rng(self.seed)
        self._version = 0
        self._next_version = 1
        self._trained_until_day = 0
        self._retrained_day = 0
        self._arms: list[Arm] = []
        self._storm = 0.0
        self._cost_total = self._cost_saved = 0.0
        for day in range(self.days):
            self._play(day)

    @property
    def alarm_days(self) -> int:
        return len({alarm.detected_at_ms for alarm in self.alarms})

    def _play(self, day: int) -> None:
        if day == TRAINED_DAY:
            self._retrain(day, "bootstrap", [], "promoted")
        report = self._report(day)
        self.reports.append(report)
        self._put(topics.DRIFT, report)
        if report.log_loss is not None:
            self.performances.append(self._performance(report, report.log_loss))
            self._put(topics.DRIFT, self.performances[-1])
        alarms = self._raise_alarms(report, day)
        if alarms and self._version and day - self._retrained_day >= 21:
            turn = len(self.finished)
            result = "failed" if turn == 5 else "rejected" if turn in {3, 8} else "promoted"
            self._retrain(day, "drift", alarms, result)

    def _report(self, day: int) -> DriftReport:
        self._storm = float(0.7 * self._storm + self._random.normal(0, 1))
        late = float(np.interp(day, np.arange(12) * 30.4 + 15, LATE_SHARES))
        predictions = int(930 + 25 * math.sin(day / 58) - (170 if (day + 1) % 7 == 5 else 0))
        labels = 0 if day == 0 else int(predictions * (0.975 - 0.02 * max(0.0, self._storm) / 2))
        base = 0.33 + 0.52 * late + 0.022 * self._storm
        age_frozen = min(1.0, max(0, day - TRAINED_DAY) / 120)
        age_live = min(1.0, max(0, day - self._trained_until_day) / 120)
        scored = self._version > 0
        joined = int(sum(report.labels for report in self.reports)) + labels
        return DriftReport(
            report_id=f"{self.model}:{day}",
            model=self.model,
            version=self._version,
            window_start_ms=START_MS + day * DAY_MS,
            window_end_ms=START_MS + (day + 1) * DAY_MS,
            predictions=predictions,
            labels=labels,
            features=self._features(day) if scored else [],
            score_psi=round(abs(0.05 + 1.2 * abs(late - 0.23) + 0.02 * self._storm), 4) if scored else None,
            log_loss=base + 0.012 * age_live + float(self._random.normal(0, 0.003)) if scored else None,
            accuracy=0.9 - 0.55 * late if scored else None,
            reference_log_loss=REFERENCE_LOG_LOSS - 0.004 * self._version if scored else None,
            shadow_log_loss={"frozen": base + 0.038 * age_frozen + float(self._random.normal(0, 0.003))}
            if scored
            else {},
            labels_joined_total=joined,
            labels_orphaned_total=day // 11,
            predictions_unlabelled_total=22 * max(0, day - 2),
            arms=self._arm_figures(day, predictions, labels) if scored and labels else [],
        )

    def _arm_figures(self, day: int, predictions: int, labels: int) -> list[ArmFigures]:
        """Return the champion, a challenger with a fifth of the rows, a frozen shadow, and one that fails."""
        random, version = np.random.default_rng([self.seed, day, 1]), self._version
        blocks = np.arange(labels) * arm_comparison.BLOCKS // labels
        losses, worse = random.gamma(1.2, 0.38, labels), random.normal(0.03, 0.2, labels)
        is_new = random.random(labels) < 0.2
        own, new = _loss_sums(losses[~is_new], blocks[~is_new]), _loss_sums(losses[is_new], blocks[is_new])
        paired = _loss_sums(worse[~is_new], blocks[~is_new])
        others = round(0.2 * predictions)
        calls = {724: predictions - 40, 1448: 30, 5793: 10}

        def arm(name: str, given: int, rows: int, measured: LossSums, **fields: Any) -> ArmFigures:
            loss = MeasureFigures(
                measure="log_loss", labels=measured.labels, total=measured.total, squares=None
            )
            return ArmFigures(
                arm=name, version=given, predictions=rows, labels=measured.labels, measures=[loss], **fields
            )

        return [
            ArmFigures(arm="broken", version=version + 41, shadow=True, failed=predictions),
            arm(
                "champion", version, predictions - others, own,
                is_champion=True, losses=own, call_times=call_times.record_of(calls),
            ),
            arm(
                "frozen", 1, predictions, _loss_sums(losses + worse, blocks), shadow=True, losses=paired,
                difference=_difference(paired, None, version), call_times=call_times.record_of(calls),
            ),
            arm(
                "new", version + 40, others, new, losses=new, difference=_difference(new, own, version),
                call_times=call_times.record_of({1024: others}),
            ),
        ]  # fmt: skip

    def _performance(self, report: DriftReport, log_loss: float) -> PerformanceReport:
        figure = Figure(
            measure="log_loss",
            realised=log_loss,
            low=log_loss - 0.03,
            high=log_loss + 0.03,
            estimated=0.5 * log_loss + 0.23,
            running=0.46,
            running_low=0.45,
            running_high=0.47,
        )
        positives, negatives = self._outcomes(report)
        at_declared = classification.at_threshold(THRESHOLDS, DECIDED_FROM, positives, negatives)
        figures = [Figure(measure=name, realised=value) for name, value in at_declared.figures.items()]
        whole = SegmentPerformance(
            segment="",
            predictions=report.predictions,
            labels=report.labels,
            figures=[figure, *figures, Figure(measure="cost", realised=self._mean_cost(at_declared))],
            positives=positives,
            negatives=negatives,
        )
        return PerformanceReport(
            report_id=f"{self.model}-performance:{report.window_start_ms}",
            model=self.model,
            version=report.version,
            window_start_ms=report.window_start_ms,
            window_end_ms=report.window_end_ms,
            as_of_ms=report.window_end_ms,
            revision=0,
            state="mature",
            predictions=report.predictions,
            labels=report.labels,
            maturity=1.0,
            segments=[whole],
            threshold=DECIDED_FROM,
            thresholds=THRESHOLDS,
            unit="minutes",
            cost=self._cost(at_declared, report),
        )

    def _cost(self, found: classification.Confusion, report: DriftReport) -> CostAccount:
        """Return the account of a window, of the costs 10 for a false alarm and 30 for a missed delay."""
        total = 10.0 * found.false_positives + 30.0 * found.false_negatives
        self._cost_total += total
        self._cost_saved += REFERENCE_COST * report.labels - total
        return CostAccount(
            total=total,
            reference=REFERENCE_COST,
            before=4.6 if self._version > 1 else None,
            cumulative_labels=0,
            cumulative=self._cost_total,
            compared_labels=0,
            saved=self._cost_saved,
        )

    def _mean_cost(self, found: classification.Confusion) -> float:
        return (10 * found.false_positives + 30 * found.false_negatives) / sum(found)

    def _outcomes(self, report: DriftReport) -> tuple[list[int], list[int]]:
        """Return the labels of 1 and of 0 by score; late flights get higher scores."""
        random = np.random.default_rng([self.seed, report.window_start_ms // DAY_MS])
        late = round(report.labels * (0.9 - (report.accuracy or 0.8)) / 0.55)
        edges = [-np.inf, *THRESHOLDS, np.inf]
        positives = np.histogram(random.beta(2.4, 2.6, late), edges)[0]
        negatives = np.histogram(random.beta(1.3, 5.2, report.labels - late), edges)[0]
        return positives.tolist(), negatives.tolist()

    def _features(self, day: int) -> list[FeatureDrift]:
        season = -math.cos(2 * math.pi * (day - 20) / 365)
        learned = np.mean(
            [-math.cos(2 * math.pi * (d - 20) / 365) for d in range(self._trained_until_day + 1)]
        )
        span = 0.35 + self._trained_until_day / 365
        drifts = []
        for name, (seasonal, noise) in FEATURES.items():
            effect = seasonal * ((season - learned) / (1 + span)) ** 2 * 0.55
            psi = float(effect + noise * self._random.gamma(1.6, 0.7) * (1 + 0.4 * max(0.0, self._storm)))
            drifts.append(
                FeatureDrift(
                    feature=name,
                    psi=psi,
                    statistic=min(1.0, math.sqrt(psi) / 2.5),
                    p_value=math.exp(-psi * 400),
                    threshold=THRESHOLD,
                    drifted=psi > THRESHOLD,
                    missing_share=0.0 if seasonal < 0.1 else 0.004,
                    values=self._values(name, day) if name in NUMBERS else None,
                    reference_values=LEARNED.get(name),
                    new_categories=["ZZ"] if name == "carrier" and day == 200 else [],
                )
            )
        return drifts

    def _values(self, name: str, day: int) -> ValueStatistics:
        """Return a temperature that follows the season."""
        middle = 12.0 - 13.0 * math.cos(2 * math.pi * (day - 20) / 365) + 2 * math.sin(1.3 * day)
        spread = [-6.1, -2.4, 0.3, 2.9, 7.2]
        return ValueStatistics(
            mean=round(middle, 3), deviation=4.1, quantiles=[round(middle + each, 3) for each in spread]
        )

    def _raise_alarms(self, report: DriftReport, day: int) -> list[DriftAlarm]:
        worst = sorted((d for d in report.features if d.drifted), key=lambda d: -d.psi)[:2]
        alarms = [
            self._alarm(report, "feature", d.feature, d.psi, THRESHOLD)
            for d in worst
            if self._random.random() < 0.16
        ]
        limit = (report.reference_log_loss or 0) + 0.03
        if report.log_loss is not None and report.log_loss > limit and self._random.random() < 0.3:
            alarms.append(self._alarm(report, "loss", "log_loss", report.log_loss, limit))
        if day == 200:
            alarms.append(self._alarm(report, "category", "carrier", 1.0, 0.0))
        return alarms

    def _alarm(
        self, report: DriftReport, kind: str, subject: str, value: float, threshold: float
    ) -> DriftAlarm:
        alarm = DriftAlarm(
            alarm_id=f"{report.report_id}:{kind}:{subject}",
            model=self.model,
            version=report.version,
            kind=kind,  # type: ignore[arg-type]  # one of the literals above
            subject=subject,
            value=value,
            threshold=threshold,
            detected_at_ms=report.window_end_ms,
            since_ms=report.window_start_ms - 3 * DAY_MS,
            message=f"{subject} is at {value:.3f}, above {threshold:.3f}",
        )
        self.alarms.append(alarm)
        self._put(topics.DRIFT, alarm)
        return alarm

    def _retrain(self, day: int, trigger: str, evidence: list[DriftAlarm], result: str) -> None:
        self._retrained_day = day
        at_ms = START_MS + (day + (1 if evidence else 0)) * DAY_MS
        request = RetrainingRequested(
            request_id=f"{self.model}:{trigger}:{day}",
            model=self.model,
            trigger=trigger,  # type: ignore[arg-type]  # one of the literals
            requested_at_ms=at_ms,
            reason="; ".join(alarm.message for alarm in evidence) or "no model yet",
            evidence=evidence,
        )
        self._put(topics.RETRAINING, request)
        version = 0 if result == "failed" else self._next_version
        self._next_version += version > 0
        finished = RetrainingFinished(
            request_id=request.request_id,
            model=self.model,
            trigger=request.trigger,
            requested_at_ms=at_ms,
            result=result,  # type: ignore[arg-type]  # one of the literals
            version=version,
            reasons={
                "rejected": ["log_loss 0.4712 is not below the champion's 0.4698"],
                "failed": ["out of memory"],
            }.get(result, []),
            metrics={"log_loss": 0.4571, "champion_log_loss": 0.4688},
            rows=day * 890,
            duration_seconds=7.4,
        )
        self.finished.append(finished)
        self._put(topics.RETRAINING, finished)
        if result == "promoted":
            self._promote(request, version, day)

    def _promote(self, request: RetrainingRequested, version: int, day: int) -> None:
        self._version, self._trained_until_day = version, day
        champion = Arm(
            name="champion",
            version=version,
            weight=10_000,
            effective_from_ms=request.requested_at_ms + DAY_MS // 4,
        )
        outgoing = [arm for arm in self._arms if not arm.shadow][-1:]
        shadow = [Arm(name="frozen", version=1, weight=0, shadow=True)]
        self._arms = [*outgoing, champion, *shadow]
        change = ModelChanged(
            model=self.model,
            arms=self._arms,
            changed_at_ms=request.requested_at_ms,
            reason=request.reason,
            request_id=request.request_id,
        )
        self._put(topics.MODELS, change)

    def _put(self, topic: topics.InternalTopic, record: object) -> None:
        self.records.append((topic.name, encode(record)))  # type: ignore[arg-type]  # one of the records above


def _loss_sums(losses: np.ndarray[Any, Any], blocks: np.ndarray[Any, Any]) -> LossSums:
    counts = np.bincount(blocks, minlength=arm_comparison.BLOCKS)
    totals = np.bincount(blocks, weights=losses, minlength=arm_comparison.BLOCKS)
    return LossSums(
        labels=len(losses),
        total=float(losses.sum()),
        squares=float((losses**2).sum()),
        block_labels=counts.tolist(),
        block_totals=totals.tolist(),
    )


def _difference(arm: LossSums, champion: LossSums | None, version: int) -> LossDifference:
    found = arm_comparison.difference([(arm, champion)], version)
    assert found is not None
    running = {"running": found.mean, "running_low": found.mean - 0.02, "running_high": found.mean + 0.02}
    return msgspec.structs.replace(found, running_labels=900, **running)

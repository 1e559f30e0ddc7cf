"""The performance of predictions whose labels have arrived."""

from typing import Literal

import msgspec

from streams.records.field_types import Int64, TimeMs


class Figure(msgspec.Struct, kw_only=True, frozen=True):
    """One measure of a cohort of predictions, or of the part of it in a segment."""

    measure: str
    """See `services.monitoring.model_metrics`. Besides, ``precision``, ``recall``, ``f1``, ``auc`` (binary),
    ``macro_precision``, ``macro_recall``, ``macro_f1`` (multiclass), all without running values, and ``rmse``
    (regression)."""
    realised: float | None = None
    """Mean over the labels that have arrived."""
    low: float | None = None
    """Lower end of the 95 % confidence interval at this one time, by the central limit theorem."""
    high: float | None = None
    """Upper end of that interval."""
    estimated: float | None = None
    """Expectation from the scores alone, before the labels, as of the end of the window."""
    gap: float | None = None
    """Realised minus estimated."""
    running: float | None = None
    """Mean over mature cohorts since the promotion, with losses clipped at 4 and errors at their scale."""
    running_low: float | None = None
    """Lower end of an empirical-Bernstein confidence sequence: it holds at all times together with 95 %."""
    running_high: float | None = None
    """Upper end of that sequence."""


class SegmentPerformance(msgspec.Struct, kw_only=True, frozen=True):
    """Performance of the predictions of one segment."""

    segment: str
    """``origin=EWR``; empty: all predictions."""
    predictions: Int64
    labels: Int64
    running_labels: Int64 = 0
    """Number of labels in the running figures."""
    figures: list[Figure] = []
    positives: list[Int64] = []
    """Binary: labels of 1 by score, one more entry than ``PerformanceReport.thresholds``; entry i counts the
    scores from threshold i - 1 up to below threshold i. Counts of several windows can be added. Empty if an
    older version has counted some of the labels."""
    negatives: list[Int64] = []
    """Labels of 0, likewise."""
    confusion: list[list[Int64]] = []
    """Multiclass: labels by label (rows) and predicted class (columns), in the order of
    ``PerformanceReport.classes``; empty for more than 64 classes, in a segment for more than 10."""


class CostAccount(msgspec.Struct, kw_only=True, frozen=True):
    """What the champion's labelled predictions cost, in ``PerformanceReport.unit``; below 0: a gain.

    Cumulative figures are of all mature windows and all champions since counting began, as of the report.
    """

    total: float
    """Sum over the labels of this window, see ``PerformanceReport.labels``."""
    reference: float | None
    """Mean cost of a prediction on the data held out in the champion's training; null if it is unknown."""
    before: float | None
    """Mean cost of a prediction of the previous champion, over its mature windows; these had other
    requests."""
    cumulative_labels: Int64
    cumulative: float
    compared_labels: Int64
    """Labels among them whose champion has a reference with a cost."""
    saved: float | None
    """Over the compared labels: the cost to be expected by ``reference`` minus the realised cost."""


class PerformanceReport(msgspec.Struct, kw_only=True, frozen=True, tag="performance_report"):
    """Performance of the champion's predictions of one window of event time, whenever their labels arrive.

    Reported when the window ends, again when its labels are mature, and once more when the label horizon has
    passed, if labels arrived after the second report. For a window and version the highest revision counts.
    """

    report_id: str
    """Id of the report: the same after a replay and for all revisions."""
    model: str
    version: Int64
    window_start_ms: TimeMs
    """Event time of the predictions."""
    window_end_ms: TimeMs
    as_of_ms: TimeMs
    """Event time: labels that became known before it are included."""
    revision: Int64
    state: Literal["provisional", "mature", "complete"]
    """Early labels are not representative: a provisional figure is probably too good or too bad."""
    predictions: Int64
    labels: Int64
    maturity: float | None
    """Share of the expected labels that have arrived, from the delays of earlier labels; null if unknown."""
    segments: list[SegmentPerformance]
    """The entry for all predictions is first."""
    judged: str = ""
    """The measure that decides whether the model has become worse."""
    estimate_error: float | None = None
    """Recent error of the estimates of that measure: the largest gap of a block of windows."""
    unit: str = ""
    """Unit of the cost."""
    corrections: Int64 = 0
    """How often a label among ``labels`` was replaced by a later one; its last value is counted."""
    estimate_outside: float | None = None
    """Share of the scores in ranges without known results; estimates there may be far off."""
    threshold: float | None = None
    """Binary: the declared threshold, for which precision, recall and F1 are among the figures."""
    thresholds: list[float] = []
    """Binary: the thresholds between which labels are counted, rising; the declared one is among them."""
    cost: CostAccount | None = None
    """Null unless model.yaml declares costs."""
    classes: list[str] = []
    """Multiclass: the declared classes, if labels are counted by class."""
    sample: float = 1.0
    """Share of the predictions, with their labels, that drift reads: all counts are of this sample."""

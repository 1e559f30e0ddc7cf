"""Metrics of one model's arms, by arm and version; those of arms that have ended are removed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from services.runtime import metrics
from streams import records

RowResult = Literal["answered", "failed", "refused", "unavailable", "late"]
"""What became of a row: see ``driftline_arm_rows_total``."""
ROW_RESULTS: tuple[RowResult, ...] = ("answered", "failed", "refused", "unavailable", "late")
_Labels = tuple[str, str, str]
"""Model, arm and version."""
_Add = Callable[[float], None]


class _ArmSeries:
    """The series of one arm, each looked up once: a look-up takes as long as the count itself, or longer."""

    def __init__(self, labels: _Labels) -> None:
        self._labels = labels
        self._observe_seconds: _Add | None = None
        self._add_rows: dict[RowResult, _Add] = {}

    def observe_seconds(self, seconds: float) -> None:
        if self._observe_seconds is None:
            self._observe_seconds = metrics.MODEL_CALL_DURATION.labels(*self._labels).observe
        self._observe_seconds(seconds)

    def add_rows(self, result: RowResult, count: int) -> None:
        if result not in self._add_rows:
            self._add_rows[result] = metrics.ARM_ROWS.labels(*self._labels, result).inc
        self._add_rows[result](count)


class ArmMetrics:
    """The series of one model: at most those of the arms that are listed, and of calls in progress."""

    def __init__(self, model: str) -> None:
        """Start without arms."""
        self._model = model
        self._listed: set[_Labels] = set()
        self._observed: dict[_Labels, _ArmSeries] = {}

    def show(self, arms: Iterable[records.Arm]) -> None:
        """Show these arms in ``driftline_model_info``, and remove the series of all others."""
        listed = {self._labels(arm) for arm in arms}
        for labels in self._listed - listed:
            metrics.MODEL_INFO.labels(*labels).set(0)  # the samples of several workers cannot be removed
            metrics.MODEL_INFO.remove(*labels)
        for labels in self._observed.keys() - listed:
            del self._observed[labels]
            metrics.MODEL_CALL_DURATION.remove(*labels)
            for result in ROW_RESULTS:
                metrics.ARM_ROWS.remove(*labels, result)
        for labels in listed:
            metrics.MODEL_INFO.labels(*labels).set(1)
        self._listed = listed

    def count_call(self, arm: records.Arm, seconds: float, rows: Mapping[RowResult, int]) -> None:
        """Count a call of a version with some rows, by what became of them."""
        series = self._series(arm)
        series.observe_seconds(seconds)
        for result, count in rows.items():
            if count:
                series.add_rows(result, count)

    def count_rows(self, arm: records.Arm, result: RowResult, count: int) -> None:
        """Count rows of an arm."""
        series = self._series(arm)
        if count:
            series.add_rows(result, count)

    def _series(self, arm: records.Arm) -> _ArmSeries:
        labels = self._labels(arm)
        series = self._observed.get(labels)
        if series is None:
            series = self._observed[labels] = _ArmSeries(labels)
        return series

    def _labels(self, arm: records.Arm) -> _Labels:
        return self._model, arm.name, str(arm.version)

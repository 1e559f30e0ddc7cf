"""Metrics of one model's arms, by arm and version; those of arms that have ended are removed."""

from collections.abc import Iterable, Mapping
from typing import Literal

from services.runtime import metrics
from streams import records

RowResult = Literal["answered", "failed", "refused", "unavailable", "late"]
"""What became of a row: see ``driftline_arm_rows_total``."""
ROW_RESULTS: tuple[RowResult, ...] = ("answered", "failed", "refused", "unavailable", "late")
_Labels = tuple[str, str, str]
"""Model, arm and version."""


class ArmMetrics:
    """The series of one model: at most those of the arms that are listed, and of calls in progress."""

    def __init__(self, model: str) -> None:
        """Start without arms."""
        self._model = model
        self._listed: set[_Labels] = set()
        self._observed: set[_Labels] = set()

    def show(self, arms: Iterable[records.Arm]) -> None:
        """Show these arms in ``driftline_model_info``, and remove the series of all others."""
        listed = {self._labels(arm) for arm in arms}
        for labels in self._listed - listed:
            metrics.MODEL_INFO.labels(*labels).set(0)  # the samples of several workers cannot be removed
            metrics.MODEL_INFO.remove(*labels)
        for labels in self._observed - listed:
            metrics.MODEL_CALL_DURATION.remove(*labels)
            for result in ROW_RESULTS:
                metrics.ARM_ROWS.remove(*labels, result)
        for labels in listed:
            metrics.MODEL_INFO.labels(*labels).set(1)
        self._observed &= listed
        self._listed = listed

    def count_call(self, arm: records.Arm, seconds: float, rows: Mapping[RowResult, int]) -> None:
        """Count a call of a version with some rows, by what became of them."""
        metrics.MODEL_CALL_DURATION.labels(*self._labels(arm)).observe(seconds)
        for result, count in rows.items():
            self.count_rows(arm, result, count)

    def count_rows(self, arm: records.Arm, result: RowResult, count: int) -> None:
        """Count rows of an arm."""
        labels = self._labels(arm)
        self._observed.add(labels)
        if count:
            metrics.ARM_ROWS.labels(*labels, result).inc(count)

    def _labels(self, arm: records.Arm) -> _Labels:
        return self._model, arm.name, str(arm.version)

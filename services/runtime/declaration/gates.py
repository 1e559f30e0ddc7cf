"""The section ``gates``: the conditions that a new version must meet before it becomes champion."""

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from services.runtime.declaration.strict import HOUR_MS, HOURS_MAX, SECOND_HOURS, Strict
from services.runtime.suggestions import suggestion

COST = "cost"
LOSSES: Mapping[str, tuple[str, ...]] = {
    "binary": ("log_loss", "brier", COST),
    "multiclass": ("log_loss", "brier", COST),
    "regression": ("absolute_error", "squared_error", COST),
}
"""The losses of one row by task; the first is the default of ``metric``, and ``cost`` needs ``business``."""
_OF_CLASSES = ("auc", "average_precision", "precision", "recall", "f1", "accuracy", "calibration_error")
MEASURES: Mapping[str, tuple[str, ...]] = {
    "binary": (*LOSSES["binary"], *_OF_CLASSES),
    "multiclass": (*LOSSES["multiclass"], *_OF_CLASSES),
    "regression": (
        *LOSSES["regression"],
        "rmse",
        "r2",
        "bias",
        "absolute_error_p50",
        "absolute_error_p90",
        "absolute_error_p99",
    ),
}
"""The measures of held-out rows by task, see `services.retraining.evaluation`."""


class MeasureLimit(Strict):
    """The bounds of one measure on the held-out rows."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class SegmentGate(Strict):
    """No segment of ``monitoring.segments`` may be worse than with the champion."""

    tolerance: float = Field(0.0, ge=0)
    """How much worse the metric may be in a segment than the champion's."""
    minimum_rows: int = Field(200, ge=1)
    """Minimum held-out rows of a segment; smaller ones are not compared."""


class FairnessGate(Strict):
    """Differences between groups of people, at the declared threshold."""

    groups: tuple[str, ...] = Field(min_length=1)
    """Features whose values are the groups."""
    minimum_rows: int = Field(100, ge=1)
    """Minimum rows of a group, and for equal opportunity of its positive rows; smaller ones are left out."""
    equal_opportunity_max: float | None = Field(0.1, gt=0, le=1)
    """Maximum difference of the recall between two groups; null: not checked."""
    demographic_parity_max: float | None = Field(0.1, gt=0, le=1)
    """Maximum difference of the share of positive predictions between two groups; null: not checked."""


class CalibrationGate(Strict):
    """How far predicted probabilities may be from the shares that came true."""

    error_max: float = Field(0.05, gt=0, le=1)
    """Maximum expected calibration error, beyond the error that chance gives for this number of days."""


class LatencyGate(Strict):
    """What a call of the candidate may cost."""

    p50_ratio_max: float = Field(2.0, gt=0)
    """Maximum median duration of a call, as a multiple of the champion's on the same rows."""
    p99_ratio_max: float = Field(3.0, gt=0)
    """The same for the 99th percentile."""
    p99_ms_max: float | None = Field(None, gt=0)
    """Maximum 99th percentile in milliseconds, which holds without a champion, too."""
    mib_max: float | None = Field(None, gt=0)
    """Maximum size of the model in memory."""


class Gates(Strict):
    """The conditions that a candidate must meet on the held-out rows."""

    metric: str | None = None
    """The loss that is compared with the champion's; default: the loss of the task."""
    floor: float | None = None
    """No candidate whose mean loss is above this value is promoted."""
    margin: float = Field(0.0, ge=-1_000_000, le=1_000_000)
    """How much better than the champion the candidate must be; negative: how much worse it may be. If a
    candidate that passes is fitted again on newer rows, a difference within the noise of the held-out days
    is no reason to keep an older model."""
    alpha: float = Field(0.05, gt=0, le=0.25)
    """Maximum probability that a comparison with the champion passes although the margin is not met."""
    block_hours: float = Field(24, ge=SECOND_HOURS, le=HOURS_MAX)
    """Length of the blocks of event time in the intervals; rows within a block may depend on each other."""
    minimum_rows: int = Field(100, ge=1)
    """Minimum held-out rows; with fewer, no gate on measures has enough data."""
    undecided: Literal["refuse", "accept"] = "refuse"
    """What follows from a gate that has not enough data."""
    limits: dict[str, MeasureLimit] = Field({})
    """Bounds by measure."""
    segments: SegmentGate | None = None
    fairness: FairnessGate | None = None
    calibration: CalibrationGate | None = None
    latency: LatencyGate | None = None
    model_card: bool = False
    """Whether a complete and fresh model card is required."""

    @property
    def block_ms(self) -> int:
        """The block in milliseconds."""
        return round(self.block_hours * HOUR_MS)

    def metric_of(self, task: str) -> str:
        """Return the loss that is compared for a task."""
        return self.metric or LOSSES[task][0]

    def faults(self, task: str, *, has_costs: bool, has_segments: bool) -> Iterator[str]:
        """Yield what does not fit the rest of model.yaml."""
        if COST in {self.metric, *self.limits} and not has_costs:
            yield "gates: cost needs a section business that declares the costs"
        if self.fairness is not None and task != "binary":
            yield "gates.fairness: only for binary models; use gates.segments or gates.limits"
        if self.calibration is not None and task == "regression":
            yield "gates.calibration: a regression predicts no probabilities; use gates.limits with bias"
        if self.segments is not None and not has_segments:
            yield "gates.segments: name the features in monitoring.segments"
        if self.metric_of(task) not in LOSSES[task]:
            known = ", ".join(LOSSES[task])
            yield f"gates.metric: {self.metric!r} is no loss of a {task} model; known: {known}"
        for name in self.limits:
            if name not in MEASURES[task]:
                near = suggestion(name, MEASURES[task])
                yield f"gates.limits: {name!r} is no measure of a {task} model{near}"

    @model_validator(mode="after")
    def _check_floor(self) -> Self:
        if self.floor is None and not self.limits:
            raise ValueError("give floor or limits: without a champion they alone decide")
        return self

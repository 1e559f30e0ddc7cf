"""The section ``slo``: service level objectives."""

from typing import Literal, Self

from pydantic import Field, model_validator

from services.runtime.declaration.strict import DAY_MS, Strict

LATENCY_BOUNDS_MS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)
"""Bucket bounds of the latency histogram: only for these is the share of predictions in time known
exactly."""


class Objective(Strict):
    """The share of good events that is required, and the number of days over which it is measured."""

    objective: float = Field(gt=0, lt=1)
    window_days: float = Field(28, gt=0, le=366)

    @property
    def window_ms(self) -> int:
        """The window in milliseconds."""
        return round(self.window_days * DAY_MS)


class LatencyObjective(Objective):
    """The share of predictions in time."""

    within_ms: float
    """The maximum latency; one of the bounds of the histogram."""
    channel: Literal["rest", "kafka"] = "rest"
    """``rest``: HTTP requests; ``kafka``: slices of the request topic."""

    @model_validator(mode="after")
    def _check_bound(self) -> Self:
        if self.within_ms not in LATENCY_BOUNDS_MS:
            raise ValueError(f"within_ms: must be one of {', '.join(f'{ms:g}' for ms in LATENCY_BOUNDS_MS)}")
        return self


class AccuracyObjective(Objective):
    """The share of good windows, or of correct predictions."""

    measure: Literal["windows", "answers"] = "windows"
    """``windows``: windows whose mean loss is within the tolerance; ``answers``: predictions that are
    correct, among those with a label."""
    loss_tolerance: float | None = Field(None, ge=0)
    """Tolerance above the reference's loss; default: ``monitoring.loss_tolerance``."""


class Slo(Strict):
    """Service level objectives; those not declared are not measured."""

    latency: LatencyObjective | None = None
    availability: Objective | None = None
    """The share of valid requests that get a prediction."""
    accuracy: AccuracyObjective | None = None

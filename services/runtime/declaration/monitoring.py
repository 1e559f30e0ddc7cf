"""The section ``monitoring``: windows, thresholds and bounds of drift."""

from typing import Literal, Self

from pydantic import Field, model_validator

from services.runtime.declaration.strict import HOUR_MS, HOURS_MAX, MONTH_MS, SECOND_HOURS, Strict

LATE_WINDOWS_MAX = 400
"""Maximum closed windows kept for late records; each takes 1 KiB per feature."""
Part = Literal["hour", "weekday", "month"]
"""The time zone is UTC; Monday is weekday 0, January month 0."""
Detector = Literal["adwin", "page_hinkley", "kswin", "ddm", "eddm", "hddm_a", "hddm_w", "fhddm"]


class QualityBounds(Strict):
    """Bounds on the values of one feature, as they are served."""

    min: float | None = None
    max: float | None = None
    allowed: tuple[str, ...] = ()
    """Allowed values; a number is compared as text."""
    null_share_max: float | None = Field(None, ge=0, le=1)
    """Maximum share of nulls in a window; default: no bound, but 0 for fields of the request that are not
    nullable."""
    invalid_share_max: float = Field(0.0, ge=0, le=1)
    """Maximum share of a window's values with a wrong type, out of bounds, or not allowed."""

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if self.allowed and (self.min is not None or self.max is not None):
            raise ValueError(
                "allowed cannot be combined with min or max: give allowed for categories, or min and max "
                "for numbers"
            )
        return self


class Monitoring(Strict):
    """Windows and thresholds of the drift process."""

    window_hours: float = Field(24, ge=SECOND_HOURS, le=HOURS_MAX)
    lateness_hours: float = Field(24, ge=0)
    """Time after the end of a window in which late predictions and labels still change it; it is then
    reported again."""
    psi_threshold: float = Field(0.2, gt=0)
    """Effect: the population stability index from which a feature counts as drifted. The value that a small
    window would show by chance is added to it."""
    p_value_threshold: float = Field(0.001, gt=0, lt=1)
    """Evidence: the significance level for all features of a window together."""
    new_category_share: float = Field(0.01, gt=0, le=1)
    """Effect: the share of values in new categories from which they count as drift."""
    false_alarms_per_month: float = Field(0.1, gt=0, le=1000)
    """Maximum mean number of false alarms per month, for all features, segments and scores together."""
    season: dict[str, tuple[Part, ...]] = Field({})
    """The parts of the event time (UTC) with which a feature is known to change, by feature."""
    quality: dict[str, QualityBounds] = Field({})
    """Bounds on the values, by feature. A window that violates them raises an alarm."""
    segments: tuple[str, ...] = ()
    """Features whose most frequent values are monitored separately."""
    block_hours: float = Field(24, ge=SECOND_HOURS, le=HOURS_MAX)
    """Length of a block of time: values within a block depend on each other, blocks are treated as
    independent."""
    loss_block_hours: float | None = Field(None, ge=SECOND_HOURS, le=HOURS_MAX)
    """The same for losses; default: ``block_hours``. With a shorter block a bad week counts as harm although
    such weeks come by chance, and harm is found sooner."""
    detectors: tuple[Detector, ...] = ()
    """Additional detectors of river on the loss; their alarms are not limited by the false-alarm budget."""
    adwin_delta: float | None = Field(None, gt=0, lt=1, repr=False)
    """Has no effect since losses are judged by evidence; files that declare it stay valid."""
    alarm_windows: int = Field(3, ge=1, le=100)
    """Consecutive calm windows after which an alarm about the loss or a quality bound is resolved."""
    loss_tolerance: float = Field(0.03, ge=0)
    """How far the mean loss may be above the reference's before the model counts as worse; for a regression,
    as a share of the reference's loss."""
    loss_windows: int = Field(7, ge=1, le=366)
    """Number of windows in the mean of estimates, and of the first labels of a model without a reference."""
    sample: float = Field(1.0, ge=0.0001, le=1)
    """Share of the predictions, with their labels, that drift reads: less than 1 for a very hot model."""
    mature_share: float = Field(0.99, gt=0, le=1)
    """Share of the expected labels that must have arrived before the performance of a window's predictions
    counts as known. Until then it is provisional."""

    @property
    def patience_ms(self) -> float:
        """Minimum mean time between two false alarms of the model, in milliseconds."""
        return MONTH_MS / self.false_alarms_per_month

    @property
    def block_ms(self) -> int:
        """The block in milliseconds."""
        return round(self.block_hours * HOUR_MS)

    @property
    def loss_block_ms(self) -> int:
        """The block of losses in milliseconds."""
        return self.block_ms if self.loss_block_hours is None else round(self.loss_block_hours * HOUR_MS)

    @property
    def window_ms(self) -> int:
        """The window in milliseconds."""
        return round(self.window_hours * HOUR_MS)

    @property
    def lateness_ms(self) -> int:
        """The lateness in milliseconds."""
        return round(self.lateness_hours * HOUR_MS)

    @model_validator(mode="after")
    def _check_lateness(self) -> Self:
        if self.lateness_hours > LATE_WINDOWS_MAX * self.window_hours:
            raise ValueError(
                f"lateness_hours must be at most {LATE_WINDOWS_MAX} times window_hours, because all windows "
                "of this time are kept"
            )
        return self

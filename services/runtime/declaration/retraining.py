"""The section ``retraining``: when a new version is trained, and on which data."""

from typing import Literal, Self

from pydantic import Field, model_validator

from services.runtime.declaration.strict import DAYS_MAX, HOURS_MAX, Strict


class ParameterSearch(Strict):
    """What the search of the estimator's parameters may take; it ends with the trial that reaches either."""

    trials: int = Field(30, ge=1, le=10_000)
    minutes: float = Field(30, gt=0, le=DAYS_MAX * 1440)


class Retraining(Strict):
    """When a new model is trained, and on which data."""

    harm: Literal["loss", "cost"] = "loss"
    """The measure that must have risen: the loss, or the cost that ``business`` declares."""
    on_estimate: bool = False
    """Whether a rise that is only estimated, before the labels arrive, also requests a retraining."""
    window: Literal["all", "since_change", "auto"] = "all"
    """The training set: all data, or the data since the change, if that has enough labels; auto: the window
    that is best on days before the held-out ones."""
    recent_days: float | None = Field(None, gt=0, le=DAYS_MAX)
    """Length of the recent window that ``window: auto`` also tries; null: none."""
    calibration: Literal["none", "auto"] = "none"
    """Calibration of a classifier's probabilities; auto: if it helps on rows before the held-out days."""
    max_days: float | None = Field(None, gt=0, le=DAYS_MAX)
    """Only rows of this many days before the last one are used; null: all."""
    max_rows: int | None = Field(None, ge=1)
    """Only this many of the latest rows are used; null: all."""
    class_weight: Literal["none", "balanced"] = "none"
    """Weights of the rows in training; balanced: each class has the same sum. The probabilities are then
    those of balanced classes."""
    search: ParameterSearch | None = None
    """Parameters are searched with ``search_space`` of training.py; null: the estimator is taken as it is."""
    cooldown_days: float = Field(14, ge=0, le=DAYS_MAX)
    """Days after a training in which drift, schedule and labels request none; a failed one does not count."""
    every_days: float | None = Field(None, gt=0, le=DAYS_MAX)
    """A retraining is requested this many days after the last training; null: no schedule."""
    after_labels: int | None = Field(None, ge=1)
    """A retraining is requested when this many labels have come since the last training; null: never."""
    minimum_labels: int = Field(1000, ge=1)
    holdout_days: float = Field(7, gt=0, le=DAYS_MAX)
    effective_after_hours: float = Field(0, ge=0, le=HOURS_MAX)
    refit: bool = False
    """Whether a candidate that passed the gates is fitted again on all rows, including the held-out days."""
    memory_mib_max: int = Field(8192, ge=64)
    """Memory of the process that trains; one that takes more is ended, and the retraining fails."""
    minutes_max: float = Field(720, gt=0, le=DAYS_MAX * 1440)
    """Time of all steps of a retraining, of each attempt; one that takes longer is ended and fails."""
    bad_rows_max: float = Field(0.01, ge=0, lt=1)
    """Maximum share of the rows that validation may drop; with more, the training set is refused."""
    leak_score_max: float = Field(0.99, gt=0.5, le=1)
    """How well one feature alone may tell the label: the share of pairs of rows that it orders rightly, for a
    regression the rank correlation. Above it, the gate ``leakage`` fails."""

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.recent_days is not None and self.window != "auto":
            raise ValueError(
                f"recent_days: only with window: auto, but it is {self.window}; to train on recent days "
                "always, use max_days"
            )
        return self

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        if self.search is not None and self.search.minutes >= self.minutes_max:
            raise ValueError(
                f"search.minutes: {self.search.minutes:g} is not below minutes_max, {self.minutes_max:g}: "
                "a training would be ended in its search"
            )
        return self

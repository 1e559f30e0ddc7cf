"""The sections ``retraining`` and ``gates``: when a new version is trained, and what it must meet."""

from typing import Literal

from pydantic import Field

from services.runtime.declaration.strict import Strict


class Retraining(Strict):
    """When a new model is trained, and on which data."""

    harm: Literal["loss", "cost"] = "loss"
    """The measure that must have risen: the loss, or the cost that ``business`` declares."""
    on_estimate: bool = False
    """Whether a rise that is only estimated, before the labels arrive, also requests a retraining."""
    window: Literal["all", "since_change"] = "all"
    """The training set: all data, or the data since the change, if that has enough labels."""
    cooldown_days: float = Field(14, ge=0)
    minimum_labels: int = Field(1000, ge=1)
    holdout_days: float = Field(7, gt=0)
    effective_after_hours: float = Field(0, ge=0)
    refit: bool = False
    """Whether a candidate that passed the gates is fitted again on all rows, including the held-out days."""


class Gates(Strict):
    """The conditions that a candidate must meet."""

    metric: Literal["log_loss"] = "log_loss"
    floor: float
    margin: float = Field(0.0, ge=-1, le=1)
    """How much better than the champion the candidate must be; negative: how much worse it may be. If a
    candidate that passes is fitted again on newer rows, a difference within the noise of the held-out days
    is no reason to keep an older model."""

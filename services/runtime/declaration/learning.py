"""The section ``learning``: a model that learns from each label."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from services.runtime import times
from services.runtime.declaration.gates import COST, LOSSES, MeasureLimit
from services.runtime.declaration.strict import HOUR_MS, HOURS_MAX, SECOND_HOURS, Strict

REFERENCE_ROWS_MIN = 300
"""Minimum rows of a reference: with fewer, chance alone moves distributions by more than a threshold."""
INTERVALS_AHEAD_MAX = 32
"""Maximum published versions of a learning model that have not taken effect yet."""


def _time_ms(value: Any) -> Any:
    """Convert a time as people write it to milliseconds; it has an offset."""
    return value if value is None else times.instant_ms(str(value))


Time = Annotated[
    int | None,
    BeforeValidator(_time_ms),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
]


class LearningReference(Strict):
    """The labelled predictions from which the reference of a model that learns online is made."""

    rows: int = Field(5000, ge=REFERENCE_ROWS_MIN, le=50_000)
    """Maximum number of them, the first ones by event time; they are kept in the checkpoint until the label
    horizon of the last one has passed."""
    since_ms: Time = Field(None, alias="since")
    """Event time of the first one, with an offset; default: the first prediction with a score."""
    until_ms: Time = Field(None, alias="until")
    """Event time at which the period ends, even with fewer rows; default: when there are enough."""

    def contains(self, time_ms: int) -> bool:
        """Tell whether an event time is within the period."""
        return (self.since_ms is None or time_ms >= self.since_ms) and (
            self.until_ms is None or time_ms < self.until_ms
        )

    @model_validator(mode="after")
    def _check_period(self) -> Self:
        if self.since_ms is not None and self.until_ms is not None and self.since_ms >= self.until_ms:
            raise ValueError("since must be before until")
        return self


class LearningGates(Strict):
    """What a learned version must meet to become the champion, see `services.learning.version_gate`."""

    limits: dict[str, MeasureLimit] = Field({})
    """Bounds of the mean of losses, by name. They are measured on rows of the interval, each before it is
    learned."""
    tolerance: float = Field(0.2, ge=0, le=100)
    """How much worse than the predictions that were served the version may be, as a share of their loss."""
    minimum_rows: int = Field(50, ge=1)
    """Minimum measured rows; with fewer, a gate has not enough data. 64 to 256 are measured."""
    undecided: Literal["refuse", "accept"] = "accept"
    """What follows from a gate that has not enough data."""
    lasting_intervals: int = Field(3, ge=1, le=1000)
    """Number of intervals in a row after which labels that contradict the earlier ones are a lasting change.
    Until then, no version that learned from them becomes the champion."""

    def faults(self, task: str, *, has_costs: bool) -> Iterator[str]:
        """Yield what does not fit the rest of model.yaml."""
        for name in self.limits:
            if name not in LOSSES[task]:
                known = ", ".join(LOSSES[task])
                yield f"learning.gates.limits: {name!r} is no loss of a {task} model; known: {known}"
            if name == COST and not has_costs:
                yield "learning.gates.limits: cost needs a section business that declares the costs"


class Learning(Strict):
    """Online learning: the model learns from every label instead of being retrained."""

    every_hours: float = Field(24, ge=SECOND_HOURS, le=HOURS_MAX)
    """Length of an interval of event time. The labels of an interval are learned together, then the model is
    published as a version."""
    effective_after_hours: float = Field(24, ge=0, le=HOURS_MAX)
    """Event time from the end of an interval until its version scores requests."""
    minimum_labels: int = Field(1000, ge=1)
    """Number of labels before the first version is published; until then requests are only collected."""
    reference: LearningReference = LearningReference()
    gates: LearningGates = LearningGates()

    @property
    def interval_ms(self) -> int:
        """The interval in milliseconds."""
        return round(self.every_hours * HOUR_MS)

    @property
    def delay_ms(self) -> int:
        """The delay in milliseconds."""
        return round(self.effective_after_hours * HOUR_MS)

    @model_validator(mode="after")
    def _check_delay(self) -> Self:
        if self.effective_after_hours > INTERVALS_AHEAD_MAX * self.every_hours:
            raise ValueError(
                f"effective_after_hours must be at most {INTERVALS_AHEAD_MAX} times every_hours, because "
                "each version is kept until it takes effect"
            )
        return self

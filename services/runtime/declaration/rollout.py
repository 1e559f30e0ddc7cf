"""The section ``rollout``: how a new version replaces the champion."""

import itertools
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, field_validator, model_validator

from services.runtime.declaration.strict import HOUR_MS, HOURS_MAX, SECOND_HOURS, Strict

WHOLE = 10_000
"""A share of all keys; shares are in 1/10,000."""
SHADOW = "shadow"
STEPS_MAX = 12
MAXIMUM_HOURS = 2160
"""Maximum hours of a step, 90 days: the evidence of a step is kept in blocks of bounded number."""
_PERCENT = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))?\s*%")


def _share(value: Any) -> Any:
    """Convert a share as people write it, such as ``5%`` or ``shadow``, to 1/10,000."""
    if value == SHADOW:
        return 0
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a share: write {SHADOW}, or a percentage such as 5%")
    weight = int(found[1]) * 100 + int((found[2] or "0").ljust(2, "0"))
    if not 1 <= weight <= WHOLE:
        raise ValueError(f"{value!r} is not a share: it must be within 0.01% and 100%")
    return weight


def _written(weight: int) -> str:
    """Return a share as people write it: a declaration that is stored as JSON is read again."""
    return SHADOW if weight == 0 else f"{weight / 100:g}%"


class RolloutStep(Strict):
    """A part of a rollout: which keys the new version answers, and how long it is watched there."""

    share: Annotated[
        int,
        BeforeValidator(_share),
        PlainSerializer(_written, when_used="json"),
        WithJsonSchema({"type": "string", "pattern": rf"^({SHADOW}|{_PERCENT.pattern})$"}),
    ]
    """Share of the keys, in 1/10,000; 0: a shadow, which answers none."""
    minimum_hours: float = Field(1, ge=0, le=MAXIMUM_HOURS)
    """Minimum event time before the step may be passed."""
    maximum_hours: float = Field(336, gt=0, le=MAXIMUM_HOURS)
    """Event time after which the step is inconclusive."""
    minimum_requests: int = Field(100, ge=1)
    """Minimum number of keys, or of requests of a shadow, that the new version has answered."""
    minimum_labels: int = Field(100, ge=0)
    """Minimum number of these that have a label."""
    passed_when: Literal["within_margin", "not_worse"] | None = None
    """``within_margin``: each guardrail is surely within its margin; ``not_worse``: none is surely worse.
    Default: ``not_worse`` for a share that is not the last step, else ``within_margin``."""

    @property
    def is_shadow(self) -> bool:
        """Whether the new version answers nobody."""
        return self.share == 0

    @property
    def is_whole(self) -> bool:
        """Whether the new version answers everybody, as in blue/green."""
        return self.share == WHOLE

    @model_validator(mode="after")
    def _check_hours(self) -> Self:
        if self.minimum_hours > self.maximum_hours:
            raise ValueError(
                f"minimum_hours {self.minimum_hours:g} is above maximum_hours {self.maximum_hours:g}"
            )
        return self


class LossGuardrail(Strict):
    """The loss of the task: log loss, or the absolute error of a regression."""

    margin: float = Field(gt=0)
    """How far the mean may be above the champion's, in the unit of the loss."""
    maximum: float = Field(4.0, gt=0)
    """A larger loss of one request counts as this."""


class CostGuardrail(Strict):
    """The cost that ``business`` declares."""

    margin: float = Field(gt=0)
    """How far the mean may be above the champion's, in the declared unit."""


class ErrorGuardrail(Strict):
    """Requests that the new version does not answer: the champion answers, or a shadow has no score."""

    margin: float = Field(0.01, gt=0, lt=1)
    """Share of the requests that may lack an answer of the new version more often than one of the
    champion."""


class LatencyGuardrail(Strict):
    """Calls of the model that take longer than a quantile of the champion's calls."""

    quantile: float = Field(0.95, gt=0.5, lt=1)
    margin: float = Field(0.1, gt=0, lt=1)
    """How much the share of such calls may be above the champion's."""


class Guardrails(Strict):
    """What must not become worse; a guardrail that is not declared is not watched."""

    loss: LossGuardrail | None = None
    cost: CostGuardrail | None = None
    errors: ErrorGuardrail | None = ErrorGuardrail()
    latency: LatencyGuardrail | None = LatencyGuardrail()

    @property
    def names(self) -> tuple[str, ...]:
        """The guardrails that are watched."""
        return tuple(name for name in ("loss", "cost", "errors", "latency") if getattr(self, name))


class Rollout(Strict):
    """How a new version replaces the champion."""

    keep_first_as_shadow: str | None = None
    """Name of a shadow arm that keeps scoring with the very first version."""
    steps: tuple[RolloutStep, ...] = Field((), max_length=STEPS_MAX)
    """Without steps a new version is the champion at once. After the last one it is the champion."""
    guardrails: Guardrails = Guardrails()
    alpha: float = Field(0.05, gt=0, lt=0.5)
    """Maximum probability that a version which is not worse is rolled back, over all steps and guardrails;
    also the maximum probability that a version outside of a margin passes a step that asks for it."""
    when_inconclusive: Literal["end", "continue", "pass"] = "end"
    """What follows the maximum time of a step. ``end``: the champion gets everything back; ``continue``: the
    step goes on until a person ends it; ``pass``: the next step begins."""
    label_hours: float | None = Field(None, gt=0, le=HOURS_MAX)
    """Event time after a request at which its label counts; default: ``label.horizon_hours``. Requests
    without a label by then count as unlabelled."""
    block_hours: float | None = Field(None, ge=SECOND_HOURS, le=HOURS_MAX)
    """Length of a block of time for comparisons on the same requests; default: ``monitoring.block_hours``."""

    @property
    def tests(self) -> int:
        """The number of tests that share alpha: each guardrail and the arms' shares, in each step."""
        return max(len(self.steps) * (len(self.guardrails.names) + 1), 1)

    def passed_when(self, number: int) -> Literal["within_margin", "not_worse"]:
        """Return what a step asks for."""
        step = self.steps[number]
        if step.passed_when is not None:
            return step.passed_when
        is_last = number == len(self.steps) - 1
        return "within_margin" if step.is_shadow or is_last else "not_worse"

    def label_ms(self, horizon_ms: int) -> int:
        """Return the time after a request at which its label counts, given the label horizon."""
        return horizon_ms if self.label_hours is None else min(round(self.label_hours * HOUR_MS), horizon_ms)

    @field_validator("keep_first_as_shadow")
    @classmethod
    def _check_shadow(cls, name: str | None) -> str | None:
        if name in ("", "champion"):
            raise ValueError(f"{name!r} cannot be the name of a shadow: choose another, such as first")
        return name

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        shares = [step.share for step in self.steps]
        if any(first >= second for first, second in itertools.pairwise(shares)):
            raise ValueError("steps: the share must rise from step to step; a shadow can only be the first")
        if self.steps and not self.guardrails.names:
            raise ValueError("guardrails: a rollout with steps needs at least one guardrail")
        return self

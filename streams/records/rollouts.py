"""Rollouts: who asked for one, its steps, and how it ended. Together they are the state of the rollout."""

from typing import Literal

import msgspec

from streams.records.field_types import Int64, TimeMs

RolloutOutcome = Literal["promoted", "rolled_back", "inconclusive", "ended"]


class GuardrailFigures(msgspec.Struct, kw_only=True, frozen=True):
    """What a step has shown of one guardrail, at the time of a decision."""

    guardrail: str
    """``loss``, ``cost``, ``errors``, ``latency`` or ``shares``."""
    evidence: float
    """Log of the evidence that the new version is worse."""
    needed: float
    """Log evidence from which it counts as worse."""
    within: float
    """Log of the evidence that it is within the margin."""
    within_needed: float
    difference: float | None = None
    """Mean of the new version minus that of the champion; null without both."""
    low: float | None = None
    """The difference is at least this, at all times together; null if it is not known."""
    high: float | None = None
    count: Int64 = 0
    """Keys, requests or units of time of the new version in the comparison."""


class RolloutRequested(msgspec.Struct, kw_only=True, frozen=True, tag="rollout_requested"):
    """Somebody asks for the rollout of a version."""

    request_id: str
    model: str
    version: Int64
    requested_at_ms: TimeMs
    """Wall time."""
    reason: str
    actor: str


class RolloutStarted(msgspec.Struct, kw_only=True, frozen=True, tag="rollout_started"):
    """A rollout begins. ``rollout_id`` is the id of its request."""

    rollout_id: str
    model: str
    version: Int64
    champion: Int64
    """The version that it has to match; 0: none."""
    at_ms: TimeMs
    """Event time."""
    reason: str
    actor: str
    awaits_approval: bool = False


class RolloutStepped(msgspec.Struct, kw_only=True, frozen=True, tag="rollout_stepped"):
    """A step of a rollout begins."""

    rollout_id: str
    model: str
    version: Int64
    champion: Int64
    step: Int64
    """From 0 on, in the order of model.yaml."""
    share: Int64
    """Share of the keys that the version answers from ``at_ms`` on, in 1/10,000; 0: a shadow."""
    at_ms: TimeMs
    """Event time from which on its arms are in effect."""
    reason: str
    arms_before: str
    """The arms on which the decision was based, and those that follow, in short. A change of the models topic
    that is neither was made by somebody else, and ends the rollout."""
    arms_after: str
    evidence: list[GuardrailFigures] = []


class RolloutEnded(msgspec.Struct, kw_only=True, frozen=True, tag="rollout_ended"):
    """A rollout is over: exactly one for each request that was taken up."""

    rollout_id: str
    model: str
    version: Int64
    champion: Int64
    outcome: RolloutOutcome
    """``promoted``; ``rolled_back``: a guardrail was worse; ``inconclusive``; ``ended``: by a person, or
    because the rollout was not possible (any more)."""
    at_ms: TimeMs
    """Event time."""
    reason: str
    arms_before: str
    arms_after: str
    evidence: list[GuardrailFigures] = []

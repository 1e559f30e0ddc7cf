"""The rollouts of a model as they follow from the records of `driftline.rollouts`. Pure.

candidate -> awaiting_approval -> shadow -> canary steps -> champion | rolled back | inconclusive | ended

Each decision is one record, which is written first. Arms and aliases follow from it. So after a crash between
any two writes the records say what is still to be done, and doing it again changes nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from services.rollout import rollout_arms
from services.rollout.step_verdict import StepVerdict
from services.runtime.declaration import Rollout
from streams.records import (
    Arm,
    GuardrailFigures,
    RolloutEnded,
    RolloutOutcome,
    RolloutRecord,
    RolloutRequested,
    RolloutStarted,
    RolloutStepped,
)

Phase = Literal["awaiting_approval", "candidate", "running", "ended"]
"""``candidate``: started, and its first step is still to be decided."""


class RolloutProgress(msgspec.Struct, frozen=True):
    """One rollout."""

    rollout_id: str
    version: int
    champion: int
    phase: Phase
    at_ms: int
    """Event time at which the phase or the step began."""
    reason: str
    actor: str = ""
    step: int = -1
    share: int = 0
    arms_before: str = ""
    arms_after: str = ""
    outcome: RolloutOutcome | None = None
    last: RolloutStarted | RolloutStepped | RolloutEnded | None = None
    """The latest record."""


class ModelRollouts:
    """The rollouts of one model, one after another."""

    def __init__(self) -> None:
        """Start without any."""
        self.current: RolloutProgress | None = None
        """The latest one that began; it may have ended."""
        self.waiting: list[RolloutRequested] = []
        """Requests that no rollout has taken up, in their order."""
        self.superseded: list[RolloutEnded] = []
        """The ends of requests that no rollout has taken up, whose ledger entries are to be checked."""
        self._taken: set[str] = set()

    @property
    def is_active(self) -> bool:
        """Whether a rollout goes on."""
        return self.current is not None and self.current.phase != "ended"

    def apply(self, record: RolloutRecord) -> None:
        """Take a record, in the order of the topic. Repeats change nothing."""
        if isinstance(record, RolloutRequested):
            self.request(record)
        elif isinstance(record, RolloutStarted):
            self._start(record)
        elif self.current is not None and record.rollout_id == self.current.rollout_id and self.is_active:
            self.current = _stepped(self.current, record)
        elif isinstance(record, RolloutEnded) and record.rollout_id not in self._taken:
            self._take(record.rollout_id)
            self.superseded.append(record)

    def request(self, request: RolloutRequested) -> None:
        """Take a request, of this topic or of a retraining that passed."""
        known = {each.request_id for each in self.waiting} | self._taken
        if request.request_id not in known:
            self.waiting.append(request)

    def _start(self, record: RolloutStarted) -> None:
        if record.rollout_id in self._taken:
            return
        self._take(record.rollout_id)
        self.current = RolloutProgress(
            rollout_id=record.rollout_id,
            version=record.version,
            champion=record.champion,
            phase="awaiting_approval" if record.awaits_approval else "candidate",
            at_ms=record.at_ms,
            reason=record.reason,
            actor=record.actor,
            last=record,
        )

    def _take(self, request_id: str) -> None:
        self._taken.add(request_id)
        self.waiting = [each for each in self.waiting if each.request_id != request_id]


def _stepped(progress: RolloutProgress, record: RolloutStepped | RolloutEnded) -> RolloutProgress:
    common = {
        "at_ms": record.at_ms,
        "reason": record.reason,
        "champion": record.champion,
        "arms_before": record.arms_before,
        "arms_after": record.arms_after,
        "last": record,
    }
    if isinstance(record, RolloutEnded):
        return msgspec.structs.replace(progress, phase="ended", outcome=record.outcome, **common)
    return msgspec.structs.replace(progress, phase="running", step=record.step, share=record.share, **common)


def fold(records: Iterable[RolloutRecord]) -> ModelRollouts:
    """Return the rollouts of one model after its records."""
    found = ModelRollouts()
    for record in records:
        found.apply(record)
    return found


# -- what follows ------------------------------------------------------------------------------


def started(
    request: RolloutRequested, arms: Sequence[Arm], *, at_ms: int, awaits_approval: bool
) -> RolloutStarted:
    """Return the record that takes up a request."""
    return RolloutStarted(
        rollout_id=request.request_id,
        model=request.model,
        version=request.version,
        champion=rollout_arms.champion_of(arms),
        at_ms=at_ms,
        reason=request.reason,
        actor=request.actor,
        awaits_approval=awaits_approval,
    )


def superseded(request: RolloutRequested, later: RolloutRequested, *, at_ms: int) -> RolloutEnded:
    """Return the record that ends a request which waited, because a later one came."""
    reason = f"version {later.version} was requested before this rollout could begin"
    return RolloutEnded(
        rollout_id=request.request_id,
        model=request.model,
        version=request.version,
        champion=0,
        outcome="ended",
        at_ms=at_ms,
        reason=reason,
        arms_before="",
        arms_after="",
    )


def impossible(progress: RolloutProgress, arms: Sequence[Arm], declared: Rollout | None) -> str | None:
    """Return why a rollout cannot begin, or go on; None if it can."""
    if declared is None:
        return "the model is not declared any more"
    if progress.phase == "running":
        if progress.step >= len(declared.steps):
            return "model.yaml declares fewer steps than before"
        return None
    if progress.version == rollout_arms.champion_of(arms):
        return f"version {progress.version} is the champion already"
    if rollout_arms.is_taken(arms, progress.version):
        return (
            f"the arm {rollout_arms.CHALLENGER} or {rollout_arms.PREVIOUS} belongs to another version: end "
            "it with 'driftline models end' or 'driftline models shadow --remove', and request it again"
        )
    return None


def interference(progress: RolloutProgress, arms: Sequence[Arm], reason: str) -> str | None:
    """Return how somebody else has changed the arms of a running rollout; None if nobody has."""
    now = rollout_arms.described(arms)
    if progress.phase != "running" or now in (progress.arms_after, progress.arms_before):
        return None
    return f"the arms were changed during the rollout ({reason}): {now}; expected: {progress.arms_after}"


def is_in_effect(progress: RolloutProgress, arms: Sequence[Arm]) -> bool:
    """Tell whether the arms are those that the latest record asks for."""
    return rollout_arms.described(arms) == progress.arms_after


def next_step(
    model: str,
    progress: RolloutProgress,
    declared: Rollout,
    arms: Sequence[Arm],
    verdict: StepVerdict,
    at_ms: int,
) -> RolloutStepped | RolloutEnded | None:
    """Return the record that follows from a verdict on the present step; None if the step goes on."""
    outcome: RolloutOutcome
    match verdict.kind, declared.when_inconclusive:
        case ("open", _) | ("inconclusive", "continue"):
            return None
        case ("passed", _) | ("inconclusive", "pass"):
            return step(
                model, progress, declared, arms, progress.step + 1, at_ms, verdict.reason, verdict.figures
            )
        case ("worse", _):
            outcome = "rolled_back"
        case _:
            outcome = "inconclusive"
    return end(model, progress, arms, outcome, at_ms, verdict.reason, verdict.figures)


def step(
    model: str,
    progress: RolloutProgress,
    declared: Rollout,
    arms: Sequence[Arm],
    number: int,
    at_ms: int,
    reason: str,
    figures: Sequence[GuardrailFigures] = (),
) -> RolloutStepped | RolloutEnded:
    """Return the record that begins a step, or that ends the rollout after the last one."""
    champion = rollout_arms.champion_of(arms)
    if number >= len(declared.steps) or not champion:
        return end(model, progress, arms, "promoted", at_ms, reason, figures)
    share = declared.steps[number].share
    after = rollout_arms.of_step(arms, progress.version, champion, share, at_ms=at_ms)
    return RolloutStepped(
        rollout_id=progress.rollout_id,
        model=model,
        version=progress.version,
        champion=champion,
        step=number,
        share=share,
        at_ms=at_ms,
        reason=reason,
        arms_before=rollout_arms.described(arms),
        arms_after=rollout_arms.described(after),
        evidence=list(figures),
    )


def end(
    model: str,
    progress: RolloutProgress,
    arms: Sequence[Arm],
    outcome: RolloutOutcome,
    at_ms: int,
    reason: str,
    figures: Sequence[GuardrailFigures] = (),
) -> RolloutEnded:
    """Return the record that ends a rollout."""
    after = arms_after_end(progress, arms, outcome, at_ms)
    return RolloutEnded(
        rollout_id=progress.rollout_id,
        model=model,
        version=progress.version,
        champion=progress.champion or rollout_arms.champion_of(arms),
        outcome=outcome,
        at_ms=at_ms,
        reason=reason,
        arms_before=rollout_arms.described(arms),
        arms_after=rollout_arms.described(after),
        evidence=list(figures),
    )


def arms_after_end(
    progress: RolloutProgress, arms: Sequence[Arm], outcome: RolloutOutcome, at_ms: int
) -> list[Arm]:
    """Return the arms after the end of a rollout."""
    if outcome == "promoted":
        starts_ms = at_ms if arms else 0  # the first model answers everything
        return rollout_arms.of_step(
            arms, progress.version, progress.champion, 0, at_ms=starts_ms, changes_champion=True
        )
    return rollout_arms.after_end(arms, progress.version, progress.champion, at_ms=at_ms)


def arms_asked_for(progress: RolloutProgress, arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms that the latest record asks for, made from those before it."""
    if progress.phase == "ended":
        assert progress.outcome is not None, "a rollout that has ended has an outcome"
        return arms_after_end(progress, arms, progress.outcome, progress.at_ms)
    return rollout_arms.of_step(
        arms, progress.version, progress.champion, progress.share, at_ms=progress.at_ms
    )

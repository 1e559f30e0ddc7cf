"""What the evidence of a step says: go on, pass, roll back, or nothing after all that time. Pure."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from services.rollout.evidence import log_threshold
from services.runtime.declaration import HOUR_MS, Rollout
from streams.records import GuardrailFigures

VerdictKind = Literal["open", "passed", "worse", "inconclusive", "mismatch"]
SHARES = "shares"
"""The test whether the arms have the keys that they should; it is no guardrail, and runs always."""


class GuardrailFinding(NamedTuple):
    """The evidence on one guardrail, or on the arms' shares."""

    guardrail: str
    worse: float
    """Log evidence that the new version is worse."""
    within: float
    """Log evidence that it is within the margin."""
    counted: int = 0
    difference: float | None = None
    low: float | None = None
    high: float | None = None


class StepVerdict(NamedTuple):
    """What follows for the step, why, and from which figures."""

    kind: VerdictKind
    reason: str
    figures: list[GuardrailFigures]


class StepCounts(NamedTuple):
    """How far a step has come."""

    elapsed_ms: int
    """Event time."""
    requests: int
    """Keys, or requests of a shadow, that the new version has answered."""
    labels: int


def judge(
    rollout: Rollout, number: int, findings: Sequence[GuardrailFinding], counts: StepCounts
) -> StepVerdict:
    """Return the verdict on a step.

    Args:
        rollout: The declaration.
        number: The step, from 0 on.
        findings: One for each guardrail, and one for the shares.
        counts: How far the step has come.
    """
    worse_needed, within_needed = log_threshold(rollout.alpha, rollout.tests), log_threshold(rollout.alpha)
    figures = [figures_of(each, worse_needed, within_needed) for each in findings]
    mismatch = next((each for each in findings if each.guardrail == SHARES), None)
    if mismatch is not None and mismatch.worse >= worse_needed:
        reason = (
            "the arms do not get the shares of the keys that they should: requests of one arm are lost, "
            f"fail or count twice, so nothing can be compared (evidence {_times(mismatch.worse)})"
        )
        return StepVerdict("mismatch", reason, figures)
    guardrails = [each for each in findings if each.guardrail != SHARES]
    is_within = {each.guardrail: each.within >= within_needed for each in guardrails}
    for each in guardrails:
        if each.worse >= worse_needed and not is_within[each.guardrail]:
            return StepVerdict("worse", _worse_text(each, rollout.alpha), figures)
    return _progress(rollout, number, counts, is_within, figures)


def _progress(
    rollout: Rollout,
    number: int,
    counts: StepCounts,
    is_within: dict[str, bool],
    figures: list[GuardrailFigures],
) -> StepVerdict:
    step, lacking = rollout.steps[number], []
    needs_labels = rollout.guardrails.loss is not None or rollout.guardrails.cost is not None
    if counts.requests < step.minimum_requests:
        lacking.append(f"{counts.requests} of {step.minimum_requests} requests")
    if needs_labels and counts.labels < step.minimum_labels:
        lacking.append(f"{counts.labels} of {step.minimum_labels} labels")
    if rollout.passed_when(number) == "within_margin" and not all(is_within.values()):
        open_ones = ", ".join(name for name, within in is_within.items() if not within)
        lacking.append(f"not surely within the margin: {open_ones}")
    hours = counts.elapsed_ms / HOUR_MS
    if not lacking and hours >= step.minimum_hours:
        shown = "each guardrail is within its margin" if all(is_within.values()) else "no guardrail is worse"
        return StepVerdict("passed", f"step {number + 1} passed after {hours:.4g} hours: {shown}", figures)
    if hours >= step.maximum_hours:
        reason = f"step {number + 1} is inconclusive after {hours:.4g} hours: {'; '.join(lacking)}"
        return StepVerdict("inconclusive", reason, figures)
    return StepVerdict("open", "; ".join(lacking), figures)


def _worse_text(found: GuardrailFinding, alpha: float) -> str:
    size = "" if found.difference is None else f" by {found.difference:.4g}"
    least = "" if found.low is None else f" (surely by more than {max(found.low, 0.0):.4g})"
    return (
        f"{found.guardrail} is worse than the champion's{size}{least}, after {found.counted} counted; "
        f"evidence {_times(found.worse)}; a version that is not worse is rolled back with a probability "
        f"of at most {alpha:g}"
    )


def _times(log_evidence: float) -> str:
    """Return evidence as a factor."""
    return f"{math.exp(log_evidence):,.0f}" if log_evidence < 14 else f"10^{log_evidence / math.log(10):.0f}"


def figures_of(found: GuardrailFinding, worse_needed: float, within_needed: float) -> GuardrailFigures:
    """Return a finding as a record holds it."""
    return GuardrailFigures(
        guardrail=found.guardrail,
        evidence=found.worse,
        needed=worse_needed,
        within=found.within,
        within_needed=within_needed,
        difference=found.difference,
        low=found.low,
        high=found.high,
        count=found.counted,
    )

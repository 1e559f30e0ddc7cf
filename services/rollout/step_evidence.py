"""What a step has shown so far: sums by block of time, from which the evidence follows. Pure."""

from typing import Literal

import msgspec
import numpy as np

from services.rollout import arm_difference, error_odds, measure_ranges, paired_blocks, sample_ratio
from services.rollout.arm_difference import KeySums
from services.rollout.call_pairs import CallPairs
from services.rollout.evidence import Numbers, log_threshold
from services.rollout.share_limit import ShareBets
from services.rollout.step_verdict import SHARES, GuardrailFinding
from services.runtime.declaration import HOUR_MS, ModelDeclaration

Mode = Literal["paired", "keys"]
COHORTS_MAX = 400
"""Maximum cohorts of a canary step; each has the sums of a stretch of event time."""
COHORT_MS_MIN = 60_000
CHAMPION_KEYS_PER_OWN = 4
"""How many keys of the champion wait for their labels for each one of the new version: more would hardly make
the comparison sharper."""
ERRORS = "errors"


class StepEvidence(msgspec.Struct):
    """The sums of one step."""

    rollout_id: str = ""
    step: int = -1
    mode: Mode = "paired"
    start_ms: int = 0
    """Event time at which the step began."""
    block_ms: int = HOUR_MS
    share: float = 0.5
    """The new version's share of the keys of both arms; only with keys."""
    champion_sample: float = 1.0
    """Share of the champion's keys that wait for their labels."""
    requests: int = 0
    """Keys of the new version, or requests that both have scored."""
    champion_requests: int = 0
    labels: int = 0
    unlabelled: int = 0
    errors: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """Keys on which the new version, and the champion, failed."""
    blocks: dict[str, dict[int, list[float]]] = {}
    """By measure and number of the block: count, sum and squares of the new version, then of the champion; of
    pairs count and sum of the differences."""
    calls: CallPairs = msgspec.field(default_factory=CallPairs)
    missing: ShareBets = msgspec.field(default_factory=ShareBets)
    """Scores that a shadow lacks."""
    missing_open: dict[int, list[int]] = {}
    """Rows, and rows without a score, of the units of time that are not complete."""

    def add_pair(self, measure: str, time_ms: int, difference: float) -> None:
        """Add what one request costs more with the new version."""
        block = self._block(measure, time_ms, 2)
        block[0] += 1
        block[1] += difference

    def add_key(self, measure: str, time_ms: int, value: float, *, is_own: bool) -> None:
        """Add the value of one key, a share of the maximum."""
        block = self._block(measure, time_ms, 6)
        at = 0 if is_own else 3
        block[at] += 1
        block[at + 1] += value
        block[at + 2] += value * value

    def _block(self, measure: str, time_ms: int, width: int) -> list[float]:
        number = (time_ms - self.start_ms) // self.block_ms
        return self.blocks.setdefault(measure, {}).setdefault(number, [0.0] * width)

    def columns(self, measure: str, width: int, before_ms: int | None = None) -> Numbers:
        """Return the blocks of a measure in order, ``(width, n_blocks)``.

        ``before_ms``: only those that end before this event time.
        """
        found = sorted(self.blocks.get(measure, {}).items())
        if before_ms is not None:
            found = [each for each in found if self.start_ms + (each[0] + 1) * self.block_ms <= before_ms]
        return np.array([sums for _, sums in found], dtype=np.float64).reshape(-1, width).T


def of_step(
    declaration: ModelDeclaration, rollout_id: str, number: int, start_ms: int, weights: tuple[int, int]
) -> StepEvidence:
    """Return the empty evidence of a step.

    Args:
        declaration: The model's.
        rollout_id: Of the rollout.
        number: The step, from 0 on.
        start_ms: Event time at which it began.
        weights: The shares of challenger and champion among all requests, in 1/10,000.
    """
    rollout = declaration.rollout
    step, latency = rollout.steps[number], rollout.guardrails.latency
    calls = CallPairs(quantile=latency.quantile) if latency is not None else CallPairs()
    if step.is_shadow or step.is_whole:
        hours = rollout.block_hours or declaration.monitoring.block_hours
        return StepEvidence(
            rollout_id=rollout_id,
            step=number,
            start_ms=start_ms,
            block_ms=round(hours * HOUR_MS),
            calls=calls,
        )
    share = weights[0] / (weights[0] + weights[1])
    return StepEvidence(
        rollout_id=rollout_id,
        step=number,
        mode="keys",
        start_ms=start_ms,
        block_ms=max(COHORT_MS_MIN, round(step.maximum_hours * HOUR_MS / COHORTS_MAX)),
        calls=calls,
        share=share,
        champion_sample=min(1.0, CHAMPION_KEYS_PER_OWN * share / (1 - share)),
    )


def findings(
    evidence: StepEvidence, declaration: ModelDeclaration, labels_ms: int, *, with_intervals: bool = False
) -> list[GuardrailFinding]:
    """Return what the evidence says of each declared guardrail, and of the shares.

    Args:
        evidence: Of the step.
        declaration: The model's.
        labels_ms: Event time up to which all labels are known.
        with_intervals: Whether to find the intervals of differences, which takes 50 ms.
    """
    guardrails, found = declaration.rollout.guardrails, []
    closed_ms = labels_ms - declaration.rollout.label_ms(declaration.label.horizon_ms)
    limit = log_threshold(declaration.rollout.alpha, 2) if with_intervals else None
    if guardrails.loss is not None:
        scale = guardrails.loss.maximum
        found.append(_measure(evidence, "loss", guardrails.loss.margin / scale, scale, closed_ms, limit))
    if guardrails.cost is not None:
        low, high = measure_ranges.cost(declaration)
        scale = high - low
        found.append(_measure(evidence, "cost", guardrails.cost.margin / scale, scale, closed_ms, limit))
    if guardrails.errors is not None:
        found.append(_errors(evidence, guardrails.errors.margin))
    if guardrails.latency is not None:
        calls = evidence.calls
        mean = calls.difference / calls.units if calls.units else None
        worse, within = calls.worse.log_evidence, calls.within.log_evidence
        found.append(GuardrailFinding("latency", worse, within, calls.units, mean))
    if evidence.mode == "keys":
        own, other = np.array(float(evidence.requests)), np.array(float(evidence.champion_requests))
        mismatch = float(sample_ratio.log_evidence(own, other, evidence.share))
        found.append(GuardrailFinding(SHARES, mismatch, 0.0, evidence.requests))
    return found


def _measure(
    evidence: StepEvidence, measure: str, margin: float, scale: float, closed_ms: int, limit: float | None
) -> GuardrailFinding:
    """Return the finding on a mean, in the unit of the measure."""
    if evidence.mode == "paired":
        return _paired(measure, evidence.columns(measure, 2, closed_ms), margin, scale, limit)
    columns = evidence.columns(measure, 6)
    if not columns.size:
        return GuardrailFinding(measure, 0.0, 0.0)
    own, other = KeySums(*columns[:3]), KeySums(*columns[3:])
    share = evidence.share / (evidence.share + (1 - evidence.share) * evidence.champion_sample)
    ends = None if limit is None else arm_difference.interval(own, other, share, limit)
    return GuardrailFinding(
        measure,
        float(arm_difference.log_evidence(own, other, share)[-1]),
        float(arm_difference.log_evidence_below(own, other, share, margin)[-1]),
        int(own.keys.sum()),
        _difference(own, other, scale),
        *((None, None) if ends is None else (ends[0] * scale, ends[1] * scale)),
    )


def _paired(
    measure: str, columns: Numbers, margin: float, scale: float, limit: float | None
) -> GuardrailFinding:
    rows, sums = paired_blocks.merged(columns[0], columns[1])
    if not rows.size:
        return GuardrailFinding(measure, 0.0, 0.0)
    ends = None if limit is None else paired_blocks.interval(rows, sums, limit)
    return GuardrailFinding(
        measure,
        float(paired_blocks.log_evidence(rows, sums)[-1]),
        float(paired_blocks.log_evidence(rows, -sums, -margin)[-1]),
        int(rows.sum()),
        float(sums.sum() / rows.sum()) * scale,
        *((None, None) if ends is None else (ends[0] * scale, ends[1] * scale)),
    )


def _errors(evidence: StepEvidence, margin: float) -> GuardrailFinding:
    if evidence.mode == "paired":
        missing = evidence.missing
        mean = missing.total / missing.units if missing.units else None
        return GuardrailFinding(ERRORS, *missing.log_evidence, missing.units, mean)
    columns = evidence.columns(ERRORS, 6)
    if not columns.size:
        return GuardrailFinding(ERRORS, 0.0, 0.0)
    own, other = KeySums(*columns[:3]), KeySums(*columns[3:])
    failed = np.array(evidence.errors, dtype=np.float64)
    return GuardrailFinding(
        ERRORS,
        float(error_odds.log_evidence(failed[0], failed[1], evidence.share)),
        float(arm_difference.log_evidence_below(own, other, evidence.share, margin)[-1]),
        evidence.errors[0],
        _difference(own, other, 1.0),
    )


def _difference(own: KeySums, other: KeySums, scale: float) -> float | None:
    if not own.keys.sum() or not other.keys.sum():
        return None
    return float(own.total.sum() / own.keys.sum() - other.total.sum() / other.keys.sum()) * scale

import numpy as np
import pytest

from services.rollout import step_evidence, step_verdict
from services.rollout.step_verdict import GuardrailFinding
from services.runtime.declaration import ModelDeclaration
from streams import records
from tests.unit.rollout.rollout_model import HOUR_MS, START_MS, declaration

LATER_MS = START_MS + 1000 * HOUR_MS


def paired(mean: float, blocks: int = 60) -> tuple[step_evidence.StepEvidence, ModelDeclaration]:
    declared, random = declaration(), np.random.default_rng(1)
    found = step_evidence.of_step(declared, "r1", 0, START_MS, (0, 10_000))
    for block in range(blocks):
        for value in random.normal(mean, 0.05, 40):
            found.add_pair("loss", START_MS + block * HOUR_MS, float(value))
    return found, declared


def by_name(findings: list[GuardrailFinding]) -> dict[str, GuardrailFinding]:
    for each in findings:
        records.encode(step_verdict.figures_of(each, 1.0, 1.0))  # numbers of NumPy could not be written
    return {each.guardrail: each for each in findings}


def test_mode_and_share_follow_from_the_step() -> None:
    declared = declaration(steps=[{"share": "shadow"}, {"share": "10%"}, {"share": "100%"}])
    found = [
        step_evidence.of_step(declared, "r1", number, START_MS, weights)
        for number, weights in enumerate([(0, 10_000), (1000, 8000), (10_000, 0)])
    ]
    assert [each.mode for each in found] == ["paired", "keys", "paired"]
    assert found[1].share == pytest.approx(1 / 9)
    assert found[1].champion_sample == pytest.approx(0.5)


def test_worse_shadow_has_evidence_and_a_difference_in_the_unit_of_the_loss() -> None:
    found, declared = paired(0.03)
    loss = by_name(step_evidence.findings(found, declared, LATER_MS, with_intervals=True))["loss"]
    assert loss.worse > 5
    assert loss.difference == pytest.approx(0.12, abs=0.01)
    assert loss.low is not None
    assert loss.high is not None
    assert 0.05 < loss.low < 0.12 < loss.high < 0.2


def test_equal_shadow_is_shown_to_be_within_the_margin() -> None:
    found, declared = paired(0.0)
    loss = by_name(step_evidence.findings(found, declared, LATER_MS))["loss"]
    assert loss.within > 3
    assert loss.worse < 1
    assert loss.low is None


def test_block_counts_when_all_of_its_label_windows_have_closed() -> None:
    found, declared = paired(0.03, blocks=1)
    closed_ms = START_MS + 2 * HOUR_MS  # the block, and an hour for the labels
    before, after = (
        by_name(step_evidence.findings(found, declared, at))["loss"].counted
        for at in (closed_ms - 1, closed_ms)
    )
    assert (before, after) == (0, 40)


def test_keys_have_evidence_of_all_guardrails_and_of_their_shares() -> None:
    declared, random = declaration(), np.random.default_rng(2)
    found = step_evidence.of_step(declared, "r1", 1, START_MS, (1000, 9000))
    for number in range(4000):
        is_own = bool(random.random() < 0.1)
        value = float(np.clip(random.normal(0.2 + 0.1 * is_own, 0.1), 0, 1))
        at_ms = START_MS + number * 1000
        found.requests += is_own
        found.champion_requests += not is_own
        found.add_key("loss", at_ms, value, is_own=is_own)
        found.add_key("errors", at_ms, float(is_own), is_own=is_own)
        found.errors[0] += is_own
    findings = by_name(step_evidence.findings(found, declared, LATER_MS, with_intervals=True))
    assert list(findings) == ["loss", "errors", "latency", "shares"]
    assert findings["loss"].worse > 5
    assert findings["loss"].difference == pytest.approx(0.4, abs=0.05)
    assert findings["errors"].worse > 5
    assert findings["shares"].worse < 2


def test_evidence_of_nothing_is_none() -> None:
    declared = declaration()
    for number, weights in enumerate([(0, 10_000), (1000, 9000)]):
        found = step_evidence.of_step(declared, "r1", number, START_MS, weights)
        assert all(
            not each.worse and not each.within for each in step_evidence.findings(found, declared, LATER_MS)
        )

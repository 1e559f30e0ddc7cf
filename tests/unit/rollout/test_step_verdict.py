import math

from services.rollout.step_verdict import SHARES, GuardrailFinding, StepCounts, judge
from tests.unit.rollout.rollout_model import HOUR_MS, declaration

DECLARED = declaration().rollout
SURE = math.log(1e6)
CALM = [
    GuardrailFinding("loss", 0.0, SURE),
    GuardrailFinding("errors", 0.0, SURE),
    GuardrailFinding("latency", 0.0, SURE),
]
ENOUGH = StepCounts(2 * HOUR_MS, 1000, 1000)


def changed(guardrail: str, worse: float, within: float) -> list[GuardrailFinding]:
    return [
        GuardrailFinding(guardrail, worse, within, 7, 0.25, 0.1),
        *(f for f in CALM if f.guardrail != guardrail),
    ]


def test_step_passes_when_all_is_surely_within_the_margins() -> None:
    found = judge(DECLARED, 0, CALM, ENOUGH)
    assert found.kind == "passed"
    assert found.reason == "step 1 passed after 2 hours: each guardrail is within its margin"


def test_step_that_asks_only_for_no_harm_passes_without_the_margins() -> None:
    findings = changed("loss", 0.0, 0.0)
    assert judge(DECLARED, 1, findings, ENOUGH).kind == "passed"
    assert judge(DECLARED, 0, findings, ENOUGH).kind == "open"
    assert judge(DECLARED, 2, findings, ENOUGH).reason == "not surely within the margin: loss"


def test_step_waits_for_hours_requests_and_labels() -> None:
    assert judge(DECLARED, 1, CALM, ENOUGH._replace(elapsed_ms=HOUR_MS - 1)).kind == "open"
    assert judge(DECLARED, 1, CALM, ENOUGH._replace(requests=99)).reason == "99 of 100 requests"
    assert judge(DECLARED, 1, CALM, ENOUGH._replace(labels=99)).reason == "99 of 100 labels"
    without = declaration(guardrails={}).rollout
    assert judge(without, 1, CALM[1:], ENOUGH._replace(labels=0)).kind == "passed"


def test_worse_guardrail_rolls_back_at_once() -> None:
    found = judge(DECLARED, 1, changed("errors", SURE, 0.0), StepCounts(0, 3, 0))
    assert found.kind == "worse"
    assert found.reason == (
        "errors is worse than the champion's by 0.25 (surely by more than 0.1), after 7 counted; evidence "
        "1,000,000; a version that is not worse is rolled back with a probability of at most 0.05"
    )


def test_evidence_that_would_do_for_one_test_does_not_for_all() -> None:
    alone = math.log(1 / DECLARED.alpha)
    assert judge(DECLARED, 1, changed("loss", alone + 0.1, 0.0), ENOUGH).kind == "passed"
    all_tests = math.log(DECLARED.tests / DECLARED.alpha)
    assert judge(DECLARED, 1, changed("loss", all_tests + 0.1, 0.0), ENOUGH).kind == "worse"


def test_small_rise_within_the_margin_is_not_worse() -> None:
    assert judge(DECLARED, 0, changed("loss", SURE, SURE), ENOUGH).kind == "passed"


def test_mismatch_of_the_shares_comes_before_everything() -> None:
    findings = [*changed("loss", SURE, 0.0), GuardrailFinding(SHARES, SURE, 0.0)]
    assert judge(DECLARED, 1, findings, ENOUGH).kind == "mismatch"


def test_step_is_inconclusive_after_its_maximum_and_says_what_is_lacking() -> None:
    late = StepCounts(401 * HOUR_MS, 40, 1000)
    found = judge(DECLARED, 0, changed("loss", 0.0, 0.0), late)
    assert found.kind == "inconclusive"
    assert "40 of 100 requests; not surely within the margin: loss" in found.reason


def test_figures_name_what_was_needed() -> None:
    (first, *_) = judge(DECLARED, 0, CALM, ENOUGH).figures
    assert (first.guardrail, first.within) == ("loss", SURE)
    assert first.needed == math.log(DECLARED.tests / 0.05)
    assert first.within_needed == math.log(1 / 0.05)

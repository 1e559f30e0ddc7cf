"""What the ledger's entries say of a candidate."""

from typing import Any

import pytest

from services.demo.trial import verdicts
from services.demo.trial.candidates import Candidate
from services.demo.trial.verdicts import CandidateVerdict
from streams.records import LedgerEntry

SLOW = Candidate("slow", "slow.py", "latency")
WORSE = Candidate("worse live", None, None)


def entry(kind: str, request_id: str = "r", **evidence: Any) -> LedgerEntry:
    return LedgerEntry(
        entry_id=kind,
        number=1,
        kind=kind,
        model="m",
        version=3,
        request_id=request_id,
        actor="tests",
        at_ms=0,
        evidence=evidence,
        previous="",
        hash="",
    )


def gate(name: str, outcome: str = "failed") -> LedgerEntry:
    return entry("gate", name=name, outcome=outcome, text=f"{name} is {outcome}", numbers={"max": 2.0})


def result(outcome: str) -> LedgerEntry:
    return entry("retraining_finished", result=outcome, reasons=["why"])


def rollout(outcome: str, loss: float) -> LedgerEntry:
    figures = {"guardrail": "loss", "evidence": loss, "needed": 3.0, "difference": 0.5, "low": None}
    return entry("rollback", outcome=outcome, reason="the loss", evidence=[figures])


def of(candidate: Candidate, *entries: LedgerEntry) -> CandidateVerdict:
    (found,) = verdicts.of_entries(entries, {candidate: "r"})
    return found


def test_candidate_that_its_gate_refuses_is_as_expected() -> None:
    found = of(SLOW, gate("champion", "passed"), gate("latency"), result("rejected"))
    assert (found.outcome, found.stopped_by, found.version) == ("rejected", ["latency"], 3)
    assert (found.text, found.numbers) == ("latency is failed", {"max": 2.0})
    assert verdicts.faults([found]) == []


@pytest.mark.parametrize(
    "entries",
    [
        [gate("latency"), gate("champion"), result("rejected")],
        [gate("latency", "passed"), result("passed")],
        [result("failed")],
        [gate("champion"), result("rejected")],
    ],
)
def test_candidate_that_anything_else_or_nothing_stops_is_a_fault(entries: list[LedgerEntry]) -> None:
    (fault,) = verdicts.faults([of(SLOW, *entries)])
    assert "'slow' was " in fault


def test_candidate_without_a_result_is_open() -> None:
    assert of(SLOW, gate("latency")).outcome == ""
    assert of(SLOW, entry("retraining_finished", "other", result="rejected", reasons=[])).outcome == ""


def test_candidate_that_passes_is_open_until_its_rollout_ends() -> None:
    assert of(WORSE, result("passed")).outcome == ""
    found = of(WORSE, result("passed"), rollout("rolled_back", 4.0))
    assert (found.outcome, found.stopped_by, found.text) == ("rolled_back", ["loss"], "the loss")
    assert found.numbers == {"evidence": 4.0, "needed": 3.0, "difference": 0.5}
    assert found.expected


@pytest.mark.parametrize(
    ("outcome", "loss"), [("promoted", 0.0), ("inconclusive", 0.0), ("rolled_back", 1.0)]
)
def test_rollout_that_ends_without_evidence_against_the_loss_is_a_fault(outcome: str, loss: float) -> None:
    assert not of(WORSE, result("passed"), rollout(outcome, loss)).expected


def test_candidate_of_the_rollout_that_a_gate_refuses_is_a_fault() -> None:
    assert not of(WORSE, gate("champion"), result("rejected")).expected

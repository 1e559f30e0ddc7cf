"""What the ledger says of each candidate of the trial, and whether the right gate has stopped it. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from services.demo.trial.candidates import Candidate
from services.model_registry import ledger_drafts
from streams.records import LedgerEntry

ROLLED_BACK = "rolled_back"


class CandidateVerdict(msgspec.Struct, kw_only=True, frozen=True):
    """What has stopped a candidate."""

    candidate: str
    model: str
    version: int = 0
    outcome: str = ""
    """Result of the retraining, or of the rollout that followed; empty: there is none yet."""
    stopped_by: list[str] = []
    """Names of the gates, or guardrails of the rollout, that were against it."""
    text: str = ""
    """Why, in the words of the first of them."""
    numbers: dict[str, float] = {}
    """The numbers that the first of them has decided by."""
    expected: bool = True
    """Whether it was stopped by what should stop it, and by nothing else."""


def of_entries(
    entries: Sequence[LedgerEntry], requested: Mapping[Candidate, str]
) -> tuple[CandidateVerdict, ...]:
    """Return the verdict on each candidate.

    Args:
        entries: Of the ledger.
        requested: The id of the request of each candidate.
    """
    return tuple(
        _verdict(candidate, [entry for entry in entries if entry.request_id == request_id])
        for candidate, request_id in requested.items()
    )


def faults(found: Sequence[CandidateVerdict]) -> list[str]:
    """Return a sentence for each candidate that was not stopped as it should be."""
    return [
        f"the candidate {each.candidate!r} was {each.outcome or 'not decided on'}"
        + (f" by {', '.join(each.stopped_by)}" if each.stopped_by else "")
        for each in found
        if not each.expected
    ]


def _verdict(candidate: Candidate, entries: Sequence[LedgerEntry]) -> CandidateVerdict:
    results = [entry for entry in entries if entry.kind == ledger_drafts.RESULT]
    if not results:
        return CandidateVerdict(candidate=candidate.name, model=candidate.model)
    result = results[0]
    known = CandidateVerdict(
        candidate=candidate.name,
        model=candidate.model,
        version=result.version,
        outcome=str(result.evidence["result"]),
        text="; ".join(result.evidence["reasons"]),
    )
    if candidate.gate is None and known.outcome == "passed":
        return _of_rollout(known, entries)
    against = [
        entry.evidence
        for entry in entries
        if entry.kind == ledger_drafts.GATE and entry.evidence["outcome"] == "failed"
    ]
    names = [str(gate["name"]) for gate in against]
    wanted = candidate.gate
    return msgspec.structs.replace(
        known,
        stopped_by=names,
        text=str(against[0]["text"]) if against else known.text,
        numbers=dict(against[0]["numbers"]) if against else {},
        expected=wanted is not None and bool(names) and all(name.startswith(wanted) for name in names),
    )


def _of_rollout(known: CandidateVerdict, entries: Sequence[LedgerEntry]) -> CandidateVerdict:
    """Return the verdict on a candidate that has passed its gates: what ended its rollout."""
    ends = [entry.evidence for entry in entries if entry.evidence.get("outcome") in _ENDS]
    if not ends:
        return msgspec.structs.replace(known, outcome="")
    end = ends[-1]
    against = [each for each in end["evidence"] if each["evidence"] >= each["needed"]]
    numbers = {name: value for name, value in against[0].items() if name in _FIGURES} if against else {}
    names = [str(each["guardrail"]) for each in against]
    return msgspec.structs.replace(
        known,
        outcome=str(end["outcome"]),
        stopped_by=names,
        text=str(end["reason"]),
        numbers={name: float(value) for name, value in numbers.items() if value is not None},
        expected=end["outcome"] == ROLLED_BACK and names == ["loss"],
    )


_ENDS = ("promoted", ROLLED_BACK, "inconclusive", "ended")
_FIGURES = ("evidence", "needed", "difference", "low", "high", "count")

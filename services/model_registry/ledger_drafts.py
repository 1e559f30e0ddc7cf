"""What the ledger says about registrations, changes of arms and retrainings. Pure."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from services.model_registry import mlflow_client, traffic_split
from services.model_registry.gate_results import GateReport
from services.model_registry.ledger_chain import EntryDraft
from streams.records import LedgerEntry, ModelChanged, RetrainingFinished, RetrainingRequested

REGISTERED, ARMS_CHANGED = "registered", "arms_changed"
TRIGGER, DATA_SET, GATE, PROMOTION, RESULT = "trigger", "data_set", "gate", "promotion", "retraining_finished"
ROLLOUT_STEP, ROLLBACK, CARD, ERASURE = "rollout_step", "rollback", "card", "erasure"
RETRAINING, LEARNING = "retraining", "learning"
"""The actors of what these processes decide."""


def of_registration(
    model: str, version: int, evidence: Mapping[str, Any], *, actor: str, at_ms: int
) -> EntryDraft:
    """Return the entry of a version that was registered; a version is registered once."""
    return EntryDraft(
        kind=REGISTERED,
        model=model,
        version=version,
        evidence=dict(evidence),
        actor=actor,
        at_ms=at_ms,
        request_id=version_id(model, version, str(evidence.get(mlflow_client.DIGEST_TAG, ""))),
    )


def version_id(model: str, version: int, digest: str) -> str:
    """Return the identity of a version in the ledger: a number may be given again after a deletion."""
    return "/".join(filter(None, (model, str(version), digest[:16])))


def of_change(change: ModelChanged, *, actor: str, at_ms: int) -> EntryDraft:
    """Return the entry of a change of arms. Whoever writes it about this change writes the same entry."""
    champion = traffic_split.champion_version(change.arms)
    return EntryDraft(
        kind=ARMS_CHANGED,
        model=change.model,
        version=champion or 0,
        evidence={
            "reason": change.reason,
            "request_id": change.request_id,
            "arms": [_arm(arm) for arm in msgspec.to_builtins(change.arms)],
        },
        actor=actor,
        at_ms=at_ms,
        event_time_ms=change.changed_at_ms,
        request_id=f"arms-{digest_of(change)}",
    )


def digest_of(change: ModelChanged) -> str:
    """Return the identity of a change: its arms and why they changed, without the reference."""
    parts = (change.model, change.arms, change.changed_at_ms, change.reason, change.request_id)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:24]


def unrecorded(entries: Sequence[LedgerEntry], latest: Mapping[str, ModelChanged]) -> list[ModelChanged]:
    """Return the latest changes of arms that the ledger lacks: their writer crashed, or was another program.

    Models that learn online are left out: their arms change with each interval.
    """
    known = {entry.request_id for entry in entries if entry.kind == ARMS_CHANGED}
    return [
        change
        for _, change in sorted(latest.items())
        if change.learned is None and f"arms-{digest_of(change)}" not in known
    ]


def of_request(request: RetrainingRequested, *, at_ms: int) -> EntryDraft:
    """Return the entry of the reason for a retraining."""
    return EntryDraft(
        kind=TRIGGER,
        model=request.model,
        evidence={
            "trigger": request.trigger,
            "reason": request.reason,
            "basis": request.basis,
            "since_ms": request.since_ms,
            "alarms": request.evidence,
        },
        actor=RETRAINING,
        at_ms=at_ms,
        event_time_ms=request.requested_at_ms,
        request_id=request.request_id,
    )


def of_retraining(
    request: RetrainingRequested | None,
    finished: RetrainingFinished,
    *,
    at_ms: int,
    data_set: Mapping[str, Any] | None = None,
    gates: Sequence[Any] = (),
) -> list[EntryDraft]:
    """Return all entries of a retraining that ends, in their order; see `of_request` and `of_result`."""
    trigger = [] if request is None else [of_request(request, at_ms=at_ms)]
    return [*trigger, *of_result(finished, at_ms=at_ms, data_set=data_set, gates=gates)]


def of_result(
    finished: RetrainingFinished,
    *,
    at_ms: int,
    data_set: Mapping[str, Any] | None = None,
    gates: Sequence[Any] = (),
) -> list[EntryDraft]:
    """Return the entries of a retraining that ends, in their order.

    Args:
        finished: The result.
        at_ms: Wall time.
        data_set: What the candidate was trained on: digest, rows, times. None: no data set was made.
        gates: Results of the gates, each with ``name``, ``outcome``, ``text`` and ``numbers``.
    """

    def draft(kind: str, evidence: Mapping[str, Any], step: str = "") -> EntryDraft:
        return EntryDraft(
            kind=kind,
            model=finished.model,
            version=finished.version,
            evidence=dict(evidence),
            actor=RETRAINING,
            at_ms=at_ms,
            event_time_ms=finished.requested_at_ms,
            request_id=finished.request_id,
            step=step,
        )

    drafts = [] if data_set is None else [draft(DATA_SET, data_set)]
    for gate in gates:
        found = msgspec.to_builtins(gate)
        drafts.append(draft(GATE, found, str(found["name"])))
    result = {name: getattr(finished, name) for name in RESULT_FIELDS}
    return [*drafts, draft(PROMOTION if finished.result == "promoted" else RESULT, result)]


def of_learned(
    model: str, version: int, report: GateReport, *, interval_end_ms: int, at_ms: int
) -> EntryDraft:
    """Return the entry of the gate of a learned version; a repeat after a crash is the same entry."""
    evidence = {
        "name": "learned version",
        "outcome": report.outcome,
        "passed": report.passed,
        "gates": msgspec.to_builtins(report.results),
    }
    digest = hashlib.sha256(msgspec.json.encode((version, evidence))).hexdigest()[:16]
    return EntryDraft(
        kind=GATE,
        model=model,
        version=version,
        evidence=evidence,
        actor=LEARNING,
        at_ms=at_ms,
        event_time_ms=interval_end_ms,
        request_id=f"learned/{model}/{interval_end_ms}/{digest}",
    )


RESULT_FIELDS = ("result", "reasons", "metrics", "rows", "run_id", "trigger", "duration_seconds")
"""What the entry of a result has of `RetrainingFinished`."""


def result_of(entries: Iterable[LedgerEntry], request_id: str) -> dict[str, Any] | None:
    """Return the fields of `RetrainingFinished` that the entries of a retraining tell; None without a result.

    Those that the request tells are left out.
    """
    own = [entry for entry in entries if entry.request_id == request_id]
    ends = [entry for entry in own if entry.kind in (RESULT, PROMOTION) and "result" in entry.evidence]
    if not ends:
        return None
    tables: Mapping[str, int] = next(
        (entry.evidence.get("tables", {}) for entry in own if entry.kind == DATA_SET), {}
    )
    fields = {name: ends[0].evidence[name] for name in RESULT_FIELDS if name in ends[0].evidence}
    fields.pop("trigger", None)
    return {**fields, "version": ends[0].version, "data_tables": tables if ends[0].version else {}}


def _arm(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is not the default of an arm; its buckets follow from the shares."""
    kept = {name: value for name, value in arm.items() if value and name != "buckets"}
    return {"weight": 0, **kept}

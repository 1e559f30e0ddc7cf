"""The ledger entries of a rollout's records. Pure."""

import msgspec

from services.model_registry import ledger_drafts
from services.model_registry.ledger_chain import EntryDraft
from streams.records import RolloutEnded, RolloutRecord, RolloutRequested, RolloutStarted, RolloutStepped

ACTOR = "rollout"
START, END = "rollout_start", "rollout_end"
KINDS = {
    "promoted": ledger_drafts.PROMOTION,
    "rolled_back": ledger_drafts.ROLLBACK,
    "inconclusive": END,
    "ended": END,
}


def draft(record: RolloutRecord, now_ms: int) -> EntryDraft | None:
    """Return the entry of a record; None for a request, whose writer has entered it.

    Args:
        record: It was written: the same entry follows from it after a crash.
        now_ms: Wall time.
    """
    if isinstance(record, RolloutRequested):
        return None
    kind, step = _kind(record)
    evidence = msgspec.to_builtins(record)
    return EntryDraft(
        kind=kind,
        step=step,
        model=record.model,
        version=record.version,
        request_id=record.rollout_id,
        actor=record.actor if isinstance(record, RolloutStarted) and record.actor else ACTOR,
        at_ms=now_ms,
        event_time_ms=record.at_ms,
        evidence=evidence,
    )


def _kind(record: RolloutStarted | RolloutStepped | RolloutEnded) -> tuple[str, str]:
    if isinstance(record, RolloutStarted):
        return START, ""
    if isinstance(record, RolloutStepped):
        return ledger_drafts.ROLLOUT_STEP, str(record.step)
    return KINDS[record.outcome], ""

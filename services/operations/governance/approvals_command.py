"""``driftline approve``, ``driftline reject`` and ``driftline review``."""

from services.model_registry import approvals, ledger, version_digest
from services.model_registry.approvals import APPROVED, REJECTED, REVIEWED, ApprovalError
from services.model_registry.ledger import LedgerError
from services.model_registry.ledger_chain import EntryDraft
from services.operations.models.arm_changes import ChangeError
from services.operations.models.version_check import check_version
from services.runtime import declaration_file, times
from services.runtime.command_output import failing_on, ok
from services.runtime.declaration import FILE, DeclarationError
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams.records import LedgerEntry

_ERRORS = (ApprovalError, ChangeError, DeclarationError, LedgerError, MissingTopicError)


def approve(name: str, version: int, *, by: str | None = None, reason: str = "") -> None:
    """Approve a version: it may answer requests where model.yaml requires an approval.

    Args:
        name: Model.
        version: Version that is approved.
        by: Person who approves; default: the user of this machine.
        reason: Why, for those who ask later.
    """
    with failing_on("driftline approve", *_ERRORS):
        entry = _decide(APPROVED, name, version, by, reason)
        ok(f"{name} version {version} is approved by {entry.actor}: entry {entry.number} of the ledger")


def reject(name: str, version: int, *, by: str | None = None, reason: str = "") -> None:
    """Reject a version for ever, also one that was approved: it must not answer requests from now on.

    A version that answers requests now continues to do so until the arms are changed.

    Args:
        name: Model.
        version: Version that is rejected.
        by: Person who rejects; default: the user of this machine.
        reason: Why, for those who ask later.
    """
    with failing_on("driftline reject", *_ERRORS):
        entry = _decide(REJECTED, name, version, by, reason)
        ok(f"{name} version {version} is rejected by {entry.actor}: entry {entry.number} of the ledger")


def review(name: str, *, by: str | None = None, reason: str = "") -> None:
    """Record that a person has looked at a model and its card, and keeps it.

    Args:
        name: Model.
        by: Person who has reviewed it; default: the user of this machine.
        reason: What was looked at, and the result.
    """
    settings = Settings()
    with failing_on("driftline review", *_ERRORS):
        draft = EntryDraft(
            kind=REVIEWED,
            model=_declared(settings, name),
            evidence={"reason": approvals.checked_reason(reason)},
            actor=ledger.operator(by),
            at_ms=times.now_ms(),
            request_id=ledger.command_id(),
        )
        with ledger.opened(settings) as opened:
            entry = opened.append(draft)
        ok(f"{name} was reviewed by {entry.actor}: entry {entry.number} of the ledger")


def _decide(kind: str, name: str, version: int, by: str | None, reason: str) -> LedgerEntry:
    """Write the entry of an approval or a rejection and return it."""
    settings, actor, at_ms = Settings(), ledger.operator(by), times.now_ms()
    approvals.checked_reason(reason)
    check_version(settings, _declared(settings, name), version)
    digest = "" if _is_learned(settings, name) else version_digest.of_version(settings, name, version)
    with ledger.opened(settings) as opened:
        return opened.decide(
            lambda entries: approvals.decided(
                entries, kind, name, version, digest, by=actor, reason=reason, at_ms=at_ms
            )
        )


def _is_learned(settings: Settings, name: str) -> bool:
    """Tell whether the versions of a model are learned online, and are not in the registry."""
    return declaration_file.load(settings.models / name / FILE).learning is not None


def _declared(settings: Settings, name: str) -> str:
    """Return the name of a model that is declared; raise `DeclarationError` otherwise."""
    declared = declaration_file.load_all(settings.models)
    if name not in declared:
        raise DeclarationError(
            f"there is no model {name!r} below {settings.models}; declared models: "
            f"{', '.join(declared) or f'none, a model is declared by a {FILE}'}"
        )
    return name

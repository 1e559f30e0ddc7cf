"""Whether people have approved a version, from the entries of the ledger. Pure."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from services.model_registry import ledger_drafts
from services.model_registry.ledger_chain import EntryDraft
from services.runtime import times
from services.runtime.declaration import ModelDeclaration
from streams.records import LedgerEntry

APPROVED, REJECTED, REVIEWED = "approval", "rejection", "review"
"""Kinds of entries: acts of people."""
REASON_MAX = 2000
DIGEST = "digest"
"""What a decision names in its evidence: the digest of the version's files. Older entries name none."""


class ApprovalError(ValueError):
    """A version cannot be approved, rejected or used. The message says what to do."""


@dataclasses.dataclass(frozen=True)
class Approval:
    """What people have decided about a version."""

    state: Literal["none", "approved", "rejected"] = "none"
    by: str = ""
    at_ms: int = 0
    reason: str = ""
    entry_hash: str = ""
    """The entry of the ledger that says so."""

    def __str__(self) -> str:
        """Return it in words."""
        if self.state == "none":
            return "not approved"
        return f"{self.state} by {self.by} on {times.day(self.at_ms)}: {self.reason}"


def approval_of(entries: Sequence[LedgerEntry], model: str, version: int, digest: str = "") -> Approval:
    """Return the approval of a version: a rejection counts for ever, also after an approval.

    A decision about other files, which had this number before, does not count.

    Args:
        entries: The ledger.
        model: Its name.
        version: Its number.
        digest: Of its files; empty: not known, so that an approval that names one does not count.
    """
    found = Approval()
    for entry in _decisions(entries, model, version):
        if _counts(entry, digest):
            state: Literal["approved", "rejected"] = "approved" if entry.kind == APPROVED else "rejected"
            reason = str(entry.evidence.get("reason", ""))
            found = Approval(state, entry.actor, entry.at_ms, reason, entry.hash)
            if state == "rejected":
                break
    return found


def is_bound(entries: Sequence[LedgerEntry], model: str, version: int) -> bool:
    """Tell whether a decision about a version names a digest: then `approval_of` needs that of the files."""
    return any(entry.evidence.get(DIGEST) for entry in _decisions(entries, model, version))


def _decisions(entries: Sequence[LedgerEntry], model: str, version: int) -> list[LedgerEntry]:
    return [
        entry
        for entry in entries
        if entry.model == model and entry.version == version and entry.kind in (APPROVED, REJECTED)
    ]


def _counts(entry: LedgerEntry, digest: str) -> bool:
    bound = entry.evidence.get(DIGEST, "")
    return bound in ("", digest) or (entry.kind == REJECTED and not digest)


def refusal(
    entries: Sequence[LedgerEntry], declaration: ModelDeclaration, version: int, digest: str = ""
) -> str:
    """Return why a version must not answer requests; empty if it may. Arguments as for `approval_of`."""
    found = approval_of(entries, declaration.name, version, digest)
    if found.state == "rejected":
        return f"{declaration.name} version {version} was {found}: choose or register another version"
    if found.state == "none" and declaration.governance.approval == "required":
        kinds = [entry.kind for entry in _decisions(entries, declaration.name, version)]
        other = ", its approval is of other files" if APPROVED in kinds else ""
        return (
            f"{declaration.name} version {version} is not approved{other}, and its model.yaml requires an "
            f"approval: run 'driftline approve {declaration.name} {version} --by NAME --reason TEXT'"
        )
    return ""


def decided(
    entries: Sequence[LedgerEntry],
    kind: str,
    model: str,
    version: int,
    digest: str,
    *,
    by: str,
    reason: str,
    at_ms: int,
) -> EntryDraft:
    """Return the entry of an approval or a rejection of the files with a digest; empty: they have none.

    Raises:
        ApprovalError: The version was rejected, or it was approved before and is approved again.
    """
    found = approval_of(entries, model, version, digest)
    name = f"{model} version {version}"
    if found.state == "rejected":
        raise ApprovalError(f"{name} was {found}: register a new version, and decide on that one")
    if found.state == "approved" and kind == APPROVED:
        raise ApprovalError(
            f"{name} was {found}: nothing is left to do; to withdraw the approval, run "
            f"'driftline reject {model} {version} --by NAME --reason TEXT'"
        )
    return EntryDraft(
        kind=kind,
        model=model,
        version=version,
        evidence={"reason": checked_reason(reason)} | ({DIGEST: digest} if digest else {}),
        actor=by,
        at_ms=at_ms,
        request_id=ledger_drafts.version_id(model, version, digest),
    )


def checked_reason(reason: str) -> str:
    """Return a reason without space around it; raise `ApprovalError` if there is none, or it is too long."""
    reason = reason.strip()
    if not reason:
        raise ApprovalError("a decision needs a reason that others understand later: give --reason TEXT")
    if len(reason) > REASON_MAX:
        raise ApprovalError(
            f"the reason has {len(reason)} characters, and {REASON_MAX} are possible: give a link to the rest"
        )
    return reason


def last_review(entries: Sequence[LedgerEntry], model: str) -> LedgerEntry | None:
    """Return the last entry in which a person has looked at a model: a review, approval or rejection."""
    kinds = (APPROVED, REJECTED, REVIEWED)
    found = [entry for entry in entries if entry.model == model and entry.kind in kinds]
    return found[-1] if found else None

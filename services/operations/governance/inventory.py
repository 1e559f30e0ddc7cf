"""All models with their owners, risks, versions, cards, approvals and reviews. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from services.model_registry import approvals
from services.runtime import times
from services.runtime.declaration import DAY_MS, ModelDeclaration
from streams.records import LedgerEntry


class InventoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    model: str
    owner: str = ""
    contact: str = ""
    team: str = ""
    task: str = ""
    risk: str = ""
    """Empty: nobody has judged it."""
    serving: int | None = None
    """Version of the champion; null without one."""
    since_ms: int | None = None
    """Wall time of the last change of the arms that the ledger has."""
    approval: str = ""
    """The approval of the serving version: ``not required``, or what people decided."""
    card: str = ""
    """The card of the serving version: ``complete``, ``none``, or what is missing."""
    reviewed_ms: int | None = None
    """Wall time of the last review by a person."""
    reviewed_by: str = ""
    review_due_ms: int | None = None
    """Wall time after which a review is late; null if none was made."""
    faults: list[str] = []
    """What somebody should do."""


def row(
    model: str,
    declaration: ModelDeclaration | None,
    serving: int | None,
    entries: Sequence[LedgerEntry],
    card: str,
    now_ms: int,
    digest: str | None = "",
) -> InventoryRow:
    """Return the row of one model.

    Args:
        model: Its name.
        declaration: None: it serves, or once served, and is not declared here.
        serving: Version of its champion; None without one.
        entries: The ledger.
        card: State of the card of the serving version.
        now_ms: Wall time.
        digest: Of the files of the serving version, see `approvals.approval_of`; None: the registry is away.
    """
    review = approvals.last_review(entries, model)
    changes = [entry for entry in entries if entry.model == model and entry.kind == "arms_changed"]
    since_ms = changes[-1].at_ms if changes else None
    if declaration is None:
        fault = "there is no model.yaml: declare the model, or end its arms"
        return InventoryRow(model=model, serving=serving, since_ms=since_ms, card=card, faults=[fault])
    governance = declaration.governance
    due_ms = None if review is None else review.at_ms + round(governance.review_days * DAY_MS)
    found = InventoryRow(
        model=model,
        owner=declaration.owner,
        contact=governance.contact or declaration.owner,
        team=declaration.team,
        task=declaration.task,
        risk=governance.risk,
        serving=serving,
        since_ms=since_ms,
        approval=_approval(declaration, serving, entries, digest),
        card=card,
        reviewed_ms=review.at_ms if review else None,
        reviewed_by=review.actor if review else "",
        review_due_ms=due_ms,
    )
    return msgspec.structs.replace(found, faults=_faults(found, declaration, entries, now_ms, digest))


def lines(rows: Sequence[InventoryRow]) -> list[str]:
    """Return a table with a line per model, and below it what somebody should do."""
    table = [
        ("MODEL", "OWNER", "RISK", "SERVING", "APPROVAL", "CARD", "REVIEWED", "DUE"),
        *map(_cells, rows),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    shown = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in table
    ]
    return [*shown, *(f"{found.model}: {fault}" for found in rows for fault in found.faults)]


def names(declared: Mapping[str, ModelDeclaration], serving: Mapping[str, int | None]) -> list[str]:
    """Return the names of the models that are declared or have arms."""
    return sorted(declared.keys() | serving.keys())


def _approval(
    declaration: ModelDeclaration, serving: int | None, entries: Sequence[LedgerEntry], digest: str | None
) -> str:
    if digest is None:
        return "unknown: MLflow cannot be reached"
    found = approvals.approval_of(entries, declaration.name, serving or 0, digest)
    if found.state == "none" and declaration.governance.approval == "none":
        return "not required"
    return str(found) if serving else ""


def _faults(
    found: InventoryRow,
    declaration: ModelDeclaration,
    entries: Sequence[LedgerEntry],
    now_ms: int,
    digest: str | None,
) -> list[str]:
    faults = []
    if not found.risk:
        faults.append("its risk was not judged: set governance.risk in model.yaml")
    if found.serving is not None:
        refused = "" if digest is None else approvals.refusal(entries, declaration, found.serving, digest)
        if refused:
            faults.append(f"it serves, but {refused}")
        if found.card != "complete":
            faults.append(f"card: {found.card}: run 'driftline models card {found.model} {found.serving}'")
    if found.review_due_ms is None:
        faults.append(f"nobody has reviewed it: run 'driftline review {found.model} --by NAME --reason TEXT'")
    elif found.review_due_ms < now_ms:
        faults.append(f"its review was due on {times.day(found.review_due_ms)}")
    return faults


def _cells(found: InventoryRow) -> tuple[str, ...]:
    return (
        found.model,
        found.owner or "-",
        found.risk or "-",
        "-" if found.serving is None else str(found.serving),
        found.approval.partition(":")[0] or "-",
        found.card.partition(":")[0] or "-",
        "-" if found.reviewed_ms is None else f"{times.day(found.reviewed_ms)} by {found.reviewed_by}",
        "-" if found.review_due_ms is None else times.day(found.review_due_ms),
    )

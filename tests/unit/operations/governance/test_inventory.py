"""The inventory shows each model, and what somebody should do."""

from typing import Any

from services.model_registry.ledger_chain import ORIGIN, EntryDraft, decoded, sealed
from services.operations.governance import inventory
from services.operations.governance.inventory import InventoryRow
from services.runtime.declaration import DAY_MS, Governance, ModelDeclaration
from services.runtime.declaration_file import load
from services.runtime.settings import ROOT
from streams.records import LedgerEntry

NOW_MS = 1000 * DAY_MS


def declaration(**governance: Any) -> ModelDeclaration:
    made = load(ROOT / "models" / "arrival_delay" / "model.yaml")
    return made.model_copy(
        update={"name": "m", "governance": Governance.model_validate({"risk": "high"} | governance)}
    )


def entry(kind: str, at_ms: int, version: int = 3) -> LedgerEntry:
    draft = EntryDraft(
        kind=kind, model="m", version=version, evidence={"reason": "good"}, actor="ada", at_ms=at_ms,
        request_id="q",
    )  # fmt: skip
    return decoded(sealed(draft, 1, ORIGIN))


def row(entries: list[LedgerEntry], card: str = "complete", **governance: Any) -> InventoryRow:
    return inventory.row("m", declaration(**governance), 3, entries, card, NOW_MS)


def test_model_in_order_has_no_faults() -> None:
    found = row([entry("arms_changed", 7), entry("approval", NOW_MS - DAY_MS)], approval="required")
    assert found.faults == []
    assert found.approval == "approved by ada on 1972-09-26: good"
    assert (found.since_ms, found.reviewed_by, found.serving) == (7, "ada", 3)


def test_version_that_serves_without_an_approval_is_a_fault() -> None:
    found = row([entry("review", NOW_MS)], approval="required")
    assert len(found.faults) == 1
    assert found.faults[0].startswith("it serves, but m version 3 is not approved")


def test_rejected_version_that_serves_is_a_fault() -> None:
    found = row([entry("rejection", NOW_MS)])
    assert found.faults[0].startswith("it serves, but m version 3 was rejected by ada")


def test_late_review_and_missing_card_and_risk_are_faults() -> None:
    found = row([entry("review", NOW_MS - 40 * DAY_MS)], card="none", review_days=30, risk="")
    assert [fault.split(":")[0] for fault in found.faults] == [
        "its risk was not judged",
        "card",
        "its review was due on 1972-09-17",
    ]


def test_model_that_nobody_reviewed_is_a_fault() -> None:
    assert "run 'driftline review m" in row([]).faults[0]


def test_model_that_serves_and_is_not_declared_is_a_fault() -> None:
    found = inventory.row("old", None, 2, [], "", NOW_MS)
    assert found.faults == ["there is no model.yaml: declare the model, or end its arms"]
    assert inventory.names({"m": declaration()}, {"old": 2}) == ["m", "old"]


def test_table_has_a_line_per_model_and_one_per_fault() -> None:
    lines = inventory.lines([row([entry("review", NOW_MS)], card="missing: Limitations")])
    assert lines[0].split() == ["MODEL", "OWNER", "RISK", "SERVING", "APPROVAL", "CARD", "REVIEWED", "DUE"]
    assert "high  3        not required  missing  1972-09-27 by ada  1973-09-27" in lines[1]
    assert lines[2] == "m: card: missing: Limitations: run 'driftline models card m 3'"


def test_approval_is_unknown_while_the_registry_is_away() -> None:
    declared = declaration(approval="required")
    found = inventory.row("m", declared, 3, [entry("review", NOW_MS)], "complete", NOW_MS, None)
    assert (found.approval, found.faults) == ("unknown: MLflow cannot be reached", [])

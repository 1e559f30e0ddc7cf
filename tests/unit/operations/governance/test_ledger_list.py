"""The entries of the ledger as people read them."""

import pytest

from services.model_registry.ledger_chain import ORIGIN, EntryDraft, decoded, sealed
from services.operations.governance import ledger_list
from services.operations.governance.ledger_list import EntryFilter
from streams.records import LedgerEntry


def entry(evidence: dict[str, object], version: int = 3) -> LedgerEntry:
    draft = EntryDraft(
        kind="approval",
        model="m",
        version=version,
        evidence=evidence,
        actor="ada",
        at_ms=60_000,
        request_id="r",
    )
    return decoded(sealed(draft, 1, ORIGIN))


@pytest.mark.parametrize(
    "chosen",
    [
        EntryFilter(),
        EntryFilter(model="m", kind="approval", version=3, request_id="r", actor="ada"),
        EntryFilter(since_ms=60_000),
    ],
)
def test_filter_admits_entries_that_match_all_of_it(chosen: EntryFilter) -> None:
    assert chosen.admits(entry({}))


@pytest.mark.parametrize(
    "chosen",
    [
        EntryFilter(model="n"),
        EntryFilter(kind="gate"),
        EntryFilter(version=4),
        EntryFilter(actor="bob"),
        EntryFilter(since_ms=60_001),
    ],
)
def test_filter_leaves_out_what_differs(chosen: EntryFilter) -> None:
    assert not chosen.admits(entry({}))


def test_entry_is_a_line_with_its_reason() -> None:
    head, line = ledger_list.lines([entry({"reason": "better\nthan before"})])
    assert head.split() == ["NUMBER", "AT", "MODEL", "VERSION", "KIND", "BY", "EVIDENCE"]
    assert " ".join(line.split()) == "1 1970-01-01 00:01 UTC m 3 approval ada better than before"


def test_evidence_without_a_reason_is_shown_as_json_and_shortened() -> None:
    line = ledger_list.lines([entry({"numbers": ["x" * 200]}, version=0)])[1]
    assert ' -        approval  ada  {"numbers":["xxx' in line
    assert line.endswith("x…")

"""The chain of the ledger: what is in it, what was overtaken, and what is a fault."""

import dataclasses
from typing import Any

import msgspec
import pytest

from services.model_registry.ledger_chain import (
    ORIGIN,
    Chain,
    EntryDraft,
    InvalidEntryError,
    canonical,
    decoded,
    sealed,
)

GOLDEN = (
    b'{"actor":"ada","at_ms":1372694700000,"entry_id":"r1/approval","event_time_ms":null,'
    b'"evidence":{"reason":"caf\xc3\xa9","share":0.5},'
    b'"hash":"d22b","kind":"approval","model":"m","number":1,'
    b'"previous":"0000000000000000000000000000000000000000000000000000000000000000","request_id":"r1","version":3}'
)


def draft(request_id: str = "r1", kind: str = "approval", **changes: Any) -> EntryDraft:
    made = EntryDraft(
        kind=kind,
        model="m",
        evidence={"reason": "café", "share": 0.5},
        actor="ada",
        at_ms=1_372_694_700_000,
        version=3,
        request_id=request_id,
    )
    return dataclasses.replace(made, **changes)


def log_of(count: int) -> list[bytes]:
    chain = Chain()
    log: list[bytes] = []
    for number in range(count):
        log.append(chain.sealed(draft(f"r{number}")))
        chain.add(number, log[-1])
    return log


def chain_of(log: list[bytes]) -> Chain:
    chain = Chain()
    for offset, value in enumerate(log):
        chain.add(offset, value)
    return chain


def test_entry_is_written_as_ever() -> None:
    entry = decoded(sealed(draft(), 1, ORIGIN))
    assert sealed(draft(), 1, ORIGIN) == GOLDEN.replace(b"d22b", entry.hash.encode())
    assert entry.hash == "3ca9239457d3d89e67722f45267f00fa2a956be5b55df7fad1001dc2c81e2b9b"
    assert entry.evidence == {"reason": "café", "share": 0.5}


def test_entries_form_a_chain() -> None:
    chain = chain_of(log_of(3))
    assert [entry.number for entry in chain.entries] == [1, 2, 3]
    assert [entry.previous for entry in chain.entries] == [ORIGIN, *(e.hash for e in chain.entries[:-1])]
    assert chain.faults == []
    assert chain.find("r1/approval") == chain.entries[1]
    assert chain.find("r9/approval") is None


def test_entry_of_an_overtaken_writer_is_not_in_the_chain() -> None:
    log = log_of(2)
    overtaken = sealed(draft("slow"), 2, chain_of(log[:1]).head)
    chain = chain_of([*log, overtaken])
    assert [entry.request_id for entry in chain.entries] == ["r0", "r1"]
    assert (chain.overtaken, chain.faults) == (1, [])
    assert chain_of([*log, overtaken, chain.sealed(draft("slow"))]).find("slow/approval")


def test_changed_entry_is_named() -> None:
    log = log_of(3)
    log[1] = log[1].replace(b'"ada"', b'"bob"')
    faults = chain_of(log).faults
    assert faults[0].name == "the record at offset 1"
    assert faults[0].text == "entry 2 (r1/approval) was changed: its content does not have its hash"
    assert faults[1].name == "entry 3 (r2/approval)"


def test_changed_entry_with_a_new_hash_is_noticed_at_the_next_one() -> None:
    log = log_of(3)
    log[1] = sealed(draft("r1", actor="bob"), 2, decoded(log[0]).hash)
    (fault,) = chain_of(log).faults
    assert fault.name == "entry 3 (r2/approval)"
    assert fault.text == "the entry before it is missing or was changed: entry 3 was expected here"


def test_removed_entry_is_noticed_and_the_chain_goes_on() -> None:
    log = log_of(4)
    chain = chain_of([log[0], log[2], log[3]])
    (fault,) = chain.faults
    assert (fault.offset, fault.name) == (1, "entry 3 (r2/approval)")
    assert "entry 2 was expected here" in fault.text
    assert chain_of([log[0], log[2], log[3], chain.sealed(draft("new"))]).faults == [fault]


def test_wrong_number_is_a_fault() -> None:
    (fault,) = chain_of([*log_of(1), sealed(draft("r1"), 7, chain_of(log_of(1)).head)]).faults
    assert fault.text == "it has the number 7 in place of 2"


def with_changes(**changes: Any) -> bytes:
    return canonical({**msgspec.json.decode(log_of(1)[0]), **changes})


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"no JSON",
        b"[]",
        b'{"entry_id":"r0"}',
        b"\xff",
        b"[" * 2000,
        with_changes(version="3"),
        with_changes(more=1),
        log_of(1)[0].replace(b'{"actor"', b'{ "actor"'),
        log_of(1)[0].replace(b'{"actor"', b'{"actor":"eve","actor"'),
        log_of(1)[0].replace(b"0.5", b"1e999"),
        log_of(1)[0].replace(b'"caf\xc3\xa9"', rb'"\ud800"'),
    ],
)
def test_what_is_not_as_it_was_written_is_no_entry(value: bytes | None) -> None:
    """Spaces, repeated names and names that nobody declared are changes, too."""
    with pytest.raises(InvalidEntryError):
        decoded(value)
    chain = Chain()
    chain.add(5, value)
    assert [fault.offset for fault in chain.faults] == [5]
    assert (chain.entries, chain.head) == ([], ORIGIN)


def test_field_of_a_newer_version_does_not_break_the_chain() -> None:
    """The hash is that of all fields in the record, also of those that this version does not know."""
    import hashlib

    fields = msgspec.json.decode(log_of(1)[0]) | {"later": 1}
    del fields["hash"]
    digest = hashlib.sha256(canonical(fields)).hexdigest()
    chain = chain_of([canonical({**fields, "hash": digest})])
    assert [entry.hash for entry in chain.entries] == [digest]


def test_evidence_may_hold_records_and_numbers_that_are_not_finite() -> None:
    evidence = {"bound": float("nan"), "gate": dataclasses.make_dataclass("Gate", ["name"])("floor")}
    assert decoded(sealed(draft(evidence=evidence), 1, ORIGIN)).evidence == {
        "bound": None,
        "gate": {"name": "floor"},
    }

"""A changed, removed or repeated row of the table is named."""

from typing import Any

import msgspec
import pytest

from services.model_registry.ledger_chain import Chain, EntryDraft, decoded
from services.operations.governance import ledger_check
from services.operations.governance.ledger_check import TableRow


def log_of(count: int) -> dict[int, bytes | None]:
    chain = Chain()
    log: dict[int, bytes | None] = {}
    for number in range(count):
        draft = EntryDraft(
            kind="gate", model="m", evidence={"n": number}, actor="a", at_ms=1, request_id=f"r{number}"
        )
        value = chain.sealed(draft)
        log[number] = value
        chain.add(number, value)
    return log


def row(offset: int, value: bytes | None, **changes: Any) -> TableRow:
    entry = decoded(value)
    columns = msgspec.structs.asdict(entry) | {"evidence": msgspec.json.encode(entry.evidence).decode()}
    return TableRow(offset, (value or b"").decode(), columns | changes)


def rows_of(log: dict[int, bytes | None]) -> list[TableRow]:
    return [row(offset, value) for offset, value in log.items()]


def faults(log: dict[int, bytes | None], rows: list[TableRow], position: int | None = None) -> list[str]:
    found = ledger_check.table_faults(log, rows, len(log) if position is None else position)
    return [f"{fault.name}: {fault.text}" for fault in found]


def test_table_like_the_topic_has_no_fault() -> None:
    log = log_of(3)
    assert faults(log, rows_of(log)) == []
    assert ledger_check.chain_of(log).faults == []


def test_entries_that_are_not_archived_yet_are_no_fault() -> None:
    log = log_of(3)
    assert faults(log, rows_of(log)[:2], position=2) == []


def test_row_that_is_missing_is_named() -> None:
    log = log_of(3)
    assert faults(log, [row(0, log[0]), row(2, log[2])]) == ["entry 2 (r1/gate): the table lacks it"]


def test_row_of_a_record_that_is_no_entry_is_not_missed() -> None:
    assert faults({0: b"garbage"}, []) == []


def test_row_that_the_topic_has_lost_is_named() -> None:
    log = log_of(3)
    (fault,) = faults({0: log[0], 1: log[1]}, rows_of(log))
    assert fault.startswith("entry 3 (r2/gate): the table has it, and the topic does not")


def test_row_that_is_there_twice_is_named() -> None:
    log = log_of(2)
    (fault,) = faults(log, [*rows_of(log), row(1, log[1])])
    assert fault.startswith("entry 2 (r1/gate): the table has two rows of this offset")


def test_changed_record_of_the_table_is_named() -> None:
    log = log_of(2)
    changed = rows_of(log)
    changed[1] = TableRow(1, changed[1].record.replace("r1", "r9"), changed[1].columns)
    (fault,) = faults(log, changed)
    assert fault == "entry 2 (r1/gate): the table has another text than the topic: one of them was changed"


@pytest.mark.parametrize(("name", "value"), [("actor", "eve"), ("version", 9), ("evidence", '{"n":7}')])
def test_changed_column_of_the_table_is_named(name: str, value: object) -> None:
    """Readers of the table see its columns, not its records."""
    log = log_of(1)
    (fault,) = faults(log, [row(0, log[0], **{name: value})])
    assert fault == f"entry 1 (r0/gate): columns of the table differ from its record: {name}"


def test_hash_that_was_noted_elsewhere_must_be_there() -> None:
    log = log_of(3)
    whole, cut = ledger_check.chain_of(log), ledger_check.chain_of({0: log[0], 1: log[1]})
    assert ledger_check.head_fault(whole, whole.head) == ""
    assert ledger_check.head_fault(whole, cut.head) == ""
    assert "entries at the end were removed" in ledger_check.head_fault(cut, whole.head)

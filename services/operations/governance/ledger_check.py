"""Whether the ledger is as it was written: the chain of the topic, and the archive's table. Pure."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from services.model_registry import ledger_chain
from services.model_registry.ledger_chain import Chain, ChainFault, InvalidEntryError
from streams.records import LedgerEntry

Log = Mapping[int, bytes | None]
"""The values of the records by offset, in order."""
FIELDS = tuple(field for field in LedgerEntry.__struct_fields__ if field != "evidence")


@dataclasses.dataclass(frozen=True)
class TableRow:
    """One row of the table."""

    offset: int
    record: str
    """The text of the record."""
    columns: Mapping[str, Any]
    """All columns."""


def chain_of(log: Log) -> Chain:
    """Return the chain of a log."""
    chain = Chain()
    for offset, value in log.items():
        chain.add(offset, value)
    return chain


def table_faults(log: Log, rows: Sequence[TableRow], position: int) -> list[ChainFault]:
    """Compare the table with the topic; return the differences by offset.

    Args:
        log: The topic.
        rows: The table.
        position: The first offset that the archive has not read yet.
    """
    by_offset = {row.offset: row for row in rows}
    found = [*_missing(log, by_offset, position), *_repeated(rows)]
    for offset, row in sorted(by_offset.items()):
        if fault := _row_fault(log, row):
            found.append(ChainFault(offset, _name(row), fault))
    return sorted(found, key=lambda fault: fault.offset)


def head_fault(chain: Chain, head: str) -> str:
    """Return what is wrong if the chain lacks an entry whose hash was noted elsewhere; empty if it has it."""
    if head == chain.head or any(entry.hash == head for entry in chain.entries):
        return ""
    return f"no entry has the hash {head}: entries at the end were removed, or the hash was noted wrongly"


def _missing(log: Log, by_offset: Mapping[int, TableRow], position: int) -> Iterator[ChainFault]:
    for offset, value in log.items():
        if offset < position and offset not in by_offset:
            try:
                entry = ledger_chain.decoded(value)
            except InvalidEntryError:
                continue  # a dead letter of the archive, and a fault of the topic
            yield ChainFault(offset, f"entry {entry.number} ({entry.entry_id})", "the table lacks it")


def _repeated(rows: Sequence[TableRow]) -> Iterator[ChainFault]:
    seen: set[int] = set()
    for row in rows:
        if row.offset in seen:
            yield ChainFault(
                row.offset, _name(row), "the table has two rows of this offset: was the topic recreated?"
            )
        seen.add(row.offset)


def _row_fault(log: Log, row: TableRow) -> str:
    if row.offset not in log:
        return "the table has it, and the topic does not: it was removed there, or the topic was recreated"
    if (log[row.offset] or b"") != row.record.encode():
        return "the table has another text than the topic: one of them was changed"
    try:
        entry = ledger_chain.decoded(row.record.encode())
    except InvalidEntryError:
        return ""  # a fault of the topic, with the same text
    changed = [name for name in FIELDS if row.columns.get(name) != getattr(entry, name)]
    if msgspec.json.decode(row.columns.get("evidence") or "null") != entry.evidence:
        changed.append("evidence")
    return f"columns of the table differ from its record: {', '.join(changed)}" if changed else ""


def _name(row: TableRow) -> str:
    return f"entry {row.columns.get('number')} ({row.columns.get('entry_id')})"

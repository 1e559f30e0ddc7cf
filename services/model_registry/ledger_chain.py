"""The rules by which the records of the ledger topic form one chain. Pure.

An entry is in the chain if it names the hash of the last entry of the chain at its place in the log. Several
processes write, and Kafka cannot check that. So a writer may be overtaken: its entry then names an entry of
the chain that is no longer the last one. Such an entry is not in the chain, and its writer writes it again.

Every other record that does not continue the chain is a fault: a record that is no entry, an entry that does
not have its own hash, and an entry that names an entry which the log does not have. The chain continues with
the latter: a ledger with a fault can still be written, and the fault remains visible.
"""

import dataclasses
import hashlib
import json
from typing import Any

import msgspec

from streams.json_decoder import InvalidRecordError
from streams.records import LedgerEntry, decoder_of

ORIGIN = "0" * 64
"""What the first entry names as the entry before it."""
_decode = decoder_of(LedgerEntry).decode


class InvalidEntryError(InvalidRecordError):
    """A record of the ledger topic is not an entry as it was written. The message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EntryDraft:
    """What an entry says, without its place in the chain."""

    kind: str
    model: str
    evidence: dict[str, Any]
    """Anything that JSON can hold; numbers that are not finite become null."""
    actor: str
    at_ms: int
    version: int = 0
    request_id: str
    """The retraining request or the command: kind and step are unique within it."""
    step: str = ""
    event_time_ms: int | None = None

    @property
    def entry_id(self) -> str:
        """The identity by which an entry is written once.

        >>> common = {"model": "m", "evidence": {}, "actor": "a", "at_ms": 0, "request_id": "r"}
        >>> EntryDraft(kind="gate", step="floor", **common).entry_id
        'r/gate/floor'
        """
        return "/".join(part for part in (self.request_id, self.kind, self.step) if part)


@dataclasses.dataclass(frozen=True)
class ChainFault:
    """A record that does not continue the chain."""

    offset: int
    name: str
    """The entry, or its offset where the record is no entry."""
    text: str


class Chain:
    """The entries of a log, as far as it was read."""

    def __init__(self) -> None:
        """Begin before the first record."""
        self.entries: list[LedgerEntry] = []
        self.faults: list[ChainFault] = []
        self.overtaken = 0
        """Number of entries that are not in the chain because another writer was faster."""
        self.head = ORIGIN
        """Hash of the last entry."""
        self._by_id: dict[str, LedgerEntry] = {}
        self._hashes = {ORIGIN}

    @property
    def number(self) -> int:
        """The number of the last entry; 0 without entries."""
        return self.entries[-1].number if self.entries else 0

    def find(self, entry_id: str) -> LedgerEntry | None:
        """Return the first entry with this id."""
        return self._by_id.get(entry_id)

    def add(self, offset: int, value: bytes | None) -> None:
        """Take the next record of the log."""
        try:
            entry = decoded(value)
        except InvalidEntryError as error:
            self.faults.append(ChainFault(offset, f"the record at offset {offset}", str(error)))
            return
        if entry.previous != self.head and entry.previous in self._hashes:
            self.overtaken += 1
            return
        if fault := self._fault(entry):
            self.faults.append(ChainFault(offset, f"entry {entry.number} ({entry.entry_id})", fault))
        self.entries.append(entry)
        self._by_id.setdefault(entry.entry_id, entry)
        self._hashes.add(entry.hash)
        self.head = entry.hash

    def sealed(self, draft: EntryDraft) -> bytes:
        """Return the record that adds an entry after the last one."""
        return sealed(draft, self.number + 1, self.head)

    def _fault(self, entry: LedgerEntry) -> str:
        expected = self.number + 1
        if entry.previous != self.head:
            return f"the entry before it is missing or was changed: entry {expected} was expected here"
        return "" if entry.number == expected else f"it has the number {entry.number} in place of {expected}"


def sealed(draft: EntryDraft, number: int, previous: str) -> bytes:
    """Return the record of an entry at its place in the chain."""
    fields = {
        "entry_id": draft.entry_id,
        "number": number,
        "kind": draft.kind,
        "model": draft.model,
        "version": draft.version,
        "request_id": draft.request_id,
        "actor": draft.actor,
        "at_ms": draft.at_ms,
        "event_time_ms": draft.event_time_ms,
        "evidence": json.loads(msgspec.json.encode(draft.evidence)),
        "previous": previous,
    }
    return canonical({**fields, "hash": hash_of(fields)})


def decoded(value: bytes | None) -> LedgerEntry:
    """Return the entry of a record that is exactly as it was written; raise `InvalidEntryError`."""
    try:
        entry: LedgerEntry = _decode(value)
        fields = json.loads(value or b"")
        is_canonical = canonical(fields) == value
    except (InvalidRecordError, ValueError, RecursionError) as error:  # also infinite numbers
        raise InvalidEntryError(f"it is not an entry: {error}") from error
    del fields["hash"]
    if not is_canonical or hash_of(fields) != entry.hash:
        raise InvalidEntryError(
            f"entry {entry.number} ({entry.entry_id}) was changed: its content does not have its hash"
        )
    return entry


def hash_of(fields: dict[str, Any]) -> str:
    """Return the hash of an entry's fields without its hash."""
    return hashlib.sha256(canonical(fields)).hexdigest()


def canonical(fields: dict[str, Any]) -> bytes:
    """Return the one way to write these fields as JSON; ValueError if JSON cannot hold them."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()

"""The entries of the ledger: what was decided about a model, by whom, when, and on which evidence."""

from typing import Annotated, Any

import msgspec

from streams.records.field_types import Int64, TimeMs

ModelName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,62}$")]
"""The name in model.yaml; the archive has a folder for each model."""


class LedgerEntry(msgspec.Struct, kw_only=True, frozen=True):
    """One decision or act. It names the entry before it by its hash, so that no entry can be changed unseen.

    Written as JSON with sorted keys, because the hash is that of the bytes; see
    `services.model_registry.ledger_chain`.
    """

    entry_id: str
    """Made of request, kind and step; the same after a crash, so that an entry is written once."""
    number: Int64
    """Position in the chain; the first entry has 1."""
    kind: str
    """Kind of entry, such as ``trigger``, ``gate`` or ``approval``. Newer versions may write other kinds."""
    model: ModelName
    version: Int64 = 0
    """0: the entry concerns no version."""
    request_id: str = ""
    """The retraining request, or the command, to which the entry belongs."""
    actor: str
    """Name of the person, or of the process."""
    at_ms: TimeMs
    """Wall time."""
    event_time_ms: TimeMs | None = None
    """Event time, if the decision has one."""
    evidence: dict[str, Any]
    previous: str
    """SHA-256 of the entry before it, in hexadecimal digits; 64 zeros in the first entry."""
    hash: str
    """SHA-256 of the record without this field."""

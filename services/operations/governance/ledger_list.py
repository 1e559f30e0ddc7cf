"""The entries of the ledger as lines. Pure."""

import dataclasses
from collections.abc import Sequence

import msgspec

from services.runtime import times
from streams.records import LedgerEntry

EVIDENCE_CHARACTERS_MAX = 120


@dataclasses.dataclass(frozen=True)
class EntryFilter:
    """Which entries are shown; None admits all."""

    model: str | None = None
    kind: str | None = None
    version: int | None = None
    request_id: str | None = None
    actor: str | None = None
    since_ms: int | None = None

    def admits(self, entry: LedgerEntry) -> bool:
        """Tell whether an entry is shown."""
        names = ("model", "kind", "version", "request_id", "actor")
        fits = all(getattr(self, name) in (None, getattr(entry, name)) for name in names)
        return fits and (self.since_ms is None or entry.at_ms >= self.since_ms)


def lines(entries: Sequence[LedgerEntry]) -> list[str]:
    """Return a table with a line per entry."""
    rows = [("NUMBER", "AT", "MODEL", "VERSION", "KIND", "BY", "EVIDENCE"), *map(_row, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(entry: LedgerEntry) -> tuple[str, ...]:
    return (
        str(entry.number),
        times.minute(entry.at_ms),
        entry.model,
        str(entry.version) if entry.version else "-",
        entry.kind,
        entry.actor,
        _evidence(entry),
    )


def _evidence(entry: LedgerEntry) -> str:
    """Return the reason or the text of an entry, or else its evidence as JSON, shortened."""
    given = entry.evidence.get("text") or entry.evidence.get("reason")
    text = str(given) if given else msgspec.json.encode(entry.evidence).decode()
    line = " ".join(text.split())
    return line if len(line) <= EVIDENCE_CHARACTERS_MAX else f"{line[: EVIDENCE_CHARACTERS_MAX - 1]}…"

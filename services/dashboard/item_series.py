"""The latest items of one kind, each with the revision at which it last changed. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry(Generic[Item]):
    at_ms: int
    revision: int
    item: Item


@dataclasses.dataclass(frozen=True, slots=True)
class Series(Generic[Item]):
    """The latest ``limit`` items by event time, each under its id. Immutable."""

    limit: int
    entries: Mapping[str, _Entry[Item]] = dataclasses.field(default_factory=dict)
    evicted: tuple[int, str] | None = None
    """The latest (time, id) that was dropped; nothing up to it is added again."""

    def get(self, key: str) -> Item | None:
        """Return the item under an id."""
        entry = self.entries.get(key)
        return None if entry is None else entry.item

    def put(self, key: str, at_ms: int, item: Item, revision: int) -> "Series[Item]":
        """Return the series with this item; the same object if nothing changes."""
        if self.get(key) == item or (self.evicted is not None and (at_ms, key) <= self.evicted):
            return self
        entries = {**self.entries, key: _Entry(at_ms, revision, item)}
        if len(entries) <= self.limit:
            return Series(self.limit, entries, self.evicted)
        oldest = min((entry.at_ms, name) for name, entry in entries.items())
        del entries[oldest[1]]
        return Series(self.limit, entries, oldest)

    def since(self, revision: int) -> list[Item]:
        """Return the items that changed after a revision, in the order of event time."""
        changed = [
            (entry.at_ms, key, entry) for key, entry in self.entries.items() if entry.revision > revision
        ]
        return [entry.item for _, _, entry in sorted(changed, key=lambda row: row[:2])]

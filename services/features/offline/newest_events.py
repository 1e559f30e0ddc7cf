"""The newest event of each entity before a time, on disk, for views without a time to live.

A value of such a view depends on the newest event, however old it is, or on whether there was one. Because
these events are stored between passes of the skew check, a pass need not read a source from its start.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from services.features.view_state import Entity, Event, ViewLogic
from services.runtime.watermarks import NEVER

_KEYS_MAX = 500
"""Maximum keys per query; SQLite takes at most 999 values."""
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS newest (
        view TEXT, key BLOB, time_ms INTEGER, partition INTEGER, "offset" INTEGER, value BLOB,
        PRIMARY KEY (view, key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS reached (topic TEXT PRIMARY KEY, until_ms INTEGER);
"""
_UPSERT = """
    INSERT INTO newest VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        time_ms = excluded.time_ms, partition = excluded.partition, "offset" = excluded."offset",
        value = excluded.value
    WHERE (excluded.time_ms, excluded.partition, excluded."offset") > (time_ms, partition, "offset")
"""


class NewestEvent(NamedTuple):
    """A stored event; the greater of two is the newer one, as in the online store."""

    time_ms: int
    partition: int
    offset: int
    value: bytes


class NewestEvents:
    """The newest event of each view and entity before `until_ms` of its topic.

    Events and the time that they reach are committed together; a killed pass changes nothing.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or create it."""
        self._connection = sqlite3.connect(path)
        self._connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop uncommitted changes; close the file."""
        self._connection.close()

    def until_ms(self, topic: str) -> int:
        """Return the event time before which all events of a topic are included; `NEVER` if none are."""
        row = self._connection.execute("SELECT until_ms FROM reached WHERE topic = ?", [topic]).fetchone()
        return NEVER if row is None else int(row[0])

    def find(self, view: str, keys: Sequence[bytes]) -> Iterator[NewestEvent]:
        """Yield the stored event of each of these entities that has one."""
        for start in range(0, len(keys), _KEYS_MAX):
            batch = keys[start : start + _KEYS_MAX]
            placeholders = ",".join("?" * len(batch))
            rows = self._connection.execute(
                'SELECT time_ms, partition, "offset", value FROM newest '  # noqa: S608  # only question marks
                f"WHERE view = ? AND key IN ({placeholders})",
                [view, *batch],
            )
            yield from map(NewestEvent._make, rows)

    def put(self, view: str, newest: Mapping[bytes, NewestEvent]) -> None:
        """Store events by entity key, in any order, where they are newer; `commit` makes them valid."""
        self._connection.executemany(_UPSERT, ((view, key, *event) for key, event in newest.items()))

    def commit(self, topic: str, until_ms: int) -> None:
        """Record that all events of a topic before this event time are included."""
        self._connection.execute("INSERT OR REPLACE INTO reached VALUES (?, ?)", [topic, until_ms])
        self._connection.commit()

    def clear(self) -> None:
        """Delete everything."""
        self._connection.executescript("DELETE FROM newest; DELETE FROM reached")


def newest_by_key(
    logic: ViewLogic, events: Iterable[tuple[Any, Event]], until_ms: int
) -> dict[bytes, NewestEvent]:
    """Return each entity's newest event before a time, by the entity's key."""
    found: dict[Entity, NewestEvent] = {}
    for record, event in events:
        entity = logic.entity(event.value) if event.time_ms < until_ms else None
        if entity is None:
            continue
        candidate = NewestEvent(event.time_ms, event.source_partition, event.source_offset, record.value)
        if entity not in found or candidate > found[entity]:
            found[entity] = candidate
    return {logic.key_of(entity): newest for entity, newest in found.items()}

"""The newest event of each entity before a time, on disk: what views without a time to live need of the past.

Such a value depends on the newest event however old it is, or on whether there was one. Kept between passes
of the skew check, it spares them to read a source from its start.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from services.features.view_state import Entity, Event, ViewLogic
from services.runtime.watermarks import NEVER

_KEYS_MAX = 500
"""Of one query; SQLite takes at most 999 values."""
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS newest (
        view TEXT, key BLOB, time_ms INTEGER, partition INTEGER, "offset" INTEGER, value BLOB,
        PRIMARY KEY (view, key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS reached (topic TEXT PRIMARY KEY, until_ms INTEGER);
"""
_KEEP = """
    INSERT INTO newest VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
        time_ms = excluded.time_ms, partition = excluded.partition, "offset" = excluded."offset",
        value = excluded.value
    WHERE (excluded.time_ms, excluded.partition, excluded."offset") > (time_ms, partition, "offset")
"""


class Kept(NamedTuple):
    """An event; of two the greater one is the newer, as in the online store."""

    time_ms: int
    partition: int
    offset: int
    value: bytes


class NewestEvents:
    """Of each view and entity the newest event before `until_ms` of its topic.

    Whatever is kept becomes valid at once with the time that it reaches; a killed pass leaves what was.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or begin one."""
        self._connection = sqlite3.connect(path)
        self._connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what is not committed; close the file."""
        self._connection.close()

    def until_ms(self, topic: str) -> int:
        """Return the event time before which everything of a topic is taken in; `NEVER` if nothing is."""
        row = self._connection.execute("SELECT until_ms FROM reached WHERE topic = ?", [topic]).fetchone()
        return NEVER if row is None else int(row[0])

    def of(self, view: str, keys: Sequence[bytes]) -> Iterator[Kept]:
        """Yield the events of those of these entities that have one."""
        for start in range(0, len(keys), _KEYS_MAX):
            own = keys[start : start + _KEYS_MAX]
            marks = ",".join("?" * len(own))
            rows = self._connection.execute(
                f'SELECT time_ms, partition, "offset", value FROM newest WHERE view = ? AND key IN ({marks})',  # noqa: S608  # question marks
                [view, *own],
            )
            yield from map(Kept._make, rows)

    def keep(self, view: str, newest: Mapping[bytes, Kept]) -> None:
        """Take in events by entity, in any order; `commit` follows."""
        self._connection.executemany(_KEEP, ((view, key, *event) for key, event in newest.items()))

    def commit(self, topic: str, until_ms: int) -> None:
        """Say that everything of a topic before this event time is taken in."""
        self._connection.execute("INSERT OR REPLACE INTO reached VALUES (?, ?)", [topic, until_ms])
        self._connection.commit()

    def clear(self) -> None:
        """Forget everything."""
        self._connection.executescript("DELETE FROM newest; DELETE FROM reached")


def newest_of(logic: ViewLogic, events: Iterable[tuple[Any, Event]], until_ms: int) -> dict[bytes, Kept]:
    """Return the newest event before a time of each entity, of events with their records."""
    found: dict[Entity, Kept] = {}
    for record, event in events:
        entity = logic.entity(event.value) if event.time_ms < until_ms else None
        if entity is None:
            continue
        kept = Kept(event.time_ms, event.source_partition, event.source_offset, record.value)
        if entity not in found or kept > found[entity]:
            found[entity] = kept
    return {logic.key_of(entity): kept for entity, kept in found.items()}

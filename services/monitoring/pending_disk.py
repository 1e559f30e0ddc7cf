"""Encoded predictions on disk (RocksDB), by id and in order; survives a crash at any point.

Changes stay in memory until `PendingDisk.commit`, which writes them at once as the next *generation*,
together with what undoes them. A snapshot in Kafka names the generation that it belongs to. The disk is
committed first; so after a crash it is at the generation of the last snapshot or one ahead, which is undone.
"""

import contextlib
import functools
import shutil
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from streams.outages import OutageError

CACHE_BYTES = 128 << 20
"""Memory of all models for blocks, indexes and Bloom filters. Those of 50 million predictions are larger."""
WRITE_BUFFER_BYTES = 32 << 20
BLOOM_BITS = 10
"""Bits per key: one absent id in a hundred costs a read of the disk."""

_INDEX, _ENTRY, _UNDO = b"i", b"p", b"u"
"""First byte of a key: a place in the order by id, an entry by place and id, an old value by its key. The
entries are large and are written in the order of their keys, so only the small index is sorted on disk."""
_META = b"meta"
_AFTER_ENTRIES, _AFTER_UNDO = b"q", b"v"
_PLACE = struct.Struct(">Qq")
"""Event time as an unsigned number (its bytes sort like the times), and a serial number."""
_ID_AT = 1 + _PLACE.size
"""Where the id begins in the key of an entry."""
_ZERO_MS = 1 << 63

_DAMAGE = "Corruption:", "No such file or directory"
"""Parts of the library's errors that mean damaged files."""
_LOCKED = "lock"
"""Parts of its errors that mean that another process has the files open."""


class GenerationLostError(RuntimeError):
    """The disk does not hold the generation that a snapshot belongs to. The message says which it holds."""


class DiskInUseError(OutageError):
    """Another process has the files open."""


class _Meta(msgspec.Struct, array_like=True):
    store: str = ""
    generation: int = 0
    count: int = 0
    serial: int = 0
    """The number of the next entry."""
    appended: bytes = b""
    """The key of the first entry that this generation has appended; empty if it has appended none."""
    evicted: bytes = b""
    """No entry has a key before this one: iteration starts after what was deleted."""


class StoredEntry(NamedTuple):
    """An entry as it was found."""

    key: bytes
    value: bytes


class PendingDisk:
    """One model's older predictions. To be used from one thread, by one process."""

    def __init__(self, folder: Path, store: str, generation: int) -> None:
        """Open or create the folder, at a generation.

        Args:
            folder: Nothing else is in it; its parents are created.
            store: The store that the snapshot names; an empty one gets a new name with its first commit.
            generation: That of the snapshot; 0 begins empty.

        Raises:
            GenerationLostError: The folder does not hold this generation: it is of another machine, older, or
                damaged.
        """
        self._folder = folder
        self._meta = _Meta(store)
        self._changes: dict[bytes, bytes | None] = {}
        self._undo: dict[bytes, bytes | None] = {}
        if generation:
            try:
                with _giving_up_if_damaged(self._folder):
                    self._meta = _restored(self._db, folder, store, generation)
            except BaseException:
                self.close()
                raise

    @functools.cached_property
    def _db(self) -> Rdict:
        """The files; those of an empty store are made by the first commit."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            return Rdict(str(self._folder), _options())
        except Exception as error:  # the library raises plain exceptions
            if _is_damage(error):
                raise GenerationLostError(f"{self._folder} is damaged: {error}") from error
            reason = f"{self._folder} cannot be opened: {error}"
            if _LOCKED in str(error):
                raise DiskInUseError(f"{reason}; only one process may use it") from error
            raise OutageError(f"{reason}; check that the disk has free space") from error

    @property
    def store(self) -> str:
        """Names the history in which the generations count; empty before the first commit."""
        return self._meta.store

    @property
    def count(self) -> int:
        """Number of entries."""
        return self._meta.count

    @property
    def changes(self) -> int:
        """Number of keys changed since the last commit: they are in memory."""
        return len(self._changes)

    def get(self, identity: str) -> StoredEntry | None:
        """Return an entry."""
        if not self._meta.count or (place := self._get(_index_key(identity))) is None:
            return None
        key = _ENTRY + place + identity.encode()
        value = self._get(key)
        return None if value is None else StoredEntry(key, value)

    def remove(self, found: StoredEntry) -> None:
        """Remove an entry that `get` has returned."""
        self._set(found.key, None, found.value)
        self._set(_INDEX + found.key[_ID_AT:], None, found.key[1:_ID_AT])
        self._meta.count -= 1

    def replace(self, found: StoredEntry, value: bytes) -> None:
        """Change the value of an entry that `get` has returned; its place in the order stays."""
        self._set(found.key, value, found.value)

    def append(self, identity: str, counts_at_ms: int, value: bytes) -> None:
        """Add an entry after all that count at its time or before; its id is new."""
        place = _PLACE.pack(counts_at_ms + _ZERO_MS, self._meta.serial)
        key = _ENTRY + place + identity.encode()
        self._changes[key], self._changes[_index_key(identity)] = value, place
        self._meta.appended = self._meta.appended or key
        self._meta.serial += 1
        self._meta.count += 1

    def take_before(self, counts_at_ms: int) -> Iterator[bytes]:
        """Remove and yield the values of the entries that count before an event time, in order."""
        stop = _ENTRY + _PLACE.pack(counts_at_ms + _ZERO_MS, 0)
        start = self._meta.evicted or _ENTRY
        if start >= stop or not self._meta.count:
            return
        # Entries that were appended since the last commit are newer than all of these: see `settle`.
        with _giving_up_if_damaged(self._folder):
            for key, committed in _rows(self._db, start, stop):
                if (value := self._changes.get(key, committed)) is not None:
                    self.remove(StoredEntry(key, value))
                    yield value
        self._meta.evicted = stop

    def between(self, start_ms: int, stop_ms: int) -> Iterator[bytes]:
        """Yield the values of the entries from an event time on and before another one, in order."""
        start, stop = (_ENTRY + _PLACE.pack(at + _ZERO_MS, 0) for at in (start_ms, stop_ms))
        start = max(start, self._meta.evicted)
        if start >= stop or not self._meta.count:
            return
        with _giving_up_if_damaged(self._folder):
            for key, committed in _rows(self._db, start, stop):
                if (value := self._changes.get(key, committed)) is not None:
                    yield value

    def commit(self) -> int:
        """Write all changes at once, and what undoes them; return the number of the generation.

        It is a new one only if something has changed.
        """
        if not self._changes:
            return self._meta.generation
        if not self._meta.generation:
            self._meta.store = self._meta.store or uuid.uuid4().hex
            if self._folder.exists():  # of another store
                self.close()
                Rdict.destroy(str(self._folder), _options())
        self._meta.generation += 1
        self._set(_META, msgspec.msgpack.encode(self._meta), self._db.get(_META))
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(_UNDO, _AFTER_UNDO)
        for key, value in sorted(self._changes.items()):
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        for key, old in self._undo.items():
            batch.put(_UNDO + key, b"\x00" if old is None else b"\x01" + old)
        self._db.write(batch, _synced())
        self._changes, self._undo, self._meta.appended = {}, {}, b""
        return self._meta.generation

    def close(self) -> None:
        """Close the files, if they are open; changes since the last commit are not written."""
        if (opened := self.__dict__.pop("_db", None)) is not None:
            opened.close()

    def _get(self, key: bytes) -> bytes | None:
        if key in self._changes:
            return self._changes[key]
        with _giving_up_if_damaged(self._folder):
            found: bytes | None = self._db.get(key)
        return found

    def _set(self, key: bytes, value: bytes | None, old: bytes | None) -> None:
        """Change a key; ``old`` is its committed value if it has not been changed since the commit."""
        self._changes[key] = value
        self._undo.setdefault(key, old)


def delete(folder: Path) -> None:
    """Delete the files of a store, unless a process has them open."""
    with contextlib.suppress(Exception):  # the library raises plain exceptions
        Rdict.destroy(str(folder), _options())
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _giving_up_if_damaged(folder: Path) -> Iterator[None]:
    """Let nobody open the files again if a read finds that they are damaged."""
    try:
        yield
    except Exception as error:
        if not _is_damage(error):
            raise
        (folder / "CURRENT").unlink(missing_ok=True)
        raise GenerationLostError(f"{folder} is damaged: {error}") from error


def _is_damage(error: Exception) -> bool:
    return any(sign in str(error) for sign in _DAMAGE)


def _index_key(identity: str) -> bytes:
    return _INDEX + identity.encode()


def _rows(db: Rdict, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
    rows = db.iter()
    rows.seek(start)
    while rows.valid() and (key := rows.key()) < stop:
        yield key, rows.value()
        rows.next()


def _meta_of(db: Rdict) -> _Meta:
    raw = db.get(_META)
    return msgspec.msgpack.decode(raw, type=_Meta) if raw else _Meta()


def _restored(db: Rdict, folder: Path, store: str, generation: int) -> _Meta:
    """Go back to a generation; raise `GenerationLostError` if the disk does not hold it."""
    found = _meta_of(db)
    if found.store == store and found.generation == generation + 1:
        _undo_last(db)
        found = _meta_of(db)
    if (found.store, found.generation) != (store, generation):
        raise GenerationLostError(
            f"{folder} holds generation {found.generation} of store {found.store or 'none'!r}, the "
            f"snapshot belongs to generation {generation} of {store!r}"
        )
    found.appended = b""
    return found


def _undo_last(db: Rdict) -> None:
    batch = WriteBatch(raw_mode=True)
    if appended := _meta_of(db).appended:
        for key, _ in _rows(db, appended, _AFTER_ENTRIES):
            batch.delete(key)
            batch.delete(_INDEX + key[_ID_AT:])
    for key, old in _rows(db, _UNDO, _AFTER_UNDO):
        if old[:1] == b"\x01":
            batch.put(key[1:], old[1:])
        else:
            batch.delete(key[1:])
    batch.delete_range(_UNDO, _AFTER_UNDO)
    db.write(batch, _synced())


def _synced() -> WriteOptions:
    options = WriteOptions()
    options.sync = True
    return options


@functools.cache
def _cache() -> Cache:
    return Cache(CACHE_BYTES)


def _options() -> Options:
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(BLOOM_BITS, block_based=False)
    blocks.set_block_cache(_cache())
    blocks.set_cache_index_and_filter_blocks(True)
    # In parts of a few KiB. Whole, they are megabytes each, and those of 50 million predictions exceed the
    # cache: each label would load one of them again.
    blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_pin_top_level_index_and_filter(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(2)
    return options

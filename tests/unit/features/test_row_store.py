"""Replies of Redis: which are conflicts, which are losses, and what is read back."""

import asyncio
from typing import Any

import pytest

from services.feature_store import feast_layout
from services.features.row_store import EntityWrite, RowStore, StateLostError, WriteConflictError
from services.features.view_progress import ProgressUpdate, ViewGeneration, ViewPosition, ViewProgress
from tests.unit.features.fakes import ScriptedPipeline

FIELD = b"_driftline:v"
AT = ViewPosition("v", 5, "source-0", ViewProgress(3, {0: 7}, b"stored"))


def store_with(*replies: Any) -> tuple[RowStore, ScriptedPipeline]:
    pipeline = ScriptedPipeline(list(replies))
    real: Any = pipeline
    return RowStore(real, "p"), pipeline


def sidecar(offset: int, generation: int = 5, partition: int = 0) -> bytes:
    return feast_layout.encode_sidecar({partition: offset}, b"state", generation)


def version(offset: int, generation: int = 5) -> bytes:
    return feast_layout.sidecar_version(sidecar(offset, generation))


def write(reply: Any, based_on: bytes) -> None:
    """Write two rows; the second one is refused with a reply unless that is 1."""
    store, _ = store_with(1, reply)
    writes = [EntityWrite(b"k", b"", {FIELD: b"x"}), EntityWrite(b"l", based_on, {FIELD: b"x"})]
    asyncio.run(store.write(AT, FIELD, writes))


def test_accepted_writes_raise_nothing() -> None:
    write(1, version(3))


@pytest.mark.parametrize(
    ("stored", "based_on"),
    [
        (sidecar(9), version(3)),
        (sidecar(3, partition=1), b""),
        (sidecar(9, generation=6), version(3)),
        (sidecar(1), version(3, generation=4)),
    ],
    ids=["a newer row", "a row where none was", "a row of a later generation", "based on an old generation"],
)
def test_row_of_another_worker_is_a_conflict(stored: bytes, based_on: bytes) -> None:
    with pytest.raises(WriteConflictError, match="v: another worker has changed 1 of 2 rows"):
        write(stored, based_on)


@pytest.mark.parametrize(
    "stored",
    [sidecar(2), sidecar(9, partition=1), sidecar(9, generation=4), b"", b"\xff no sidecar"],
    ids=["an older row", "without a partition", "of an earlier generation", "no row", "another format"],
)
def test_row_without_what_was_written_is_a_loss(stored: bytes) -> None:
    with pytest.raises(StateLostError, match="v: the store holds older versions of 1 of 2 rows"):
        write(stored, version(3))


def test_nothing_is_sent_for_no_writes() -> None:
    store, pipeline = store_with()
    asyncio.run(store.write(AT, FIELD, []))
    assert pipeline.commands == []


def test_sidecars_are_given_only_at_the_known_progress() -> None:
    store, pipeline = store_with(b"one", None, b"stored")
    assert asyncio.run(store.sidecars(AT, [b"k", b"l"], FIELD)) == [b"one", None]
    assert [command[0] for command in pipeline.commands] == [b"HGET"] * 3 or len(pipeline.commands) == 3
    for found in (b"another", None):
        store, _ = store_with(b"one", found)
        with pytest.raises(WriteConflictError, match="another worker has changed the progress of source-0"):
            asyncio.run(store.sidecars(AT, [b"k"], FIELD))


def test_progress_is_stored_with_its_bytes_and_read_back() -> None:
    store, pipeline = store_with(1)
    after = ViewProgress(4, {1: 9, 0: 8})
    (written,) = asyncio.run(store.update_progress([ProgressUpdate(AT, after, 0, 100)]))
    assert written.stored == b'{"next_offset":4,"watermarks_ms":{"0":8,"1":9}}'
    assert b"stored" in pipeline.commands[0], "the update is based on the known bytes"
    store, _ = store_with(written.stored, None)
    assert asyncio.run(store.progress([("v", "source-0"), ("v", "source-1")])) == [written, ViewProgress()]


def test_refused_progress_is_a_conflict() -> None:
    store, _ = store_with(1, 0)
    updates = [ProgressUpdate(AT, ViewProgress(4), 0)] * 2
    with pytest.raises(WriteConflictError, match="v: another worker has changed the progress of source-0"):
        asyncio.run(store.update_progress(updates))


def test_generations_are_read_and_missing_ones_are_none() -> None:
    store, _ = store_with([b"7", b"digest", b"now", b"1", b"t"], [None] * 5)
    found = asyncio.run(store.generations(["v", "w"]))
    assert found == [ViewGeneration(7, "digest", "now", unswept=True, topics="t"), None]


def test_number_of_a_new_generation_exceeds_the_stored_one_even_if_that_is_in_the_future() -> None:
    future = 2**60
    store, pipeline = store_with(b"ignored")
    expected = ViewGeneration(future, "d", "earliest")
    begun = store.begin_generation("v", 2, expected=expected, definition="d", start="now")
    asyncio.run(begun)
    (command,) = pipeline.commands
    assert str(future + 1).encode() in command
    assert str(future).encode() in command


def test_a_missing_row_that_may_have_expired_is_a_conflict_and_no_loss() -> None:
    store, _ = store_with(b"")
    gone = EntityWrite(b"k", version(3), {FIELD: b"x"}, expiry=b"60", may_be_gone=True)
    with pytest.raises(WriteConflictError):
        asyncio.run(store.write(AT, FIELD, [gone]))


def test_the_expiry_is_sent_with_the_row() -> None:
    store, pipeline = store_with(1)
    asyncio.run(store.write(AT, FIELD, [EntityWrite(b"k", b"", {FIELD: b"x"}, expiry=b"60")]))
    assert pipeline.commands[0][3:] == (b"k", FIELD, b"", b"60", FIELD, b"x")

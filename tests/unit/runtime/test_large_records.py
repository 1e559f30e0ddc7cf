"""Values of any size: written in parts, read whole, whatever a crash and the compaction leave."""

import dataclasses
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime import large_records
from services.runtime.large_records import (
    MAGIC,
    FoundValue,
    LargeRecordError,
    LargeRecordReader,
    LargeRecordWriter,
    PartLayout,
    part_key,
)
from streams import topics
from streams.producer import Record

PART = 10
KEY = b"m"


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_records, "PART_BYTES_MAX", PART)
        patch.setattr(large_records, "BATCH_PARTS_MAX", 2)
        yield


class CrashError(Exception):
    """The process ends here."""


@dataclasses.dataclass
class Topic:
    """One partition of a compacted topic."""

    log: list[tuple[int, bytes, bytes | None]] = dataclasses.field(default_factory=list)
    end: int = 0
    writes_left: int = 1_000_000
    """Until the writer crashes."""
    batches: list[int] = dataclasses.field(default_factory=list)
    """Sizes of the writes."""

    def write(self, batch: Sequence[Record]) -> None:
        if self.writes_left == 0:
            raise CrashError
        self.writes_left -= 1
        self.batches.append(len(batch))
        for key, value, _ in batch:
            assert key is not None
            self.log.append((self.end, key, value))
            self.end += 1

    def compact(self, stop: int) -> None:
        """Keep the latest record of each key among those before an offset, and no tombstones."""
        latest = {key: offset for offset, key, _ in self.log if offset < stop}
        self.log = [
            (offset, key, value)
            for offset, key, value in self.log
            if offset >= stop or (latest[key] == offset and value is not None)
        ]

    def read(self, *, backwards: bool = False) -> FoundValue | None:
        reader = LargeRecordReader([KEY])
        for record in reversed(self.log) if backwards else self.log:
            reader.take(*record)
            if backwards:
                reader.drop_unneeded()
                if reader.is_complete:
                    break
        return reader.found().get(KEY)

    def live_parts(self) -> int:
        latest = {key: value for _, key, value in self.log}
        return sum(value is not None for key, value in latest.items() if key != KEY)


def value(parts: int, seed: int = 0) -> bytes:
    return bytes((seed + number) % 251 for number in range(parts * PART - 3))


def writer(topic: Topic) -> LargeRecordWriter:
    """Return a writer as a process makes it that starts now."""
    found, made = topic.read(), LargeRecordWriter(topic.write)
    made.learn({} if found is None else {KEY: found})
    return made


def test_a_small_value_is_one_record_as_ever() -> None:
    topic = Topic()
    writer(topic).put(KEY, b"small")
    assert topic.log == [(0, KEY, b"small")]
    assert topic.read() == FoundValue(0, b"small", PartLayout())


def test_a_part_fits_into_a_topic_with_kafkas_default_limit() -> None:
    assert topics.InternalTopic("n", "k", "r", "p", ()).message_bytes_max() <= 1 << 20
    assert large_records.part_key(KEY, 1, 12) == b"m/part/1/0012"


def test_a_large_value_is_written_in_bounded_batches_and_its_head_comes_last() -> None:
    topic = Topic()
    writer(topic).put(KEY, value(5))
    assert topic.batches == [2, 2, 1, 1]
    assert topic.log[-1][1] == KEY
    assert topic.log[-1][2] is not None
    assert topic.log[-1][2].startswith(MAGIC)
    found = topic.read()
    assert found is not None
    assert (found.offset, found.value) == (5, value(5))


@pytest.mark.parametrize("writes", range(7))
def test_a_crash_between_two_writes_leaves_the_value_before(writes: int) -> None:
    topic = Topic()
    subject = writer(topic)
    subject.put(KEY, value(4, seed=1))
    subject.put(KEY, value(6, seed=2))
    topic.writes_left = writes
    with pytest.raises(CrashError):
        subject.put(KEY, value(12, seed=3))
    topic.compact(topic.end)
    found = topic.read(backwards=True)
    assert found is not None
    assert found.value == value(6, seed=2)


def test_parts_of_an_attempt_that_crashed_are_removed_by_the_next_value() -> None:
    topic = Topic()
    subject = writer(topic)
    subject.put(KEY, value(3))
    topic.writes_left = 4
    with pytest.raises(CrashError):
        subject.put(KEY, value(20, seed=1))
    assert topic.live_parts() == 3 + 8
    topic.writes_left = 100
    writer(topic).put(KEY, value(2, seed=2))
    assert topic.live_parts() == 3 + 2


def test_a_value_that_shrinks_leaves_no_parts_behind() -> None:
    topic = Topic()
    subject = writer(topic)
    for parts in (9, 8, 1, 1):
        subject.put(KEY, value(parts))
    topic.compact(topic.end)
    assert topic.live_parts() == 2
    assert len(topic.log) == 3


def test_a_deleted_value_is_none() -> None:
    topic = Topic()
    writer(topic).put(KEY, value(3))
    topic.write([(KEY, None, [])])
    assert topic.read() is None


def test_a_version_is_written_into_the_slot_that_it_names() -> None:
    topic = Topic()
    for _ in range(2):
        writer(topic).put(KEY, value(3), slot=1)
    assert topic.live_parts() == 3
    assert part_key(KEY, 1, 0) in [key for _, key, _ in topic.log]


def test_a_value_without_all_its_parts_says_so() -> None:
    topic = Topic()
    writer(topic).put(KEY, value(4))
    topic.log = [record for record in topic.log if not record[1].endswith((b"0001", b"0002"))]
    with pytest.raises(
        LargeRecordError,
        match="'m' at offset 4 is incomplete: 2 of its 4 parts are missing, the first is part 1",
    ):
        topic.read()


def test_parts_of_two_writers_are_not_mixed() -> None:
    topic = Topic()
    LargeRecordWriter(topic.write).put(KEY, value(4))
    topic.writes_left = 1
    with pytest.raises(CrashError):
        LargeRecordWriter(topic.write).put(KEY, value(4, seed=9))
    with pytest.raises(LargeRecordError, match="do not belong together: another process may write"):
        topic.read()


def test_a_head_of_another_kind_says_so() -> None:
    topic = Topic()
    topic.write([(KEY, MAGIC + b"\xff", [])])
    with pytest.raises(LargeRecordError, match="the head of the record 'm' cannot be read"):
        topic.read()


def test_records_of_other_keys_are_passed_over() -> None:
    reader = LargeRecordReader([KEY])
    reader.take(0, b"other", b"x")
    reader.take(1, b"other/part/0/0000", b"x")
    reader.take(2, None, b"x")
    assert reader.found() == {}
    assert not reader.is_complete


_steps = st.lists(
    st.tuples(
        st.integers(0, 12),  # parts of the next value
        st.none() | st.integers(0, 9),  # writes until a crash, after which a new process starts
        st.none() | st.integers(0, 100),  # percentage of the log that is compacted
    ),
    max_size=12,
)


@given(_steps)
def test_the_last_value_with_a_head_is_read_whatever_crashes_and_compaction_leave(
    steps: list[tuple[int, int | None, int | None]],
) -> None:
    topic = Topic()
    subject = writer(topic)
    expected: bytes | None = None
    for seed, (parts, writes, share) in enumerate(steps):
        given_value = value(parts, seed) if parts else b"s"
        topic.writes_left = 1_000_000 if writes is None else writes
        try:
            subject.put(KEY, given_value)
        except CrashError:
            topic.writes_left = 1_000_000
            subject = writer(topic)
        else:
            expected = given_value
        if share is not None:
            topic.compact(topic.end * share // 100)
        for backwards in (False, True):
            found = topic.read(backwards=backwards)
            assert (None if found is None else found.value) == expected
    if expected is not None:
        topic.writes_left = 1_000_000
        for _ in range(2):
            writer(topic).put(KEY, value(1))
        parts_interrupted = [parts for parts, writes, _ in steps if writes is not None]
        assert topic.live_parts() <= 2 + max(parts_interrupted, default=0)


@pytest.mark.parametrize("counts", [(0, 2**40, 0), (0, 1, 2**40), (0, -1, 0), (7, 1, 0), (0, 2**64 - 1, 0)])
def test_a_head_that_names_impossible_parts_says_so_at_once(counts: tuple[int, int, int]) -> None:
    reader = LargeRecordReader([KEY])
    head = MAGIC + msgspec.msgpack.encode([*counts, b"digest"])
    with pytest.raises(LargeRecordError, match="the head of the record 'm' cannot be read"):
        reader.take(0, KEY, head)


def test_a_part_with_an_impossible_number_is_passed_over() -> None:
    """Otherwise the next value would remove a billion parts."""
    reader = LargeRecordReader([KEY])
    reader.take(0, KEY, b"value")
    reader.take(1, b"m/part/0/999999999", b"part")
    assert reader.found()[KEY].layout == PartLayout()

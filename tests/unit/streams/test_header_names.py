from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from kafka.record import memory_records

from streams import aiokafka_internals, header_names, kafka_python_internals
from tests.raw_headers import RawName

kafka_python_internals.read_any_header_name()
assert aiokafka_internals
GZIP = 1
NAMES = st.binary(max_size=8)
HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=8)), max_size=3)
RECORDS = st.lists(
    st.tuples(st.none() | st.binary(max_size=300), st.none() | st.binary(max_size=300), HEADERS), min_size=1
)


def batch_of(found: Sequence[Any], compression: int = 0) -> bytes:
    builder = memory_records.MemoryRecordsBuilder(2, compression, 1 << 20)
    for number, (key, value, headers) in enumerate(found):
        builder.append(number, key, value, [(RawName(name), each) for name, each in headers])
    builder.close()
    return bytes(builder.buffer())


def by_aiokafka(data: bytes, start: int = 0) -> list[Any]:
    records = fetcher.MemoryRecords(data)
    partition = TopicPartition("t", 0)
    return list(fetcher.PartitionRecords(partition, records, [], start, None, None, True, 1))


def by_kafka_python(data: bytes) -> list[Any]:
    return [record for batch in memory_records.MemoryRecords(data) for record in batch]


READERS = pytest.mark.parametrize("read", [by_aiokafka, by_kafka_python])


def expected(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else "?" for byte in raw)


@READERS
@pytest.mark.parametrize("compression", [0, GZIP])
@given(found=RECORDS)
def test_every_record_is_read_as_it_was_written(
    read: Callable[[bytes], list[Any]], compression: int, found: list[Any]
) -> None:
    data = batch_of(found, compression) + batch_of([(b"k", b"another batch", [])])
    seen = [(each.key, each.value, list(each.headers)) for each in read(data)[: len(found)]]
    assert seen == [
        (key, value, [(expected(name), each) for name, each in headers]) for key, value, headers in found
    ]
    assert read(data)[-1].value == b"another batch" or read is by_aiokafka  # its offsets begin anew


def test_a_read_that_begins_within_a_batch_skips_only_what_is_before() -> None:
    found = [(None, b"%d" % number, [(b"\xff", b"v")]) for number in range(5)]
    assert [each.value for each in by_aiokafka(batch_of(found), 3)] == [b"3", b"4"]


def test_a_name_beyond_ascii_is_replaced_only_in_the_record_that_cannot_be_read() -> None:
    found = [(None, b"v", [("größe".encode(), b"1")]), (None, b"v", [(b"\xff", b"2")])]
    assert [list(each.headers) for each in by_aiokafka(batch_of(found))] == [
        [("größe", b"1")],
        [("?", b"2")],
    ]


@READERS
def test_a_damaged_batch_is_still_an_error(read: Callable[[bytes], list[Any]]) -> None:
    data = bytearray(batch_of([(None, b"v" * 100, [(b"n", b"v")])]))
    data[-20:] = b"\xff" * 20
    with pytest.raises(Exception, match=r"CorruptRecord|Invalid CRC|structure"):
        read(bytes(data))


def test_mending_leaves_lengths_and_text_as_they_are() -> None:
    data = bytearray(batch_of([(b"k", None, [(b"a\xffb", None), ("é".encode(), b"\xff")])])[61:])
    before = bytes(data)
    header_names.mend(data, 0)
    assert data == before.replace(b"a\xffb", b"a?b")

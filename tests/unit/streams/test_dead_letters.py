import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import dead_letters, records
from streams.dead_letters import RECORD_OVERHEAD_BYTES, cut, cut_value, encode

_headers: st.SearchStrategy[list[tuple[str, bytes | None]]] = st.lists(
    st.tuples(st.text(max_size=50), st.none() | st.binary(max_size=3000)), max_size=4
)
decode = records.decoder_of(records.DeadLetter).decode


def letter(
    value: bytes | None,
    key: bytes | None = b"k",
    headers: list[tuple[str, bytes | None]] | None = None,
    reason: str = "bad",
) -> records.DeadLetter:
    return records.DeadLetter(
        service="drift",
        reason=reason,
        topic="orders",
        partition=3,
        offset=7,
        key=key,
        value=value,
        failed_time_ms=1,
        headers=headers or [],
    )


def test_a_record_has_the_failed_topic_as_key() -> None:
    assert encode(letter(b"v")) == (b"orders", records.encode(letter(b"v")), [])


def test_a_letter_that_fits_stays_whole() -> None:
    whole = letter(b"v" * 100)
    assert cut(whole, len(records.encode(whole))) is whole
    assert whole.cut_from_bytes is None


@given(
    st.none() | st.binary(max_size=20_000),
    st.none() | st.binary(max_size=5000),
    _headers,
    st.text(max_size=5000),
    st.integers(2000, 20_000),
)
def test_every_letter_fits_and_tells_its_source(
    value: bytes | None,
    key: bytes | None,
    headers: list[tuple[str, bytes | None]],
    reason: str,
    bytes_max: int,
) -> None:
    whole = letter(value, key, headers, reason)
    found = cut(whole, bytes_max)
    bytes_least = len(records.encode(letter(b"", b"", [], reason[: dead_letters.REASON_CHARACTERS_MAX])))
    assert len(records.encode(found)) <= max(bytes_max, bytes_least + bytes_max // 2)
    assert (found.topic, found.partition, found.offset) == ("orders", 3, 7)
    assert (found.value is None, found.key is None) == (value is None, key is None)
    assert (value or b"").startswith(found.value or b"")
    assert (key or b"").startswith(found.key or b"")
    assert (found.cut_from_bytes is None) == (found == whole)


def test_the_value_is_cut_before_headers_and_key() -> None:
    found = cut(letter(b"v" * 10_000, b"key", [("h", b"header")]), 5000)
    assert (found.key, found.headers) == (b"key", [("h", b"header")])
    assert found.value is not None
    assert 3000 < len(found.value) < 5000
    assert found.cut_from_bytes == 10_000 + 3 + 1 + 6


def test_headers_are_cut_before_the_key() -> None:
    found = cut(letter(b"v", b"key", [("h", b"x" * 10_000)]), 5000)
    assert (found.value, found.key, found.headers) == (b"v", b"key", [])


def test_a_letter_that_is_cut_twice_tells_the_size_of_the_record() -> None:
    assert cut(cut(letter(b"v" * 10_000), 5000), 2000).cut_from_bytes == 10_001


@pytest.mark.parametrize("record_bytes_max", [10_000, 1 << 20])
def test_the_record_fits_with_kafkas_overhead(record_bytes_max: int) -> None:
    value = cut_value(records.encode(letter(b"v" * (2 << 20))), record_bytes_max)
    assert record_bytes_max // 2 < len(value) <= record_bytes_max - RECORD_OVERHEAD_BYTES
    assert decode(value).cut_from_bytes == (2 << 20) + 1


def test_a_letter_of_an_earlier_version_has_not_been_cut() -> None:
    old = b'{"service":"s","reason":"r","topic":"t","partition":0,"offset":1,'
    old += b'"key":null,"value":"dg==","failed_time_ms":1}'
    assert decode(old).cut_from_bytes is None

"""Bytes from outside become a value or an error, whatever they are."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.json_decoder import InvalidRecordError, JsonDecoder


class Order(msgspec.Struct):
    amount: float


ORDERS: JsonDecoder[Order] = JsonDecoder(Order)
NESTED = b"[" * 2000 + b"]" * 2000


def test_value_has_the_declared_type() -> None:
    assert ORDERS.decode(b'{"amount": 2.5}') == Order(2.5)
    assert ORDERS.decode_all([b'{"amount": 2.5}', b'{"amount": 3}']) == [Order(2.5), Order(3.0)]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "the record has no value"),
        (b"", "truncated"),
        (b'{"amount": "1"}', "Expected `float`, got `str`"),
        (b'{"amount": 1e400}', "Number out of range"),
        (b'{"amount": 1, "name": "', "truncated"),
        (b'{"x": %s, "amount": 1}' % NESTED, "nested too deeply"),
        (NESTED, "nested too deeply|Expected `object`"),
    ],
)
def test_other_bytes_are_refused_with_the_reason(raw: bytes | None, reason: str) -> None:
    with pytest.raises(InvalidRecordError, match=reason):
        ORDERS.decode(raw)


def test_one_nested_value_refuses_its_batch() -> None:
    with pytest.raises(InvalidRecordError, match="nested too deeply"):
        ORDERS.decode_all([b'{"amount": 1}', b'{"x": %s, "amount": 1}' % NESTED])


@given(st.binary(max_size=100))
def test_any_bytes_are_a_value_or_an_invalid_record(raw: bytes) -> None:
    anything: JsonDecoder[object] = JsonDecoder(object)
    with contextlib.suppress(InvalidRecordError):
        anything.decode(raw)

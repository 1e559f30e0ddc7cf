"""Commands as bytes: templates write what the encoder writes, and keys are found again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.redis_commands import KeyTemplate, Template, decode, encode, key_of

LONG_BYTES = 70_000
"""Longer than the arguments whose length headers are kept."""


@pytest.mark.parametrize(
    "values", [(b"key", b"", b"\r\n"), (b"k" * 300, b"$5\r\n", b"x" * LONG_BYTES)], ids=["short", "long"]
)
def test_a_template_writes_what_the_encoder_of_whole_commands_writes(values: tuple[bytes, ...]) -> None:
    template = Template("HSET", None, b"fixed", None, 7, None)
    key, first, second = values
    assert template.encode(*values) == encode(("HSET", key, b"fixed", first, 7, second))


@given(
    st.lists(st.binary(max_size=50) | st.just(b"k" * LONG_BYTES), max_size=4), st.lists(st.binary(max_size=5))
)
def test_a_key_template_writes_what_the_encoder_writes_for_each_key(
    keys: list[bytes], fields: list[bytes]
) -> None:
    template = KeyTemplate("HMGET", *fields)
    assert template.encode(keys) == [encode(("HMGET", key, *fields)) for key in keys]


@given(st.binary(max_size=50), st.lists(st.binary(max_size=5)))
def test_the_key_of_an_encoded_command_is_found_whatever_bytes_it_has(key: bytes, rest: list[bytes]) -> None:
    """The key is the first argument, or follows the digest and the number of keys."""
    assert key_of(encode(("HGET", key, *rest))) == key
    assert key_of(encode(("EVALSHA", "0" * 40, 2, key, *rest))) == key


@given(st.lists(st.lists(st.binary(max_size=20), max_size=4), max_size=4))
def test_decoding_returns_what_was_encoded(arguments: list[list[bytes]]) -> None:
    assert list(decode([encode(("GET", *each)) for each in arguments])) == [
        ("GET", *each) for each in arguments
    ]

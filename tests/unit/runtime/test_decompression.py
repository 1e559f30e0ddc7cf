"""What is compressed is read up to a size."""

import zlib

import pytest

from services.runtime.decompression import decompressed

MIB = 1 << 20


def test_a_value_up_to_the_bound_is_read() -> None:
    data = b"x" * MIB
    assert decompressed(zlib.compress(data), MIB) == data


@pytest.mark.parametrize("raw", [zlib.compress(b"x" * (MIB + 1)), zlib.compress(b"x" * 9)[:-3], b"", b"no"])
def test_a_larger_or_damaged_one_is_an_error(raw: bytes) -> None:
    with pytest.raises(zlib.error):
        decompressed(raw, MIB)

import pytest

from streams.varint import read_varint


@pytest.mark.parametrize(
    ("raw", "number"), [(b"\x00", 0), (b"\x7f", 127), (b"\x80\x01", 128), (b"\xff" * 9 + b"\x01", 2**64 - 1)]
)
def test_number_is_read_with_its_end(raw: bytes, number: int) -> None:
    assert read_varint(b"?" + raw + b"rest", 1) == (number, 1 + len(raw))


def test_number_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(IndexError):
        read_varint(b"\x80", 0)

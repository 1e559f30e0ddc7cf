"""Reading arrays from bytes."""

import pytest

from streams.stored_arrays import ArrayReader, double_array, integer_array, is_rising

RAW = integer_array([1, -2]).tobytes() + double_array([0.5, 1e300]).tobytes()


def test_arrays_are_read_one_after_the_other() -> None:
    reader = ArrayReader(RAW, 0, 2)
    assert reader.integers().tolist() == [1, -2]
    assert reader.doubles().tolist() == [0.5, 1e300]
    assert reader.position == len(RAW)


def test_views_decode_nothing_and_hold_the_same_numbers() -> None:
    reader = ArrayReader(RAW, 0, 2)
    assert reader.integers_view().tolist() == [1, -2]
    assert reader.doubles_view().tolist() == [0.5, 1e300]


def test_missing_bytes_are_an_error() -> None:
    with pytest.raises(ValueError, match="8 bytes are missing"):
        ArrayReader(RAW, 0, 5).integers_view()
    with pytest.raises(ValueError, match="buffer"):
        ArrayReader(RAW, 0, 5).integers()


def test_a_negative_count_is_an_error() -> None:
    """It would come from bytes that are no sizes."""
    with pytest.raises(ValueError, match="negative: -1"):
        ArrayReader(RAW, 0, 2).array("u1", -1)


@pytest.mark.parametrize(
    ("last", "numbers", "expected"),
    [(0, [1, 2, 3], True), (1, [1, 2], False), (0, [2, 2], False), (0, [3, 2], False), (-5, [-4], True)],
)
def test_rising_numbers_never_repeat(last: int, numbers: list[int], *, expected: bool) -> None:
    assert is_rising(last, numbers) is expected

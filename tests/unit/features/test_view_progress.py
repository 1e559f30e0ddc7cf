"""The stored progress of a view."""

from hypothesis import given
from hypothesis import strategies as st

from services.features import view_progress
from services.features.view_progress import ViewProgress


@given(st.integers(0, 2**62), st.dictionaries(st.integers(-1, 99), st.integers(-(2**62), 2**62)))
def test_progress_is_read_back_with_the_bytes_that_the_next_update_is_based_on(
    next_offset: int, watermarks_ms: dict[int, int]
) -> None:
    raw = view_progress.encode_progress(ViewProgress(next_offset, watermarks_ms, b"before"))
    assert view_progress.decode_progress(raw) == ViewProgress(next_offset, watermarks_ms, raw)


def test_the_order_of_partitions_changes_no_byte() -> None:
    first, second = ViewProgress(1, {2: 5, 0: 3}), ViewProgress(1, {0: 3, 2: 5})
    assert view_progress.encode_progress(first) == view_progress.encode_progress(second)


def test_nothing_stored_is_the_progress_of_a_new_view() -> None:
    assert view_progress.decode_progress(None) == ViewProgress()


def test_progress_and_watermarks_of_a_view_are_in_one_slot() -> None:
    key = view_progress.watermarks_key("shop", "sales")
    assert view_progress.progress_key("shop", "sales").endswith(f"{{{key}}}")
    assert key in view_progress.watermark_keys("shop", "sales")

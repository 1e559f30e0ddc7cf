from hypothesis import given
from hypothesis import strategies as st

from streams.back_off import pause_seconds


@given(failures=st.integers(1, 10**9), shortest=st.floats(0.001, 10), factor=st.floats(1, 1000))
def test_pauses_never_fall_and_keep_their_bounds(failures: int, shortest: float, factor: float) -> None:
    longest = shortest * factor
    pause, after = (pause_seconds(count, shortest, longest) for count in (failures, failures + 1))
    assert shortest <= pause <= after <= longest
    assert after in {2 * pause, longest} or pause == longest

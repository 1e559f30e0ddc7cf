"""Only a call that has proved to be quick runs in the event loop."""

from hypothesis import given
from hypothesis import strategies as st

from services.scoring.call_timing import (
    LATE_CALLS,
    QUICK_SECONDS,
    SLOW_CALLS,
    SLOW_SECONDS,
    TRIALS,
    CallTiming,
)
from tests.unit.scoring.fakes import ManualClock

QUICK, LATE, SLOW = QUICK_SECONDS / 10, 2 * QUICK_SECONDS, 2 * SLOW_SECONDS


def after(*seconds: float, rows: int = 1) -> CallTiming:
    timing = CallTiming()
    for each in seconds:
        timing.record(rows, each)
    return timing


def test_a_model_runs_in_the_loop_after_all_trials_and_no_sooner():
    assert not after(*[QUICK] * (TRIALS - 1)).is_quick(1)
    assert after(*[QUICK] * TRIALS).is_quick(1)


@given(st.integers(0, 3 * TRIALS))
def test_a_late_call_requires_further_trials(before):
    timing = after(*[QUICK] * before, LATE, *[QUICK] * (LATE_CALLS - 1))
    assert not timing.is_quick(1)


def test_a_model_with_every_second_call_late_never_runs_in_the_loop():
    timing = CallTiming()
    for _ in range(10 * TRIALS):
        timing.record(1, QUICK)
        timing.record(1, LATE)
        assert not timing.is_quick(1)


def test_few_rows_prove_nothing_about_many():
    timing = after(*[QUICK] * TRIALS)
    assert timing.is_quick(1)
    assert not timing.is_quick(2)
    assert not timing.is_quick(1000)


@given(st.lists(st.sampled_from([QUICK, LATE, SLOW]), max_size=50))
def test_a_slow_call_keeps_a_model_out_of_the_loop_whatever_came_before(before):
    timing = after(*before, SLOW)
    for _ in range(SLOW_CALLS - 1):
        timing.record(1, QUICK)
        assert not timing.is_quick(1)
    timing.record(1, QUICK)
    assert timing.is_quick(1)


class Calls:
    """Measures calls of which a test says how long they wait and how long they compute."""

    def __init__(self) -> None:
        self._elapsed, self._cpu = ManualClock(), ManualClock()
        self.timing = CallTiming(self._elapsed, self._cpu)

    def make(self, count: int, *, in_loop: bool, waiting: float = 0.0, computing: float = 0.0) -> None:
        for _ in range(count):
            with self.timing.measured(1, in_loop=in_loop):
                self._elapsed.advance(waiting + computing)
                self._cpu.advance(computing)

    def are_quick(self) -> bool:
        return self.timing.is_quick(1)


def test_on_a_thread_only_cpu_time_counts_and_in_the_loop_elapsed_time():
    """A thread waits for the GIL; a call that waits for anything else is found out in the loop."""
    calls = Calls()
    calls.make(TRIALS, in_loop=False, waiting=LATE)
    assert calls.are_quick()
    calls.make(1, in_loop=True, waiting=LATE)
    assert not calls.are_quick()
    calls.make(LATE_CALLS, in_loop=False, computing=LATE)
    assert not calls.are_quick()


def test_on_a_thread_a_slow_call_counts_by_its_elapsed_time():
    calls = Calls()
    calls.make(TRIALS, in_loop=False, waiting=1.1 * SLOW_SECONDS)
    assert not calls.are_quick()

"""Only a call that has proved to be quick is made in the event loop."""

import asyncio
import threading
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.call_timing import LATE_CALLS, QUICK_SECONDS, SLOW_CALLS, SLOW_SECONDS, TRIALS, Pace
from tests.unit.scoring.fakes import HalfOfX, Slow, event, scorer

QUICK, SLOW = QUICK_SECONDS / 10, 2 * SLOW_SECONDS


def after(*seconds: float, rows: int = 1) -> Pace:
    pace = Pace()
    for each in seconds:
        pace.note(rows, each)
    return pace


def test_a_model_is_trusted_after_as_many_quick_calls_and_no_sooner():
    assert not after(*[QUICK] * (TRIALS - 1)).is_quick(1)
    assert after(*[QUICK] * TRIALS).is_quick(1)


@given(st.integers(0, 3 * TRIALS))
def test_a_late_call_is_followed_by_as_many_trials(before):
    pace = after(*[QUICK] * before, 2 * QUICK_SECONDS, *[QUICK] * (LATE_CALLS - 1))
    assert not pace.is_quick(1)


def test_a_model_that_is_late_each_other_time_is_never_trusted():
    pace = Pace()
    for _ in range(10 * TRIALS):
        pace.note(1, QUICK)
        pace.note(1, 2 * QUICK_SECONDS)
        assert not pace.is_quick(1)


def test_quick_with_few_rows_says_nothing_about_many():
    pace = after(*[QUICK] * TRIALS)
    assert pace.is_quick(1)
    assert not pace.is_quick(2)
    assert not pace.is_quick(1000)


@given(st.lists(st.sampled_from([QUICK, 2 * QUICK_SECONDS, SLOW]), max_size=50))
def test_a_slow_call_keeps_a_model_out_of_the_loop_for_long_whatever_came_before(before):
    pace = after(*before, SLOW)
    for _ in range(SLOW_CALLS - 1):
        pace.note(1, QUICK)
        assert not pace.is_quick(1)
    pace.note(1, QUICK)
    assert pace.is_quick(1)


class Told(HalfOfX):
    """Keeps the threads on which it was called."""

    def __init__(self, **options):
        super().__init__(**options)
        self.threads = []

    def predict(self, columns):
        self.threads.append(threading.current_thread())
        return super().predict(columns)


def ask(subject, times, x=1.0):
    async def several():
        found = []
        for number in range(times):
            events = [event(subject, number, x=x), event(subject, number)]
            found.append(await subject.answer(events))
        return found

    return asyncio.run(several())


def trust(subject, model, rows=2):
    for _ in range(TRIALS):
        subject.pace_of(model).note(rows, QUICK)


def test_quick_model_moves_into_the_loop_and_answers_the_same():
    model = Told()
    subject = scorer(models={1: model})
    (before,) = ask(subject, 1)
    trust(subject, model)
    (after_trials,) = ask(subject, 1)
    assert model.threads[0] is not threading.main_thread()
    assert model.threads[1] is threading.main_thread()
    assert before.outputs.tolist() == after_trials.outputs.tolist() == [0.5, 0.5]


def test_slow_model_never_does():
    model = Slow(SLOW)
    subject = scorer(models={1: model})
    ask(subject, TRIALS + 5)
    assert not subject.pace_of(model).is_quick(2)


def test_rows_at_fault_are_found_for_a_quick_model_too():
    model = HalfOfX(poison=7.0)
    subject = scorer(models={1: model})
    trust(subject, model)
    (found,) = ask(subject, 1, x=7.0)
    assert list(found.failed) == [0]
    assert np.isnan(found.outputs[0])
    assert found.outputs[1] == 0.5


def busy(seconds: float) -> None:
    deadline = time.thread_time() + seconds
    while time.thread_time() < deadline:
        pass


def test_on_a_thread_waiting_for_others_does_not_count_unless_it_is_slow():
    """There it waits for Python's lock; a call that waits for something else is found out in the loop."""
    pace = Pace()
    for _ in range(TRIALS):
        with pace.noted(1, in_loop=False):
            time.sleep(2 * QUICK_SECONDS)
    assert pace.is_quick(1)
    with pace.noted(1, in_loop=True):
        time.sleep(2 * QUICK_SECONDS)
    assert not pace.is_quick(1)
    for _ in range(LATE_CALLS):
        with pace.noted(1, in_loop=False):
            busy(2 * QUICK_SECONDS)
    assert not pace.is_quick(1)
    slow = Pace()
    for _ in range(TRIALS):
        with slow.noted(1, in_loop=False):
            time.sleep(1.1 * SLOW_SECONDS)
    assert not slow.is_quick(1)

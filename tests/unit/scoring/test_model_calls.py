"""A quick model is called in the event loop, any other on a thread; rows at fault are found in both cases."""

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.call_timing import QUICK_SECONDS, SLOW_SECONDS, TRIALS, CallTiming
from services.scoring.model_calls import predict_isolating
from services.scoring.outputs import PredictionTask
from tests.unit.scoring.fakes import HalfOfX, ManualClock, TimedModel, declaration, event, pipeline


def scored(subject, times, x=1.0):
    """Score two rows, several times."""

    async def run():
        batches = []
        for number in range(times):
            batch, _ = await subject.score([event(subject, number, x=x), event(subject, number)])
            batches.append(batch)
        return batches

    return asyncio.run(run())


def prove_quick(subject, model, rows=2):
    for _ in range(TRIALS):
        subject.calls.timing_of(model).record(rows, QUICK_SECONDS / 10)


def test_a_quick_model_moves_into_the_event_loop_and_predicts_the_same():
    model, clock = TimedModel(), ManualClock()
    subject = pipeline(models={1: model}, new_timing=lambda: CallTiming(clock, clock))
    (before,) = scored(subject, 1)
    prove_quick(subject, model)
    (after,) = scored(subject, 1)
    assert model.threads[0] is not threading.main_thread()
    assert model.threads[1] is threading.main_thread()
    assert before.outputs.tolist() == after.outputs.tolist() == [0.5, 0.5]


def test_a_slow_model_stays_on_its_thread():
    clock = ManualClock()
    model = TimedModel(clock, 2 * SLOW_SECONDS)
    subject = pipeline(models={1: model}, new_timing=lambda: CallTiming(clock, clock))
    scored(subject, TRIALS + 5)
    assert not subject.calls.timing_of(model).is_quick(2)
    assert threading.main_thread() not in model.threads


def test_rows_at_fault_are_found_for_a_quick_model_too():
    model, clock = HalfOfX(poison=7.0), ManualClock()
    subject = pipeline(models={1: model}, new_timing=lambda: CallTiming(clock, clock))
    prove_quick(subject, model)
    (batch,) = scored(subject, 1, x=7.0)
    assert list(batch.failed) == [0]
    assert np.isnan(batch.outputs[0])
    assert batch.outputs[1] == 0.5


@given(st.sets(st.integers(0, 30), max_size=30), st.integers(1, 31))
def test_isolation_finds_exactly_the_rows_at_fault(poisoned, count):
    class Sensitive:
        size_bytes = 0

        def predict(self, columns):
            if poisoned & set(columns["x"].astype(int).tolist()):
                raise ValueError("poison")
            return columns["x"]

    columns = {"x": np.arange(count, dtype=float)}
    task = PredictionTask(declaration())
    at_fault = poisoned & set(range(count))
    if len(at_fault) == count:
        with pytest.raises(ValueError, match="poison"):
            predict_isolating(Sensitive(), task, columns)
        return
    scores, errors = predict_isolating(Sensitive(), task, columns)
    assert set(errors) == at_fault
    assert set(np.flatnonzero(np.isnan(scores)).tolist()) == at_fault

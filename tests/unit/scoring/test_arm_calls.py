"""An arm whose version cannot answer costs only its own rows; the champion answers them."""

import asyncio

import numpy as np
import pytest

from services.scoring.arm_calls import ArmCalls, ArmRows
from services.scoring.arm_router import NO_ARM, ArmRouter
from streams.records import Arm
from tests.unit.scoring.fakes import HalfOfX, pipeline, proven

OLD, NEW = 1_000, 2_000
"""The event times from which on two champions answer."""
ARMS = [
    Arm(name="champion", version=1, weight=9000),
    Arm(name="new", version=2, weight=500),
    Arm(name="other", version=3, weight=500),
]


def predict(models, arm_of, arms=ARMS, *, x=1.0, times_ms=None, **options):
    """Score one row for each index of an arm."""
    subject = pipeline(models=models, arms=arms)
    calls = ArmCalls(subject.versions.loaded, subject.calls, subject.versions.arm_metrics)
    rows = ArmRows(
        ArmRouter("m", arms),
        {"x": np.full(len(arm_of), x)},
        np.array(arm_of, np.int64),
        np.zeros(len(arm_of), np.int64) if times_ms is None else np.array(times_ms),
        **options,
    )
    return asyncio.run(calls.predict(rows))


def test_each_row_gets_the_output_of_its_arm():
    models = {1: HalfOfX(), 2: HalfOfX(offset=0.1), 3: HalfOfX(offset=0.2)}
    found = predict(models, [0, 1, 2, NO_ARM, 0])
    assert found.outputs.tolist() == pytest.approx([0.5, 0.6, 0.7, np.nan, 0.5], nan_ok=True)
    assert (found.failed, found.fallbacks) == ({}, {})


@pytest.mark.parametrize("broken", [{}, {2: proven(HalfOfX(poison=1.0)), 3: proven(HalfOfX(poison=1.0))}])
def test_the_champion_answers_for_challengers_that_do_not_load_or_fail_on_their_golden_batch(broken):
    found = predict({1: HalfOfX()} | broken, [0, 1, 2, 1, 0])
    assert found.outputs.tolist() == [0.5] * 5
    assert found.arm_of.tolist() == [0] * 5
    assert found.fallbacks == {1: ARMS[1], 2: ARMS[2], 3: ARMS[1]}
    assert found.failed == {}


def test_a_batch_of_one_broken_challenger_alone_is_answered_too():
    found = predict({1: HalfOfX()}, [1, 1])
    assert (found.outputs.tolist(), found.fallbacks) == ([0.5, 0.5], {0: ARMS[1], 1: ARMS[1]})


def test_a_row_on_which_the_champion_fails_is_no_fallback():
    found = predict({1: proven(HalfOfX(poison=7.0))}, [1], x=7.0)
    assert list(found.failed) == [0]
    assert (found.fallbacks, found.unavailable) == ({}, {})


def test_rows_of_a_broken_champion_wait_and_those_of_a_challenger_do_not():
    found = predict({2: HalfOfX()}, [0, 1, 2, 0])
    assert found.outputs.tolist() == pytest.approx([np.nan, 0.5, np.nan, np.nan], nan_ok=True)
    assert set(found.unavailable) == set(found.failed) == {0, 2, 3}


def test_a_version_that_the_caller_has_chosen_is_not_replaced():
    found = predict({1: HalfOfX()}, [1, 1], version_is_given=True)
    assert set(found.unavailable) == {0, 1}


def test_the_champion_that_has_replaced_a_broken_one_answers_for_it():
    arms = [
        Arm(name="champion", version=1, weight=10_000, effective_from_ms=OLD),
        Arm(name="champion", version=2, weight=10_000, effective_from_ms=NEW),
    ]
    found = predict({2: HalfOfX()}, [0, 1], arms, times_ms=[OLD, NEW])
    assert (found.outputs.tolist(), found.fallbacks) == ([0.5, 0.5], {0: arms[0]})


def test_each_broken_version_is_attempted_once_in_a_batch():
    attempts = []

    class Failing(dict[int, HalfOfX]):
        def __getitem__(self, version):
            attempts.append(version)
            return super().__getitem__(version)

    predict(Failing({1: HalfOfX()}), [0, 1, 2, 1, 1])
    assert sorted(attempts) == [1, 2, 3]

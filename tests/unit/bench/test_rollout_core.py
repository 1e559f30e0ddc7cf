"""The simulated rollouts are what their names say; the tables themselves are in `make bench ONLY=rollout`."""

import numpy as np
import pytest

from bench import rollout_core
from bench.rollout import WORLDS

IID = WORLDS["independent requests"]


def chance() -> np.random.Generator:
    return np.random.default_rng(1)


def test_world_with_a_higher_loss_has_the_loss_that_is_asked_for() -> None:
    mean = float(IID.calm @ IID.losses)
    raised = rollout_core.tilted(IID.losses, IID.calm, mean + 0.02)
    assert raised.sum() == pytest.approx(1)
    assert raised @ IID.losses == pytest.approx(mean + 0.02)


def test_storms_last_as_long_and_come_as_often_as_declared() -> None:
    found = rollout_core.storms(chance(), WORLDS["storms of ten looks"], 500, 200)
    assert found.mean() == pytest.approx(0.2, abs=0.02)
    begins = (found[:, 1:] & ~found[:, :-1]).sum()
    assert found[:, 1:].sum() / begins == pytest.approx(10, abs=1.5)


def test_equal_challenger_is_rolled_back_within_alpha() -> None:
    step = rollout_core.canary(chance(), IID, 0.05, 500, rollouts=200)
    own = rollout_core.ever(step.worse_loss(), step.more_errors(), step.mismatch())
    assert own.mean() <= rollout_core.ALPHA
    assert rollout_core.ever(step.threshold()).mean() > own.mean()


def test_failing_challenger_is_rolled_back() -> None:
    step = rollout_core.canary(chance(), IID, 0.05, 500, rollouts=50, errors=0.3)
    assert rollout_core.ever(step.more_errors()).all()


def test_key_counts_once_however_many_requests_it_makes() -> None:
    every, once = rollout_core.repeated_keys(chance(), 0.25, rollouts=3, keys=50, requests=100)
    assert every.challenger.keys.sum() + every.champion.keys.sum() == 3 * rollout_core.LOOKS * 100
    assert (once.challenger.keys.sum(axis=1) + once.champion.keys.sum(axis=1) <= 50).all()

"""The plan of disturbances: each kind for each target, at random times that a seed repeats."""

import pytest

from tests.chaos.plan import ACT_SECONDS, TRAINING_DELAY_SECONDS_MAX, Act, Kind, Span, plan

TARGETS: dict[Kind, tuple[str, ...]] = {
    "kill": ("scoring", "retraining", "kafka", "mlflow"),
    "freeze": ("scoring", "kafka"),
    "garbage": ("requests", "labels"),
    "edit": ("empty",),
}
SPAN = Span(start_ms=1_000, training_ms=500_000, end_ms=1_000_000)
SEEDS = range(20)


def made(seed: int, extra: int = 0) -> list[Act]:
    return plan(seed, TARGETS, SPAN, extra)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_kind_comes_once_for_each_target(seed: int) -> None:
    wanted = sorted((kind, name) for kind, names in TARGETS.items() for name in names)
    assert sorted((act.kind, act.target) for act in made(seed)) == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_further_acts_are_kills_and_freezes(seed: int) -> None:
    acts = made(seed, extra=7)
    assert len(acts) == len(made(seed)) + 7
    assert sum(act.kind in ("kill", "freeze") for act in acts) == 6 + 7


@pytest.mark.parametrize("seed", SEEDS)
def test_acts_are_in_order_and_within_their_limits(seed: int) -> None:
    acts = made(seed, extra=7)
    assert acts == sorted(acts, key=lambda act: (act.at_ms, act.delay_seconds))
    assert all(SPAN.start_ms <= act.at_ms <= SPAN.end_ms for act in acts)
    assert all(0 <= act.delay_seconds <= TRAINING_DELAY_SECONDS_MAX for act in acts)
    assert all(ACT_SECONDS[0] <= act.seconds <= ACT_SECONDS[1] for act in acts)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_works_only_in_a_training_is_killed_in_one(seed: int) -> None:
    kills = [act for act in made(seed) if act.kind == "kill" and act.target in ("retraining", "mlflow")]
    assert [act.at_ms for act in kills] == [SPAN.training_ms] * 2


def test_a_seed_gives_the_same_plan_again_and_another_seed_another_one() -> None:
    assert made(1, extra=3) == made(1, extra=3)
    assert made(1) != made(2)


def test_without_kills_and_freezes_nothing_is_added() -> None:
    assert [act.kind for act in plan(1, {"garbage": ("requests",)}, SPAN, extra=5)] == ["garbage"]

import pytest

from services.model_registry.traffic_split import ShareError
from services.rollout import rollout_arms
from streams.records import Arm
from tests.unit.rollout.rollout_model import CHAMPION, NEW, OLD

OTHER = Arm(name="frozen", version=7, weight=0, shadow=True)


def of_step(arms: list[Arm], share: int, at_ms: int = 100) -> list[Arm]:
    return rollout_arms.of_step(arms, NEW, OLD, share, at_ms=at_ms)


def test_steps_follow_one_another_and_other_shadows_stay() -> None:
    arms = of_step([*CHAMPION, OTHER], 0)
    assert rollout_arms.described(arms) == "challenger 2 shadow; champion 1 10000"
    arms = of_step(arms, 500, 200)
    assert rollout_arms.described(arms) == "challenger 2 500; champion 1 9500"
    arms = of_step(arms, 2500, 300)
    assert rollout_arms.described(arms) == "challenger 2 2500; champion 1 7500"
    assert rollout_arms.weights_of(arms) == (2500, 7500)
    arms = rollout_arms.of_step(arms, NEW, OLD, 0, at_ms=400, changes_champion=True)
    assert rollout_arms.described(arms) == "champion 2 10000"
    assert OTHER in arms


def test_whole_share_keeps_the_version_before_as_a_shadow() -> None:
    arms = of_step(CHAMPION, 10_000)
    assert rollout_arms.described(arms) == "challenger 2 10000; previous 1 shadow"


@pytest.mark.parametrize("share", [0, 500, 10_000])
def test_champion_gets_everything_back(share: int) -> None:
    arms = rollout_arms.after_end(of_step(CHAMPION, share), NEW, OLD, at_ms=200)
    assert rollout_arms.described(arms) == "champion 1 10000"


def test_end_after_a_promotion_by_hand_keeps_what_the_operator_chose() -> None:
    by_hand = [Arm(name="champion", version=5, weight=10_000), *of_step([], 0)]
    assert rollout_arms.described(rollout_arms.after_end(by_hand, NEW, OLD, at_ms=9)) == "champion 5 10000"


def test_other_challengers_keep_their_keys() -> None:
    arms = [
        Arm(name="west", version=3, weight=2000),
        Arm(name="champion", version=OLD, weight=8000),
    ]
    found = of_step(arms, 500)
    assert rollout_arms.described(found) == "challenger 2 500; champion 1 7500; west 3 2000"
    with pytest.raises(ShareError):
        of_step(arms, 9000)


def test_names_that_belong_to_another_version_are_taken() -> None:
    assert rollout_arms.is_taken(of_step(CHAMPION, 500), 9)
    assert not rollout_arms.is_taken(of_step(CHAMPION, 500), NEW)
    ended = rollout_arms.after_end(of_step(CHAMPION, 500), NEW, OLD, at_ms=300)
    assert not rollout_arms.is_taken(ended, 9)


def test_latest_champion_counts() -> None:
    arms = [*CHAMPION, Arm(name="champion", version=4, weight=10_000, effective_from_ms=50)]
    assert rollout_arms.champion_of(arms) == 4
    assert rollout_arms.champion_of([]) == 0

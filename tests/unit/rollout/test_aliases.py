from services.rollout import aliases, rollout_arms
from tests.unit.rollout.rollout_model import CHAMPION, NEW, OLD


def test_aliases_that_agree_are_left_alone() -> None:
    assert aliases.wanted(CHAMPION, {"champion": OLD, "previous": 9, "challenger": 8}) == {}


def test_new_champion_leaves_the_one_before_as_previous() -> None:
    assert aliases.wanted(CHAMPION, {"champion": 7}) == {"champion": OLD, "previous": 7}
    assert aliases.wanted(CHAMPION, {}) == {"champion": OLD}


def test_alias_that_was_moved_before_a_crash_is_not_moved_again() -> None:
    assert aliases.wanted(CHAMPION, {"champion": 7, "previous": 7}) == {"champion": OLD}


def test_challenger_is_the_version_of_the_rollout() -> None:
    for share in (0, 500):
        arms = rollout_arms.of_step(CHAMPION, NEW, OLD, share, at_ms=1)
        assert aliases.wanted(arms, {"champion": OLD}) == {"challenger": NEW}
    ended = rollout_arms.after_end(arms, NEW, OLD, at_ms=2)
    assert aliases.wanted(ended, {"champion": OLD, "challenger": NEW}) == {}


def test_model_without_arms_wants_nothing() -> None:
    assert aliases.wanted([], {"champion": 3}) == {}

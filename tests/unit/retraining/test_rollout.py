from services.model import HOUR_MS
from services.retraining.rollout import arms_after
from services.shares import ALL_KEYS
from streams.records import Arm
from tests.unit.retraining.world import DECLARATION, NOW_MS, declaration, request

DELAY_MS = 6 * HOUR_MS


def champion(version: int, since_ms: int) -> Arm:
    return Arm(name="champion", version=version, weight=ALL_KEYS, effective_from_ms=since_ms)


FROZEN = Arm(name="frozen", version=1, weight=0, effective_from_ms=NOW_MS, shadow=True)


def test_first_model_scores_at_once_and_stays_as_a_shadow():
    assert arms_after(DECLARATION, request(), [], 1) == [champion(1, NOW_MS), FROZEN]


def test_first_model_has_no_shadow_where_none_is_named():
    plain = declaration("rollout", keep_first_as_shadow=None)

    assert arms_after(plain, request(), [], 1) == [champion(1, NOW_MS)]


def test_outgoing_champion_counts_until_the_new_one_takes_over():
    later = request(at_ms=NOW_MS + 1000)
    before = [champion(1, NOW_MS), FROZEN]

    assert arms_after(DECLARATION, later, before, 2) == [
        champion(1, NOW_MS),
        champion(2, NOW_MS + 1000 + DELAY_MS),
        FROZEN,
    ]


def test_champion_that_was_superseded_long_ago_is_dropped():
    before = [champion(1, 0), champion(2, NOW_MS - 10), FROZEN]

    assert arms_after(DECLARATION, request(), before, 3) == [
        champion(2, NOW_MS - 10),
        champion(3, NOW_MS + DELAY_MS),
        FROZEN,
    ]


def test_champion_that_has_not_begun_yet_counts_until_the_new_one():
    before = [champion(1, 0), champion(2, NOW_MS + 10), champion(3, NOW_MS + 2 * DELAY_MS)]

    assert arms_after(DECLARATION, request(), before, 4) == [
        champion(1, 0),
        champion(2, NOW_MS + 10),
        champion(4, NOW_MS + DELAY_MS),
    ]

from services.model_registry.traffic_split import BUCKETS, check, with_share
from services.retraining.rollout import arms_after, changes
from services.runtime.declaration import HOUR_MS
from streams.records import Arm, ModelChanged, Reference, ReferenceName
from tests.unit.retraining.training_data import DECLARATION, NOW_MS, declaration, request

DELAY_MS = 6 * HOUR_MS


def champion(version: int, since_ms: int) -> Arm:
    return Arm(name="champion", version=version, weight=BUCKETS, effective_from_ms=since_ms)


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


def test_new_champion_gets_what_the_challengers_leave():
    before = with_share([champion(1, 0)], "new", 2, 1500, effective_from_ms=NOW_MS - 10)
    after = arms_after(DECLARATION, request(), before, 3)
    check(after)
    (promoted,) = [arm for arm in after if arm.version == 3]
    assert (promoted.weight, promoted.effective_from_ms) == (8500, NOW_MS + DELAY_MS)
    assert [arm.weight for arm in after if arm.name == "new"] == [1500]


def test_new_champion_leaves_room_for_what_is_planned_behind_it():
    later_ms = NOW_MS + 2 * DELAY_MS
    before = with_share([champion(1, 0)], "new", 2, 1500, effective_from_ms=later_ms)
    after = arms_after(DECLARATION, request(), before, 3)
    check(after)
    assert [(arm.weight, arm.effective_from_ms) for arm in after if arm.version == 3] == [
        (BUCKETS, NOW_MS + DELAY_MS),
        (8500, later_ms),
    ]


def test_challenger_that_is_promoted_ends_and_another_one_stays():
    before = with_share([champion(1, 0)], "new", 2, 1500, effective_from_ms=NOW_MS - 10)
    before = with_share(before, "other", 3, 500, effective_from_ms=NOW_MS - 5)
    before = with_share(before, "west", 2, 4000, segment={"dest": ["SFO"]})
    after = arms_after(DECLARATION, request(), before, 2)
    check(after)
    assert [arm.weight for arm in after if (arm.name, arm.version) == ("champion", 2)] == [9500]
    for name, weight in (("new", 1500), ("west", 4000)):
        ends = [(arm.weight, arm.effective_from_ms) for arm in after if arm.name == name][-1]
        assert ends == (0, NOW_MS + DELAY_MS), name
        assert weight in [arm.weight for arm in after if arm.name == name], "it answers until then"
    later = arms_after(DECLARATION, request(at_ms=NOW_MS + 2 * DELAY_MS), after, 4)
    assert {arm.name for arm in later} == {"champion", "other"}, "what has ended is left out"


def test_promotion_is_published_once_on_top_of_the_latest_arms():
    reference = Reference(version=3, features=[], score=None, log_loss=0.5)
    (first,) = changes(DECLARATION, request("r1"), reference, None)
    assert (first.request_id, first.reference) == ("r1", reference)
    assert first.reason == "drift: drift in x"
    assert first.arms == arms_after(DECLARATION, request("r1"), [], 3)
    assert changes(DECLARATION, request("r1"), reference, first) == []
    latest = ModelChanged(
        model="arrival_delay", arms=[champion(2, 0)], changed_at_ms=NOW_MS, reason="", request_id="r0"
    )
    (second,) = changes(DECLARATION, request("r1"), reference, latest)
    assert second.arms == arms_after(DECLARATION, request("r1"), latest.arms, 3)


def test_a_promotion_names_a_reference_that_is_written_elsewhere():
    name = ReferenceName(version=3, sha256="d")
    (change,) = changes(DECLARATION, request("r1"), name, None)
    assert (change.reference, change.reference_name) == (None, name)
    assert change.arms[0].version == 3

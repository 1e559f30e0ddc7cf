"""The arm of a request follows from its event time, its key and its segment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.model_registry import traffic_split
from services.scoring.arm_router import NO_ARM, ArmRouter, UnknownVersionError, rows_per_arm
from streams.records import Arm

KEYS = [f"key-{number}" for number in range(100_000)]


def champion(version=1, since=0, weight=10_000):
    return Arm(name="champion", version=version, weight=weight, effective_from_ms=since)


def names(router, keys, fields=None, at_ms=0):
    chosen = router.assign(np.full(len(keys), at_ms), keys, fields or {})
    return [None if index == NO_ARM else router.answering[index].name for index in chosen]


def versions(router, times):
    chosen = router.assign(np.array(times), ["k"] * len(times), {})
    return [None if index == NO_ARM else router.answering[index].version for index in chosen]


def test_request_gets_the_version_in_effect_at_its_event_time():
    shadow = Arm(name="s", version=1, weight=0, shadow=True)
    router = ArmRouter("m", [champion(3, 200), champion(2, 100), shadow])
    assert versions(router, [99, 100, 199, 200, 10_000]) == [None, 2, 2, 3, 3]


def test_times_before_1970_are_times_as_any_other():
    router = ArmRouter("m", [champion(3, -200), champion(2, -300)])
    assert versions(router, [-301, -300, -201, -200, -1, 0]) == [None, 2, 2, 3, 3, 3]


def test_shadows_give_no_predictions():
    router = ArmRouter("m", [Arm(name="s", version=1, weight=0, shadow=True)])
    assert versions(router, [5]) == [None]
    assert [shadow.version for shadow in router.shadows] == [1]


@given(
    st.lists(st.integers(-1000, 1000), min_size=1, max_size=5, unique=True),
    st.lists(st.integers(-1200, 1200), min_size=1),
)
def test_assignment_does_not_depend_on_what_else_is_in_the_slice(starts, times):
    router = ArmRouter("m", [champion(version, since) for version, since in enumerate(starts)])
    assert versions(router, times) == [versions(router, [time])[0] for time in times]


def test_many_keys_get_the_declared_shares():
    arms = traffic_split.with_share([champion()], "new", 2, 2500)
    found = names(ArmRouter("m", arms), KEYS)
    assert abs(found.count("new") / len(KEYS) - 0.25) < 0.006  # four standard deviations


def test_same_key_has_the_same_arm_in_another_process_and_in_another_slice():
    arms = traffic_split.with_share([champion()], "new", 2, 3000)
    assert [traffic_split.Bucketing("m").bucket_of(key) for key in ("a", "b", "UA1545")] == [2840, 8375, 6216]
    together = names(ArmRouter("m", arms), KEYS)
    assert together == names(ArmRouter("m", list(reversed(arms))), KEYS)
    assert names(ArmRouter("m", arms), KEYS[500:600]) == together[500:600]


def test_raising_a_share_moves_keys_one_way_only():
    first = traffic_split.with_share([champion()], "one", 2, 1000)
    both = traffic_split.with_share(first, "two", 3, 2000)
    raised = traffic_split.with_share(both, "one", 2, 4000)
    before, after = names(ArmRouter("m", both), KEYS), names(ArmRouter("m", raised), KEYS)
    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {("champion", "one")}
    lowered = names(ArmRouter("m", traffic_split.with_share(raised, "one", 2, 500)), KEYS)
    assert {(old, new) for old, new in zip(after, lowered, strict=True) if old != new} == {
        ("one", "champion")
    }


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 3333)), max_size=8))
def test_every_bucket_has_one_owner_after_any_changes(steps):
    arms = [champion()]
    for name, weight in steps:
        before = traffic_split.layout(_latest(arms))
        arms = traffic_split.with_share(arms, name, 2, weight)
        after = traffic_split.layout(_latest(arms))
        owned = [bucket for spans in after.values() for span in spans for bucket in range(*span)]
        assert sorted(owned) == list(range(traffic_split.BUCKETS))
        for other in before.keys() - {name, "champion"}:
            assert after[other] == before[other]


def _latest(arms):
    return list({arm.name: arm for arm in arms}.values())


def test_models_divide_the_same_keys_independently():
    arms = traffic_split.with_share([champion()], "new", 2, 5000)
    one, other = names(ArmRouter("m", arms), KEYS), names(ArmRouter("n", arms), KEYS)
    both = sum(a == b == "new" for a, b in zip(one, other, strict=True))
    assert abs(both / len(KEYS) - 0.25) < 0.006


def test_a_segment_has_arms_of_its_own_and_other_requests_get_the_champion():
    arms = [champion(), Arm(name="west", version=2, weight=10_000, segment={"dest": ["SFO", "LAX"]})]
    found = names(ArmRouter("m", arms), ["a", "b", "c"], {"dest": ["SFO", "BOS", "LAX"]})
    assert found == ["west", "champion", "west"]


def test_share_within_a_segment_falls_through_to_the_champion():
    arms = traffic_split.with_share([champion()], "west", 2, 4000, segment={"dest": ["SFO"]})
    found = names(ArmRouter("m", arms), KEYS, {"dest": ["SFO"] * len(KEYS)})
    assert abs(found.count("west") / len(KEYS) - 0.4) < 0.007
    assert found.count("champion") == len(KEYS) - found.count("west")


def test_narrower_segment_decides_first():
    arms = [
        champion(),
        Arm(name="west", version=2, weight=10_000, segment={"dest": ["SFO"]}),
        Arm(name="morning", version=3, weight=10_000, segment={"dest": ["SFO"], "hour": [7]}),
    ]
    assert names(ArmRouter("m", arms), ["a", "b"], {"dest": ["SFO", "SFO"], "hour": [7, 9]}) == [
        "morning",
        "west",
    ]


def test_arms_beyond_all_buckets_are_rejected():
    with pytest.raises(traffic_split.ShareError, match="the champion has only 10000"):
        traffic_split.with_share([champion()], "new", 2, 10_001)
    with pytest.raises(traffic_split.ShareError, match="both have the bucket 5"):
        traffic_split.layout(
            [
                Arm(name="a", version=1, weight=9, buckets=[(0, 9)]),
                Arm(name="b", version=1, weight=5, buckets=[(5, 10)]),
            ]
        )


def test_a_requested_version_gets_every_request_if_it_is_in_an_arm():
    router = ArmRouter("m", [champion(1), Arm(name="new", version=2, weight=0)])
    assert router.assign_version(2, 3).tolist() == [1, 1, 1]
    with pytest.raises(UnknownVersionError, match="version 3 is in no arm"):
        router.assign_version(3, 1)


@given(st.lists(st.integers(NO_ARM, 4), max_size=30), st.integers(NO_ARM, 3))
def test_rows_are_counted_by_arm_from_a_start_on(arm_of, start):
    expected = {index: arm_of.count(index) for index in set(arm_of) if index >= start}
    assert rows_per_arm(np.array(arm_of, dtype=np.int64), start) == expected


CHAMPIONS = ArmRouter(
    "m",
    [
        Arm(name="new", version=9, weight=100, effective_from_ms=50),
        Arm(name="champion", version=1, weight=9_900, effective_from_ms=100),
        Arm(name="champion", version=1, weight=9_900, effective_from_ms=200),
        Arm(name="champion", version=2, weight=9_900, effective_from_ms=300),
    ],
)
"""In the order of their starts: the indices 0 to 3."""


@pytest.mark.parametrize(
    ("broken", "now_ms", "expected"),
    [
        ({9}, 400, [NO_ARM, 1, 2, 3]),
        ({9, 2}, 400, [NO_ARM, 1, 2, NO_ARM]),
        ({1}, 400, [NO_ARM, 3, 3, 3]),
        ({1}, 299, [NO_ARM, NO_ARM, NO_ARM, 3]),
        ({1, 2}, 400, [NO_ARM] * 4),
    ],
)
def test_the_champion_of_the_event_time_stands_in_or_the_one_that_has_replaced_it(broken, now_ms, expected):
    times_ms = np.array([50, 100, 250, 300])
    assert CHAMPIONS.stand_ins(times_ms, broken, now_ms).tolist() == expected


def test_without_a_champion_nobody_stands_in_and_each_version_is_essential():
    router = ArmRouter("m", [Arm(name="a", version=1, weight=100), Arm(name="b", version=2, weight=100)])
    assert router.stand_ins(np.array([1]), {1}, now_ms=5).tolist() == [NO_ARM]
    assert (sorted(router.essential), sorted(router.champions)) == ([1, 2], [1, 2])


def test_the_latest_champion_is_essential():
    assert (sorted(CHAMPIONS.essential), sorted(CHAMPIONS.champions)) == ([2], [1, 2])

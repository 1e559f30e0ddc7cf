"""Shares of keys: layouts never overlap, and a change of a share moves as few keys as possible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.model_registry import traffic_split
from services.model_registry.traffic_split import BUCKETS, CHAMPION, Bucketing, ShareError
from streams.records import Arm

SHARES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(min_value=0, max_value=BUCKETS)), max_size=6
)


def champion(**changes):
    return Arm(name=CHAMPION, version=1, weight=BUCKETS, **changes)


def owners(arms):
    """Return the arm of each bucket, by the latest arm of each name."""
    latest = {arm.name: arm for arm in arms}
    layout = traffic_split.layout(list(latest.values()))
    return {
        bucket: name
        for name, spans in layout.items()
        for start, stop in spans
        for bucket in range(start, stop)
    }


def after(shares):
    """Apply shares one after another; those that the champion cannot give are left out."""
    arms = [champion()]
    for at_ms, (name, weight) in enumerate(shares):
        try:
            arms = traffic_split.with_share(arms, name, 2, weight, effective_from_ms=at_ms)
        except ShareError:
            continue
        yield arms


@given(SHARES)
def test_every_bucket_has_one_arm(shares):
    for arms in after(shares):
        traffic_split.check(arms)
        assert owners(arms).keys() == set(range(BUCKETS))


@given(SHARES)
def test_no_key_moves_between_two_challengers(shares):
    before = owners([champion()])
    for arms in after(shares):
        now = owners(arms)
        moved = {(before[bucket], now[bucket]) for bucket in now if before[bucket] != now[bucket]}
        assert all(CHAMPION in pair for pair in moved)
        assert len({pair[0] == CHAMPION for pair in moved}) <= 1, "keys move in one direction only"
        before = now


def test_share_in_a_segment_leaves_the_other_requests_to_the_champion():
    arms = traffic_split.with_share([champion()], "west", 2, 4000, segment={"dest": ["SFO"]})
    assert traffic_split.layout([arm for arm in arms if arm.segment]) == {"west": [(0, 4000)]}
    assert traffic_split.layout([arm for arm in arms if not arm.segment]) == {CHAMPION: [(0, BUCKETS)]}


def test_champion_cannot_give_more_than_it_has():
    arms = traffic_split.with_share([champion()], "a", 2, 9000)
    with pytest.raises(ShareError, match="b cannot get a share of 1001/10000: the champion has only 1000"):
        traffic_split.with_share(arms, "b", 2, 1001)
    with pytest.raises(ShareError, match="lower the share of another arm"):
        traffic_split.with_share(arms, CHAMPION, 2, 1001)


@pytest.mark.parametrize(
    ("buckets", "fault"),
    [
        ([[(0, 6000)], [(5000, 7000)]], "both have the bucket 5000"),
        ([[(0, 1)], [(9000, 10_001)]], "9000 to 10001 is not a range of buckets"),
        ([[(5, 5)], []], "5 to 5 is not a range"),
    ],
)
def test_overlapping_and_impossible_buckets_are_refused(buckets, fault):
    arms = [
        Arm(name=name, version=1, weight=1, buckets=spans) for name, spans in zip("ab", buckets, strict=True)
    ]
    with pytest.raises(ShareError, match=fault):
        traffic_split.layout(arms)


def test_shares_above_the_whole_are_refused():
    arms = [Arm(name=name, version=1, weight=6000) for name in "ab"]
    with pytest.raises(ShareError, match="b has a share of 6000, but only 4000 are free"):
        traffic_split.layout(arms)


def test_new_champion_ends_the_challenger_that_it_was():
    arms = traffic_split.with_share([champion()], "new", 2, 1500)
    promoted = traffic_split.with_champion(arms, 2, effective_from_ms=100, now_ms=50)
    traffic_split.check(promoted)
    assert [(arm.name, arm.version, arm.weight) for arm in promoted if arm.effective_from_ms == 100] == [
        (CHAMPION, 2, BUCKETS),
        ("new", 2, 0),
    ]


def test_bucket_of_a_key_never_changes():
    """Known values: another hash would move every key of every installation."""
    assert [Bucketing("m").bucket_of(key) for key in ("a", "b")] == [2840, 8375]
    assert Bucketing("n").bucket_of("a") != 2840

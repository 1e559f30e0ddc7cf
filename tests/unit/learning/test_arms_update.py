"""Each learned version is added to the arms once, and no operator's share is lost."""

import msgspec
import pytest

from services.learning.arms_update import Announcement, changes
from services.model_registry import learned_versions, traffic_split
from services.operations.models import arm_changes as by_hand
from services.runtime.declaration import INTERVALS_AHEAD_MAX
from streams.records import Arm, LearnedSpan, Reference, ReferenceName

HOUR_MS = 3_600_000
FIRST_MS = 1000 * HOUR_MS


def announcements(first, last, delay_hours=2):
    """Versions of an hour each."""
    return [
        Announcement(number, FIRST_MS + number * HOUR_MS, FIRST_MS + (number + delay_hours) * HOUR_MS, 50)
        for number in range(first, last + 1)
    ]


def after(latest, first, last, **options):
    found = changes("m", FIRST_MS, announcements(first, last, **options), latest)
    return found[-1] if found else latest


def operated(latest, arms):
    """The change of an operator, as the command writes it."""
    return by_hand.make_change("m", latest, arms, reason="by hand", from_ms=0, now_ms=0)


def shown(change):
    return [
        (arm.name, arm.version, arm.weight, (arm.effective_from_ms - FIRST_MS) // HOUR_MS)
        for arm in change.arms
    ]


def test_new_version_keeps_challengers_and_shadows():
    latest = after(None, 1, 3)
    arms = by_hand.with_share(latest.arms, "old", 2, 500, from_ms=FIRST_MS + 5 * HOUR_MS, segment={})
    arms = by_hand.with_shadow(arms, "quiet", 1, now_ms=FIRST_MS)
    found = after(operated(latest, arms), 1, 4)
    assert shown(found)[-3:] == [("champion", 4, 9500, 6), ("old", 2, 500, 5), ("quiet", 1, 0, 0)]
    traffic_split.check(found.arms)


def test_included_version_is_not_announced_again():
    """A crash repeats versions, and an operator may have changed the arms since."""
    latest = after(None, 1, 5)
    assert changes("m", FIRST_MS, announcements(1, 5), latest) == []
    rolled_back = operated(latest, by_hand.with_champion(latest.arms, 2, from_ms=FIRST_MS, now_ms=FIRST_MS))
    assert changes("m", FIRST_MS, announcements(3, 5), rolled_back) == []
    assert [one.arms[-1].version for one in changes("m", FIRST_MS, announcements(3, 6), rolled_back)] == [6]


def test_overwritten_versions_are_added_again():
    """An operator has read the arms before version 4 and written them after it."""
    read = after(None, 1, 3)
    theirs = operated(read, [*read.arms, Arm(name="quiet", version=3, weight=0, shadow=True)])
    found = changes("m", FIRST_MS, announcements(1, 5), theirs)
    assert [one.learned for one in found] == [
        LearnedSpan(from_ms=FIRST_MS, until_ms=FIRST_MS + hours * HOUR_MS) for hours in (4, 5)
    ]
    assert shown(found[-1])[-1] == ("quiet", 3, 0, -1000)


def test_one_change_or_several_lead_to_the_same_arms():
    one_by_one = None
    for number in range(1, 9):
        one_by_one = after(one_by_one, number, number)
    assert one_by_one == after(None, 1, 8)


def test_learning_from_another_start_announces_all_versions():
    latest = msgspec.structs.replace(after(None, 1, 9), reason="before the topics were cut")
    assert len(changes("m", FIRST_MS + HOUR_MS, announcements(1, 2), latest)) == 2


@pytest.mark.parametrize("delay_hours", [0, 2, INTERVALS_AHEAD_MAX])
def test_no_arm_outlives_the_version_that_it_answers_with(delay_hours):
    """A challenger and a shadow that nobody ends do so, before their version is overwritten in its topic."""
    latest = after(None, 1, 3, delay_hours=delay_hours)
    start_ms = latest.arms[-1].effective_from_ms
    arms = by_hand.with_share(latest.arms, "old", 2, 500, from_ms=start_ms, segment={})
    arms = by_hand.with_share(arms, "west", 3, 900, from_ms=start_ms, segment={"state": ["CA"]})
    latest = operated(latest, by_hand.with_shadow(arms, "quiet", 1, now_ms=start_ms))
    for number in range(4, 150):
        latest = after(latest, number, number, delay_hours=delay_hours)
        traffic_split.check(latest.arms)
        assert all(
            arm.version > number - learned_versions.KEYS for arm in latest.arms if arm.weight or arm.shadow
        )
        names = {arm.name for arm in latest.arms}
        assert names >= {"old", "west", "quiet"} or number > 20
    assert {arm.name for arm in latest.arms if arm.weight} == {"champion"}


def test_changes_hold_the_reference_from_its_version_on():
    reference = Reference(version=2, features=[], score=None, log_loss=None)
    found = changes("m", FIRST_MS, announcements(1, 3), None, reference)
    assert [each.reference for each in found] == [None, reference, reference]
    name = ReferenceName(version=3, sha256="0")
    found = changes("m", FIRST_MS, announcements(1, 3), None, name)
    assert [(each.reference, each.reference_name) for each in found] == [(None, None)] * 2 + [(None, name)]


def held(latest):
    """The change of an operator who has gone back to version 2."""
    arms = by_hand.with_champion(latest.arms, 2, from_ms=FIRST_MS + 6 * HOUR_MS, now_ms=FIRST_MS)
    return operated(by_hand.held(latest), arms)


def test_refused_version_is_not_added_and_the_next_one_is():
    learned = announcements(1, 4)
    learned[2] = msgspec.structs.replace(learned[2], passed=False)
    found = changes("m", FIRST_MS, learned, None)
    assert [each.arms[-1].version for each in found] == [1, 2, 4]
    assert changes("m", FIRST_MS, learned, found[-1]) == []


def test_rolled_back_champion_holds_through_other_changes_and_another_start():
    latest = held(after(None, 1, 5))
    assert changes("m", FIRST_MS, announcements(1, 9), latest) == []
    by_others = operated(latest, by_hand.with_shadow(latest.arms, "quiet", 5, now_ms=FIRST_MS))
    assert changes("m", FIRST_MS, announcements(1, 9), by_others) == []
    assert changes("m", FIRST_MS + HOUR_MS, announcements(1, 9), by_others) == []


def test_after_the_release_the_newest_version_begins_with_it():
    latest, from_ms = held(after(None, 1, 5)), FIRST_MS + 10 * HOUR_MS
    released = by_hand.released("m", latest, "again", from_ms=from_ms, now_ms=from_ms)
    assert released.arms == latest.arms
    found = changes("m", FIRST_MS, announcements(1, 9), released)
    assert [shown(each)[-1] for each in found] == [("champion", 7, 10_000, 10), *(
        ("champion", version, 10_000, version + 2) for version in (8, 9)
    )]  # fmt: skip
    assert shown(found[0])[0] == ("champion", 2, 10_000, 6)
    assert [each.learned and each.learned.not_before_ms for each in found] == [from_ms] * 3
    assert changes("m", FIRST_MS, announcements(1, 9), found[-1]) == []


def test_arms_of_a_model_that_is_held_do_not_outlive_their_versions():
    latest = after(None, 1, 3)
    start_ms = latest.arms[-1].effective_from_ms
    arms = by_hand.with_share(latest.arms, "old", 2, 500, from_ms=start_ms, segment={})
    arms = by_hand.with_champion(arms, 3, from_ms=start_ms + 1, now_ms=start_ms)
    latest = operated(by_hand.held(latest), by_hand.with_shadow(arms, "quiet", 1, now_ms=start_ms))
    written = []
    for number in range(4, 150):
        written += changes("m", FIRST_MS, announcements(max(1, number - 60), number), latest)
        latest = written[-1] if written else latest
    assert [[arm.name for arm in each.arms if arm.shadow or arm.name == "old"] for each in written] == [
        ["old"],
        ["old", "old"],
    ]
    assert {arm.name for arm in latest.arms if arm.weight and arm.effective_from_ms > start_ms} == {
        "champion"
    }
    assert by_hand.is_held(latest)
    assert traffic_split.champion_version(latest.arms) == 3


def test_nothing_is_released_that_is_not_held():
    with pytest.raises(by_hand.ChangeError, match="m is not held"):
        by_hand.released("m", after(None, 1, 2), "again", from_ms=0, now_ms=0)
    with pytest.raises(by_hand.ChangeError, match="has no learned versions"):
        by_hand.released("m", None, "again", from_ms=0, now_ms=0)

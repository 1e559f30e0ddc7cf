"""Which version is the champion: a function of changes and predictions, whenever the changes come."""

import msgspec
import pytest

from services.drift.champions import SPANS_MAX, Champions, ChampionSpan, ChampionsState
from streams.inputs import BEFORE_ALL_MS
from streams.records import Arm, ModelChanged
from tests.unit.drift.scenario import prediction


def arm(version, from_ms=0, name="champion", **fields):
    return Arm(name=name, version=version, weight=10_000, effective_from_ms=from_ms, **fields)


def change(*arms):
    return ModelChanged(model="m", arms=list(arms), changed_at_ms=0, reason="")


def new_champions(*changes, version=0):
    champions = Champions(version, ChampionsState())
    for each in changes:
        champions.learn(each)
    return champions


def row(version, time_ms, **fields):
    return prediction(0, time_ms, version=version, **fields)


def followed(champions, *rows):
    """Return the champion after each row."""
    found = []
    for each in rows:
        champions.note(each)
        champions.follow(each, each.event_time_ms)
        found.append(champions.version)
    return found


TWO = change(arm(1), arm(2, 100))


def test_a_version_takes_over_with_its_first_row_from_its_event_time_on():
    rows = [row(1, 10), row(1, 120), row(2, 130), row(2, 140)]
    assert followed(new_champions(TWO), *rows) == [1, 1, 2, 2]


def test_the_old_version_does_not_take_over_again():
    assert followed(new_champions(TWO), row(1, 10), row(2, 100), row(1, 101), row(1, 99)) == [1, 2, 2, 2]


def test_a_version_does_not_take_over_before_its_time():
    stand_in = row(2, 50, fallback_from="champion")
    assert followed(new_champions(TWO), row(1, 10), stand_in, row(2, 60)) == [1, 1, 1]


@pytest.mark.parametrize(
    "other", [arm(2, 100, "west"), arm(2, 100, shadow=True), arm(2, 100, segment={"x": ["a"]})]
)
def test_only_champions_of_all_requests_take_over(other):
    champions = new_champions(change(arm(1), other))
    assert followed(champions, row(1, 10), row(2, 110, arm=other.name)) == [1, 1]


def test_rows_of_another_arm_change_nothing_even_of_the_coming_champion():
    assert followed(new_champions(TWO), row(1, 10), row(2, 110, arm="new")) == [1, 1]


def test_a_rollback_is_a_change_like_any_other():
    champions = new_champions(change(arm(1), arm(2, 100), arm(1, 200)))
    rows = [row(1, 10), row(2, 110), row(1, 150), row(1, 200), row(2, 210)]
    assert followed(champions, *rows) == [1, 2, 2, 1, 1]


def test_a_change_replaces_the_champions_from_its_first_one_on():
    champions = new_champions(TWO, change(arm(3, 50)))
    assert followed(champions, row(1, 10), row(2, 110), row(3, 120)) == [1, 1, 3]


def test_a_champion_that_was_withdrawn_is_replaced_by_the_one_in_its_place():
    champions = new_champions(TWO)
    assert followed(champions, row(1, 10), row(2, 110)) == [1, 2]
    champions.learn(change(arm(1), arm(1, 105)))
    assert followed(champions, row(1, 120)) == [1]


def test_the_champion_is_the_same_whether_changes_are_known_early_or_late():
    rows = [row(1, 10), row(1, 110), row(2, 120), row(1, 130), row(3, 210), row(2, 220)]
    changes = [change(arm(1)), TWO, change(arm(2, 100), arm(3, 200))]
    early, late = new_champions(*changes), new_champions()
    expected, found, waiting = followed(early, *rows), [], list(changes)
    for each in rows:
        late.note(each)
        while waiting and not late.are_known:
            late.learn(waiting.pop(0))
            late.settle()
            late.note(each)
        late.settle()
        late.follow(each, each.event_time_ms)
        found.append(late.version)
    assert found == expected == [1, 1, 2, 2, 3, 3]


def test_a_prediction_that_does_not_fit_asks_for_the_models_topic():
    champions = new_champions(TWO)
    for fitting in (row(1, 10), row(2, 110), row(7, 10, arm="new"), row(0, 10)):
        champions.note(fitting)
        assert champions.are_known
    champions.note(row(1, 110))
    assert not champions.are_known
    champions.settle()
    assert champions.are_known


def test_versions_that_no_change_lists_succeed_by_their_number():
    """As in predictions of another scoring service."""
    champions = new_champions()
    rows = [row(3, 10), row(2, 20), row(4, 30), row(3, 40), row(5, 50, arm="new")]
    assert followed(champions, *rows) == [3, 3, 4, 4, 4]
    champions.settle()
    champions.note(row(4, 60))
    assert champions.are_known, "it asks once for each version"


def test_a_change_ends_the_succession_by_number():
    champions = new_champions(change(arm(2, 100)))
    rows = [row(3, 10), row(4, 20), row(2, 100), row(5, 110), row(4, 120)]
    assert followed(champions, *rows) == [3, 4, 2, 2, 2]


def test_a_restart_changes_nothing():
    champions = new_champions(TWO)
    followed(champions, row(1, 10), row(2, 110))
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(champions.state()), type=ChampionsState)
    restored = Champions(champions.version, kept)
    assert followed(restored, row(1, 120), row(2, 130)) == [2, 2]
    assert restored.state() == champions.state()


def test_reading_all_changes_again_changes_nothing():
    changes = [change(arm(1)), TWO, change(arm(2, 100), arm(3, 200))]
    champions = new_champions(*changes)
    before = champions.state()
    for each in changes:
        champions.learn(each)
    assert champions.state() == before


def test_a_state_of_an_older_version_takes_the_champion_as_listed_by_no_change():
    champions = new_champions(TWO, version=1)
    assert champions.state().since_ms == BEFORE_ALL_MS
    assert followed(champions, row(1, 20), row(2, 110), row(1, 120)) == [1, 2, 2]


def test_equal_neighbours_are_one_span_and_the_latest_spans_are_kept():
    champions = new_champions(change(arm(1), arm(1, 50), arm(2, 100), arm(2, 150)))
    assert champions.state().spans == [ChampionSpan(0, 1), ChampionSpan(100, 2)]
    many = new_champions(change(*(arm(number, number) for number in range(1, SPANS_MAX + 10))))
    assert [span.version for span in many.state().spans] == list(range(10, SPANS_MAX + 10))

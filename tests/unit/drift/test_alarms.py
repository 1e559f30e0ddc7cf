"""Which alarms are raised, stay active, are cleared, and in which order they count as evidence."""

import pytest

from services.drift.alarms import ActiveAlarms, AlarmContent, alarm_of
from services.drift.detectors.watchers import ChangeSubject


def alarm(subject="x", kind="feature", *, value=1.0, threshold=0.5, detector="window", time_ms=1):
    return alarm_of("m", 1, AlarmContent(kind, subject, value, threshold, ""), time_ms, 0, detector)


def subjects(alarms):
    return [each.subject for each in alarms]


def test_an_alarm_that_lasts_is_raised_once():
    active = ActiveAlarms(2)
    assert active.raise_new([alarm(), alarm(time_ms=2)]) == [alarm()]
    assert active.ids() == ["m-feature-x-window-1"]


def test_each_detector_of_a_subject_raises_its_own_alarm():
    active = ActiveAlarms(2)
    assert len(active.raise_new([alarm(), alarm(detector="e-detector")])) == 2


def test_enough_consecutive_calm_windows_clear_an_alarm():
    active = ActiveAlarms(2)
    active.raise_once(alarm())
    for drifted in (False, True, False):
        active.observe("feature", "x", drifted=drifted)
    assert active.ids()
    active.observe("feature", "x", drifted=False)
    assert active.ids() == []
    assert active.raise_once(alarm(time_ms=9))


def test_a_raised_alarm_begins_the_calm_windows_again():
    active = ActiveAlarms(2)
    active.raise_once(alarm())
    active.observe("feature", "x", drifted=False)
    active.raise_once(alarm(time_ms=2))
    active.observe("feature", "x", drifted=False)
    assert active.ids()


def test_another_champion_begins_without_alarms():
    active = ActiveAlarms(2)
    active.raise_once(alarm())
    active.clear()
    assert active.evidence() == []


def test_alarms_with_a_threshold_of_zero_come_before_those_that_crossed_theirs_in_the_evidence():
    active = ActiveAlarms(3)
    for subject, threshold in (("x", 0.5), ("hour", 0.0)):
        assert active.raise_once(alarm(subject, "quality", threshold=threshold))
    assert subjects(active.evidence()) == ["hour", "x"]


@pytest.mark.parametrize("order", [1, -1])
def test_evidence_begins_with_the_loss_and_then_the_furthest_above_its_threshold(order):
    active = ActiveAlarms(3)
    found = [alarm("a", value=1), alarm("b", value=3), alarm("log_loss", "loss", value=0.6)]
    active.raise_new(found[::order])
    assert subjects(active.evidence()) == ["log_loss", "b", "a"]


def test_the_end_of_a_change_ends_its_alarm_and_no_other():
    active = ActiveAlarms(2)
    found = [
        alarm(detector="e-detector"),
        alarm(kind="category", detector="e-detector"),
        alarm(kind="quality"),
    ]
    active.raise_new(found)
    active.raise_new([ChangeSubject("feature", "x", "colour=red")])
    assert len(active.ids()) == 3
    active.raise_new([ChangeSubject("feature", "x", "")])
    assert active.ids() == ["m-quality-x-window-1"]
    assert active.raise_new([alarm(detector="e-detector", time_ms=2)])


def test_alarms_of_rows_end_with_a_state_that_does_not_know_their_change():
    active = ActiveAlarms(2)
    active.raise_new([alarm(each, detector="e-detector") for each in ("x", "y")])
    active.raise_new([alarm("log_loss", "loss"), alarm(kind="quality", detector="declared")])
    active.keep_standing({ChangeSubject("feature", "y", "")})
    assert active.ids() == ["m-feature-y-e-detector-1", "m-loss-log_loss-window-1", "m-quality-x-declared-1"]


def test_state_goes_on_with_the_active_alarms():
    active = ActiveAlarms(2)
    active.raise_once(alarm())
    assert not ActiveAlarms(2, active.subjects).raise_once(alarm(time_ms=2))

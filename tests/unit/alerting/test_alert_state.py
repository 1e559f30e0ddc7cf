"""Which alerts are sent where and when: the decisions alone, with a clock that the test advances."""

import itertools
import math
from typing import Any

import pytest

from services.alerting.alert_state import (
    ATTEMPTS_MAX,
    PAUSE_MS_MAX,
    PAUSE_MS_MIN,
    WEBHOOK_CALLS_MAX,
    AlertState,
    Delivery,
    matches,
)
from services.runtime.declaration import HOUR_MS, Alerts
from streams.records import Alert, Notified, Silence

NOW_MS = 1_800_000_000_000
GROUP_MS = 30_000
AGE_MS = 72 * HOUR_MS


def alert(name: str = "a", **changes: Any) -> Alert:
    given: dict[str, Any] = {
        "model": "m", "kind": "feature", "severity": "warning", "title": f"{name} changed", "subject": name,
        "at_ms": NOW_MS - HOUR_MS, "stands": True, "recorded_ms": NOW_MS,
    }  # fmt: skip
    return Alert(alert_id=name, **(given | changes))


def state(*routes: dict[str, Any], age_ms: float = AGE_MS, **alerts: Any) -> AlertState:
    declared = Alerts.model_validate({"routes": routes or ({"to": "oncall"},), **alerts})
    return AlertState({"m": declared}, age_ms_max=age_ms)


def contents(found: list[Delivery]) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (each.destination, [(part.alert.alert_id, part.occasion) for part in each.parts]) for each in found
    ]


def settle(one: AlertState, now_ms: int) -> list[tuple[str, list[tuple[str, str]]]]:
    """Deliver everything that is due after the group time."""
    one.due(now_ms)
    found = one.due(now_ms + GROUP_MS)
    for delivery in found:
        one.delivered(delivery, now_ms + GROUP_MS)
    return contents(found)


def test_burst_is_one_message_and_a_repeat_sends_nothing():
    one = state()
    for number in range(40):
        one.add_alert(alert(f"f{number}"), NOW_MS)
        assert one.due(NOW_MS + number) == []
    ((destination, parts),) = settle(one, NOW_MS)
    assert destination == "oncall"
    assert len(parts) == 40
    one.add_alert(alert("f3"), NOW_MS)
    assert settle(one, NOW_MS + HOUR_MS) == []


def test_open_alert_is_repeated_and_closed_alert_is_resolved():
    one = state(repeat_after_hours=24)
    one.add_alert(alert("a"), NOW_MS)
    one.add_alert(alert("b"), NOW_MS)
    settle(one, NOW_MS)
    assert settle(one, NOW_MS + 23 * HOUR_MS) == []
    one.resolve_missing("m", NOW_MS, ["a"])
    assert settle(one, NOW_MS + 23 * HOUR_MS) == [("oncall", [("b", "resolved")])]
    assert settle(one, NOW_MS + 25 * HOUR_MS) == [("oncall", [("a", "again")])]
    one.resolve_missing("m", NOW_MS, [])
    assert settle(one, NOW_MS + 26 * HOUR_MS) == [("oncall", [("a", "resolved")])]
    assert settle(one, NOW_MS + 99 * HOUR_MS) == []


def test_report_resolves_only_its_own_model_up_to_its_window():
    one = state()
    one.add_alert(alert("later", at_ms=NOW_MS), NOW_MS)
    one.resolve_missing("m", NOW_MS - 1, [])
    one.resolve_missing("other", NOW_MS, [])
    assert settle(one, NOW_MS) == [("oncall", [("later", "new")])]


def test_routes_select_by_kind_severity_and_segment():
    one = state(
        {"to": "oncall", "kinds": ["loss"]},
        {"to": "chat", "minimum_severity": "info", "segments": ["all"]},
        {"to": "newark", "segments": ["origin=EWR"]},
        {"to": "newark", "kinds": ["feature"]},
    )
    one.add_alert(alert("x", kind="loss", severity="critical"), NOW_MS)
    one.add_alert(alert("y", segment="origin=EWR"), NOW_MS)
    one.add_alert(alert("z", kind="retraining", severity="info", stands=False), NOW_MS)
    found = dict(settle(one, NOW_MS))
    assert found == {
        "oncall": [("x", "new")],
        "chat": [("x", "new"), ("z", "new")],
        "newark": [("y", "new")],
    }


@pytest.mark.parametrize(
    "silence",
    [{"model": "m"}, {"kind": "feature"}, {"model": "m", "subject": "a"}, {"model": "m", "kind": "feature"}],
)
def test_silenced_alert_is_sent_after_the_silence_if_it_is_still_open(silence):
    one = state()
    one.silences["s"] = Silence(
        silence_id="s", until_ms=NOW_MS + HOUR_MS, created_ms=NOW_MS, reason="r", **silence
    )
    one.add_alert(alert("a"), NOW_MS)
    one.add_alert(alert("gone"), NOW_MS)
    one.add_alert(alert("other", kind="loss", subject="z", model="n"), NOW_MS)
    one.resolve_missing("m", NOW_MS, ["a"])
    assert settle(one, NOW_MS) == []
    assert one.silenced(NOW_MS) >= 1
    assert one.expired(NOW_MS) == []
    assert one.expired(NOW_MS + HOUR_MS) == ["s"]
    assert settle(one, NOW_MS + HOUR_MS) == [("oncall", [("a", "new")])]


def test_alert_that_no_silence_matches_is_sent():
    one = state()
    one.silences["s"] = Silence(
        silence_id="s", until_ms=NOW_MS + HOUR_MS, created_ms=NOW_MS, reason="r", model="m", kind="score"
    )
    one.add_alert(alert("a"), NOW_MS)
    assert settle(one, NOW_MS) == [("oncall", [("a", "new")])]


def test_replayed_alerts_are_sent_only_on_request():
    old_record = alert("old", recorded_ms=NOW_MS - AGE_MS - 1, at_ms=NOW_MS - AGE_MS - 2)
    old_event = alert("replayed", at_ms=NOW_MS - AGE_MS - 1)
    one = state()
    one.add_alert(old_record, NOW_MS)
    one.add_alert(old_event, NOW_MS)
    assert settle(one, NOW_MS) == []
    assert one.stale_total == 2
    asked = state(age_ms=math.inf)
    asked.add_alert(old_record, NOW_MS)
    asked.add_alert(old_event, NOW_MS)
    assert settle(asked, NOW_MS) == [("oncall", [("old", "new"), ("replayed", "new")])]


def test_restart_continues_from_the_notifications():
    first = state()
    first.add_alert(alert("a"), NOW_MS)
    first.due(NOW_MS)
    (delivery,) = first.due(NOW_MS + GROUP_MS)
    kept = first.delivered(delivery, NOW_MS + GROUP_MS)
    second = state()
    for each in kept:
        second.add_notified(each)
    second.add_alert(alert("a"), NOW_MS)
    assert settle(second, NOW_MS + HOUR_MS) == []
    second.resolve_missing("m", NOW_MS, [])
    assert settle(second, NOW_MS + HOUR_MS) == [("oncall", [("a", "resolved")])]


def test_failing_destination_is_retried_with_back_off_and_delays_no_other():
    one = state({"to": "down"}, {"to": "up"})
    one.add_alert(alert("a"), NOW_MS)
    one.due(NOW_MS)
    now_ms = NOW_MS + GROUP_MS
    attempts: list[int] = []
    while len(attempts) < ATTEMPTS_MAX:
        for delivery in one.due(now_ms):
            if delivery.destination == "up":
                one.delivered(delivery, now_ms)
                assert now_ms == NOW_MS + GROUP_MS
            else:
                attempts.append(now_ms)
                kept = one.failed(delivery, now_ms)
        now_ms += 1000
    pauses = [later - sooner for sooner, later in itertools.pairwise(attempts)]
    assert pauses == sorted(pauses)
    assert 240_000 < sum(pauses) < 600_000
    (given_up,) = kept
    assert (given_up.state, given_up.times) == ("given_up", 0)
    assert settle(one, now_ms) == []
    assert settle(one, now_ms + 25 * HOUR_MS) == [("down", [("a", "again")]), ("up", [("a", "again")])]


def test_destination_gets_one_message_at_a_time():
    one = state()
    one.add_alert(alert("a"), NOW_MS)
    one.due(NOW_MS)
    (first,) = one.due(NOW_MS + GROUP_MS)
    one.add_alert(alert("b"), NOW_MS)
    assert one.due(NOW_MS + 2 * GROUP_MS) == []
    one.delivered(first, NOW_MS + 2 * GROUP_MS)
    assert settle(one, NOW_MS + 2 * GROUP_MS) == [("oncall", [("b", "new")])]


def test_closed_alerts_are_forgotten_and_open_ones_kept():
    one = state()
    for name in ("open", "gone"):
        one.add_alert(alert(name), NOW_MS)
    one.add_alert(alert("event", kind="retraining", stands=False), NOW_MS)
    settle(one, NOW_MS)
    one.resolve_missing("m", NOW_MS, ["open"])
    settle(one, NOW_MS)
    assert one.forgotten(NOW_MS + AGE_MS) == []
    later_ms = NOW_MS + AGE_MS + 2 * HOUR_MS
    assert sorted(one.forgotten(later_ms)) == [("oncall", "event"), ("oncall", "gone")]
    assert settle(one, later_ms) == [("oncall", [("open", "again")])]


def test_memory_is_bounded_and_drops_the_oldest_closed_alerts(monkeypatch):
    monkeypatch.setattr("services.alerting.alert_state.ALERTS_MAX", 3)
    one = state(age_ms=math.inf)
    for number in range(6):
        sent = alert(f"e{number}", stands=number == 0, recorded_ms=NOW_MS + number)
        one.add_notified(Notified(destination="oncall", alert=sent, state="told", told_ms=NOW_MS))
    assert sorted(one.forgotten(NOW_MS)) == [("oncall", "e1"), ("oncall", "e2"), ("oncall", "e3")]


def test_silence_matches_the_fields_that_it_names():
    silence = Silence(silence_id="s", until_ms=1, created_ms=0, reason="r", model="m", segment="origin=EWR")
    assert matches(silence, alert(segment="origin=EWR"))
    assert not matches(silence, alert(segment="origin=JFK"))
    assert not matches(silence, alert(model="n", segment="origin=EWR"))


def webhook(*routes: dict[str, Any]) -> AlertState:
    declared = Alerts.model_validate({"routes": routes or ({"to": "ci"},)})
    return AlertState({"m": declared}, age_ms_max=AGE_MS, webhooks={"ci"})


def test_a_webhook_gets_each_alert_at_once_and_alone():
    one = webhook({"to": "ci"}, {"to": "oncall"})
    for name in ("a", "b"):
        one.add_alert(alert(name, stands=False), NOW_MS)
    assert contents(one.due(NOW_MS)) == [("ci", [("a", "new")]), ("ci", [("b", "new")])]
    assert contents(one.due(NOW_MS + GROUP_MS)) == [("oncall", [("a", "new"), ("b", "new")])]


def test_a_webhook_that_is_away_is_tried_with_pauses_until_the_alert_is_too_old_and_delays_no_other():
    one = webhook()
    one.add_alert(alert("a", stands=False), NOW_MS)
    now_ms, pauses = NOW_MS, []
    for _ in range(3 * ATTEMPTS_MAX):
        (delivery,) = one.due(now_ms)
        assert one.failed(delivery, now_ms) == []
        before_ms = now_ms
        while not (found := one.due(now_ms)):
            now_ms += 1000
        pauses.append(now_ms - before_ms)
        one.failed(found[0], now_ms)
        now_ms += PAUSE_MS_MAX
    assert pauses[0] == 2 * PAUSE_MS_MIN
    assert pauses[-1] == PAUSE_MS_MAX
    one.add_alert(alert("b", stands=False, recorded_ms=now_ms), now_ms)
    assert ("ci", [("b", "new")]) in contents(one.due(now_ms))
    late_ms = NOW_MS + AGE_MS + 2 * HOUR_MS
    one.forgotten(late_ms)
    assert "a" not in str(contents(one.due(late_ms)))


def test_an_accepted_webhook_is_not_sent_again_after_a_restart():
    one = webhook()
    one.add_alert(alert("a", stands=False), NOW_MS)
    (delivery,) = one.due(NOW_MS)
    (stored,) = one.delivered(delivery, NOW_MS)
    assert (stored.destination, stored.state) == ("ci", "resolved")
    again = webhook()
    again.add_notified(stored)
    again.add_alert(alert("a", stands=False), NOW_MS)
    assert again.due(NOW_MS + HOUR_MS) == []


def test_a_webhook_gets_a_bounded_number_of_calls_at_once():
    one = webhook()
    for number in range(WEBHOOK_CALLS_MAX + 3):
        one.add_alert(alert(f"f{number}", stands=False), NOW_MS)
    found = one.due(NOW_MS)
    assert len(found) == WEBHOOK_CALLS_MAX
    assert one.due(NOW_MS) == []
    one.delivered(found[0], NOW_MS)
    assert contents(one.due(NOW_MS)) == [("ci", [(f"f{WEBHOOK_CALLS_MAX}", "new")])]

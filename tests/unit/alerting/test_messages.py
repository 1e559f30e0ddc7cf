"""The text of messages."""

from typing import Any

from services.alerting.alert_state import Delivery, MessagePart, Occasion
from services.alerting.messages import SHOWN_MAX, message
from tests.unit.alerting.test_alert_state import NOW_MS, alert


def parts(count: int, occasion: Occasion = "new", **changes: Any) -> tuple[MessagePart, ...]:
    return tuple(MessagePart(alert(f"f{number:02}", **changes), occasion, 0) for number in range(count))


def test_message_says_what_since_when_how_much_and_what_to_do():
    harm = alert(
        "h", kind="loss", severity="critical", title="mean log loss 0.571 is above 0.528", subject="log_loss",
        effect="log_loss 0.571, +0.043 against its limit", since_ms=NOW_MS - 86_400_000,
    )  # fmt: skip
    written = message(
        Delivery("m", "oncall", (*parts(2), MessagePart(harm, "new", 0)), 3), "https://drift.example/"
    )
    assert written.title == "[critical] m: 3 alerts, first: mean log loss 0.571 is above 0.528"
    assert written.severity == "critical"
    first = written.body.split("\n\n")[0]
    assert "loss is above its limit (log_loss)" in first
    assert "since: 2027-01-14 08:00 UTC; detected 2027-01-15 07:00 UTC" in first
    assert "+0.043 against its limit" in first
    assert "to do: " in first
    assert f"https://drift.example/reports/m/{harm.at_ms - 1}" in written.body
    assert "driftline alerts silence --model m --kind loss --for 4h" in written.body


def test_long_message_counts_the_alerts_that_it_does_not_show():
    written = message(Delivery("m", "oncall", parts(300), 300))
    assert written.body.count("to do:") == SHOWN_MAX
    assert f"and {300 - SHOWN_MAX} more: {300 - SHOWN_MAX} of kind feature" in written.body
    assert len(written.body) < 10_000


def test_severity_is_empty_only_when_no_alert_is_open():
    assert message(Delivery("m", "oncall", parts(1, "resolved"), 2)).severity == "info"
    written = message(Delivery("m", "oncall", parts(1, "resolved"), 0))
    assert written.severity is None
    assert written.title.startswith("[resolved] m: ")
    assert "Silence:" not in written.body


def test_repeated_alert_is_marked_as_still_open():
    written = message(Delivery("m", "oncall", parts(1, "again"), 2))
    assert written.body.startswith("still open: ")
    assert "2 alerts of m are open." in written.body

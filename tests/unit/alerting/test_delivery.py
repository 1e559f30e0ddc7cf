"""Messages arrive, through apprise, at servers that play Slack, PagerDuty, a webhook and a mail server."""

from typing import Any

import pytest

from services.alerting.alert_state import Delivery, Occasion, MessagePart
from services.alerting.delivery import SendingError, send
from services.alerting.messages import SHOWN_MAX, Message, message
from tests.receivers import http_receiver, mail_receiver
from tests.unit.alerting.test_alert_state import NOW_MS, alert

MESSAGE = Message(
    title="[critical] m: it hurts", body="what\n\nto do", severity="critical", thread="driftline-m-x"
)
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts"
PAGERDUTY = f"pagerduty://{'i' * 32}@{'a' * 20}"


@pytest.fixture
def receiver():
    with http_receiver() as found:
        yield found


def test_a_webhook_gets_title_text_and_severity(receiver):
    send(f"json://127.0.0.1:{receiver.port}/hook", MESSAGE)
    (body,) = receiver.bodies
    assert (body["title"], body["message"], body["type"]) == (MESSAGE.title, MESSAGE.body, "failure")


def test_slack_gets_it_at_its_channel(receiver, monkeypatch):
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{receiver.port}")
    send(SLACK, MESSAGE)
    (body,) = receiver.bodies
    assert body["channel"] == "#alerts"
    assert "it hurts" in str(body)
    assert "to do" in str(body)


def test_pagerduty_keeps_one_incident_and_closes_it_when_all_is_well(receiver, monkeypatch):
    from apprise.plugins import pagerduty

    place = f"http://127.0.0.1:{receiver.port}/v2/enqueue"
    monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, pagerduty.PagerDutyRegion.US, place)
    receiver.answer = lambda _: 202
    send(PAGERDUTY, MESSAGE)
    send(PAGERDUTY, Message(title="resolved", body="all is well", severity=None, thread=MESSAGE.thread))
    raised, closed = receiver.bodies
    assert (raised["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert raised["dedup_key"] == closed["dedup_key"] == MESSAGE.thread
    assert raised["payload"]["severity"] == "critical"


def test_a_mail_has_subject_and_text():
    with mail_receiver() as (mailbox, port):
        send(f"mailto://127.0.0.1:{port}?from=driftline@example.org&to=on@example.org&mode=insecure", MESSAGE)
    (mail,) = mailbox.mails
    assert mail["subject"] == MESSAGE.title
    assert mail["to"] == "on@example.org"
    assert "to do" in str(mail.get_body())


@pytest.mark.parametrize("status", [500, 403])
def test_what_is_not_taken_is_an_error(receiver, status):
    receiver.answer = lambda _: status
    with pytest.raises(SendingError, match=str(status)):
        send(f"json://127.0.0.1:{receiver.port}/hook", MESSAGE)


@pytest.mark.parametrize("url", ["json://127.0.0.1:9/nobody-listens", "nosuchservice://x"])
def test_nobody_there_is_an_error(url):
    with pytest.raises(SendingError):
        send(url, MESSAGE)


def said(count: int, occasion: Occasion = "new", **changes: Any) -> tuple[MessagePart, ...]:
    return tuple(MessagePart(alert(f"f{number:02}", **changes), occasion, 0) for number in range(count))


def test_a_message_says_what_since_when_how_much_and_what_to_do():
    harm = alert(
        "h", kind="loss", severity="critical", title="mean log loss 0.571 is above 0.528", subject="log_loss",
        effect="log_loss 0.571, +0.043 against its limit", since_ms=NOW_MS - 86_400_000,
    )  # fmt: skip
    made = message(
        Delivery("m", "oncall", (*said(2), MessagePart(harm, "new", 0)), 3), "https://drift.example/"
    )
    assert made.title == "[critical] m: 3 alerts, first: mean log loss 0.571 is above 0.528"
    assert made.severity == "critical"
    first = made.body.split("\n\n")[0]
    assert "loss is above its limit (log_loss)" in first
    assert "since: 2027-01-14 08:00 UTC; found 2027-01-15 07:00 UTC" in first
    assert "+0.043 against its limit" in first
    assert "to do: " in first
    assert f"https://drift.example/reports/m/{harm.at_ms - 1}" in made.body
    assert "driftline alerts silence --model m --kind loss --for 4h" in made.body


def test_a_burst_is_told_in_bounds():
    made = message(Delivery("m", "oncall", said(300), 300))
    assert made.body.count("to do:") == SHOWN_MAX
    assert f"and {300 - SHOWN_MAX} more: {300 - SHOWN_MAX} of kind feature" in made.body
    assert len(made.body) < 10_000


def test_all_is_well_only_when_nothing_stands():
    assert message(Delivery("m", "oncall", said(1, "resolved"), 2)).severity == "info"
    made = message(Delivery("m", "oncall", said(1, "resolved"), 0))
    assert made.severity is None
    assert made.title.startswith("[resolved] m: ")
    assert "Silence:" not in made.body

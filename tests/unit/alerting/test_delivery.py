"""Messages arrive, through apprise, at servers that play Slack, PagerDuty, a webhook and a mail server."""

import pytest

from services.alerting.delivery import SendingError, send
from services.alerting.messages import Message
from tests.receivers import http_receiver, mail_receiver

MESSAGE = Message(
    title="[critical] m: it hurts", body="what\n\nto do", severity="critical", thread="driftline-m-x"
)
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#alerts"
PAGERDUTY = f"pagerduty://{'i' * 32}@{'a' * 20}"


@pytest.fixture
def receiver():
    with http_receiver() as found:
        yield found


def test_webhook_gets_title_text_and_severity(receiver):
    send(f"json://127.0.0.1:{receiver.port}/hook", MESSAGE)
    (body,) = receiver.bodies
    assert (body["title"], body["message"], body["type"]) == (MESSAGE.title, MESSAGE.body, "failure")


def test_slack_gets_the_message_in_its_channel(receiver, monkeypatch):
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{receiver.port}")
    send(SLACK, MESSAGE)
    (body,) = receiver.bodies
    assert body["channel"] == "#alerts"
    assert "it hurts" in str(body)
    assert "to do" in str(body)


def test_pagerduty_keeps_one_incident_and_closes_it(receiver, monkeypatch):
    from apprise.plugins import pagerduty

    address = f"http://127.0.0.1:{receiver.port}/v2/enqueue"
    monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, pagerduty.PagerDutyRegion.US, address)
    receiver.answer = lambda _: 202
    send(PAGERDUTY, MESSAGE)
    send(PAGERDUTY, Message(title="resolved", body="all is well", severity=None, thread=MESSAGE.thread))
    raised, closed = receiver.bodies
    assert (raised["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert raised["dedup_key"] == closed["dedup_key"] == MESSAGE.thread
    assert raised["payload"]["severity"] == "critical"


def test_mail_has_subject_and_text():
    with mail_receiver() as (mailbox, port):
        send(f"mailto://127.0.0.1:{port}?from=driftline@example.org&to=on@example.org&mode=insecure", MESSAGE)
    (mail,) = mailbox.mails
    assert mail["subject"] == MESSAGE.title
    assert mail["to"] == "on@example.org"
    assert "to do" in str(mail.get_body())


@pytest.mark.parametrize("status", [500, 403])
def test_refused_message_is_an_error(receiver, status):
    receiver.answer = lambda _: status
    with pytest.raises(SendingError, match=str(status)):
        send(f"json://127.0.0.1:{receiver.port}/hook", MESSAGE)


@pytest.mark.parametrize("url", ["json://127.0.0.1:9/nobody-listens", "nosuchservice://x"])
def test_unreachable_destination_is_an_error(url):
    with pytest.raises(SendingError):
        send(url, MESSAGE)

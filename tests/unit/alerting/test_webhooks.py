"""Webhooks arrive at a real HTTP server, with token and key, and their faults are told."""

import threading
from collections.abc import Iterator

import pytest

from services.alerting import webhooks
from services.alerting.alert_state import MessagePart
from services.alerting.delivery import SendingError
from tests.receivers import HttpReceiver, http_receiver
from tests.unit.alerting.test_alert_state import NOW_MS, alert

END = alert(
    "nightly-1-promoted", kind="retraining", severity="info", title="retraining promoted, version 4",
    subject="", stands=False, request_id="nightly-1", event="promoted", version=4, at_ms=NOW_MS,
)  # fmt: skip
PART = MessagePart(END, "new", 0)


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


def post(receiver: HttpReceiver, token: str = "a%2Fb@", part: MessagePart = PART) -> None:
    url = f"webhook+http://{token}127.0.0.1:{receiver.port}/repos/o/r/dispatches?x=1"
    webhooks.send(url, webhooks.key_of(part), webhooks.body_of(part))


def test_the_end_of_a_retraining_arrives_with_token_and_key(receiver: HttpReceiver) -> None:
    post(receiver)
    (body,), (headers,), (path,) = receiver.bodies, receiver.headers, receiver.paths
    assert path == "/repos/o/r/dispatches?x=1"
    assert (headers["authorization"], headers["idempotency-key"]) == ("Bearer a/b", "nightly-1-promoted")
    assert headers["content-type"] == "application/json"
    assert body == {
        "event_type": "driftline.retraining.promoted",
        "client_payload": {
            "id": "nightly-1-promoted", "model": "m", "request_id": "nightly-1", "event": "promoted",
            "version": 4, "severity": "info", "title": "retraining promoted, version 4", "subject": "",
            "segment": "", "at_ms": NOW_MS,
        },
    }  # fmt: skip
    assert len(body["client_payload"]) <= 10, "GitHub takes no more"


def test_without_a_token_there_is_no_header_of_it(receiver: HttpReceiver) -> None:
    post(receiver, token="")
    assert "authorization" not in receiver.headers[0]


def test_each_message_about_an_alarm_has_a_key_of_its_own() -> None:
    found = [
        MessagePart(alert("a"), "new", 0),
        MessagePart(alert("a"), "again", 1),
        MessagePart(alert("a"), "again", 2),
    ]
    assert [webhooks.key_of(each) for each in found] == ["a", "a-again-1", "a-again-2"]
    assert webhooks.body_of(found[1])["event_type"] == "driftline.feature.again"


@pytest.mark.parametrize("status", [302, 401, 422, 500])
def test_any_other_status_is_an_error_without_the_token(receiver: HttpReceiver, status: int) -> None:
    receiver.answer = lambda _: status
    with pytest.raises(SendingError, match=str(status)) as raised:
        post(receiver, token="secret@")
    assert "secret" not in str(raised.value)


def test_a_receiver_that_is_away_or_silent_is_an_error(
    receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SendingError, match="ConnectError"):
        webhooks.send("webhook+http://127.0.0.1:9/x", "k", {})
    monkeypatch.setattr(webhooks, "SECONDS_MAX", 0.05)
    over = threading.Event()
    receiver.answer = lambda _: 200 if over.wait() else 500
    try:
        with pytest.raises(SendingError, match="ReadTimeout"):
            post(receiver)
    finally:
        over.set()


@pytest.mark.parametrize("url", ["webhook+http://[x/", "webhook+https://", "webhook+http://host:port/"])
def test_an_address_that_cannot_be_read_is_an_error(url: str) -> None:
    with pytest.raises(SendingError):
        webhooks.send(url, "k", {})


def test_only_these_schemes_are_webhooks() -> None:
    urls = ["webhook+https://t@h/p", "webhook+http://h", "json://h/p", "https://h"]
    assert [webhooks.is_webhook(url) for url in urls] == [True, True, False, False]

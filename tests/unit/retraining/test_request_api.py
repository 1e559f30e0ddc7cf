"""``POST /retrain/{model}`` with a session that answers in another thread."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError
from starlette.testclient import TestClient

from services.retraining import request_api
from services.retraining.http_requests import RetrainingAnswer, RetrainingCall
from services.retraining.request_api import RequestInbox
from services.runtime.settings import Settings
from services.runtime.web import server

TOKEN = "one"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PATH = "/retrain/delay"


def client(inbox: RequestInbox, digests: str = DIGEST) -> TestClient:
    settings = Settings(_env_file=None, retraining_token_digests=digests)
    routes, tokens = request_api.routes(settings, inbox), settings.retraining_tokens
    return TestClient(server.application(lambda: None, routes, tokens))


@contextlib.contextmanager
def session(inbox: RequestInbox, decide: Any) -> Iterator[None]:
    """Answer calls in a thread until the block ends, as the session's steps do."""
    over = threading.Event()

    def answer() -> None:
        while not over.wait(0.005):
            with contextlib.suppress(KafkaTimeoutError):
                inbox.answer(decide)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def accept(model: str, call: RetrainingCall) -> RetrainingAnswer:
    return RetrainingAnswer(model=model, request_id=call.request_id or "new", repeated=call.reason == "again")


def test_a_call_is_accepted_and_a_repeat_says_so() -> None:
    inbox = RequestInbox()
    with session(inbox, accept):
        first = client(inbox).post(PATH, headers=BEARER, json={"request_id": "a"})
        second = client(inbox).post(PATH, headers=BEARER, json={"request_id": "a", "reason": "again"})
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json() == {
        "model": "delay", "request_id": "a", "repeated": False, "result": None, "version": 0, "reasons": [],
    }  # fmt: skip
    assert second.json()["repeated"] is True


def test_a_call_may_have_no_body() -> None:
    inbox = RequestInbox()
    with session(inbox, accept):
        assert client(inbox).post(PATH, headers=BEARER).json()["request_id"] == "new"


def test_without_a_configured_token_the_route_is_closed_and_says_how_to_open_it() -> None:
    response = client(RequestInbox(), digests="").post(PATH, headers=BEARER)
    assert response.status_code == 403
    assert "DRIFTLINE_RETRAINING_TOKEN_DIGESTS" in response.json()["error"]
    assert "driftline retrain delay" in response.json()["error"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer two"}])
def test_a_missing_or_wrong_token_is_refused(headers: dict[str, str]) -> None:
    response = client(RequestInbox()).post(PATH, headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"{", 400, "JSON"),
        (b"[]", 400, "object"),
        (b'{"why": "x"}', 400, "why"),
        (b'{"request_id": "a b"}', 400, "request_id"),
        (b'{"request_id": "' + b"a" * 101 + b'"}', 400, "request_id"),
        (b'{"reason": "' + b"a" * 20_000 + b'"}', 413, "exceeds the limit"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused(content: bytes, status: int, text: str) -> None:
    response = client(RequestInbox()).post(PATH, headers=BEARER, content=content)
    assert response.status_code == status
    assert text in response.json()["error"]


def test_a_refusal_of_the_session_is_the_answer() -> None:
    def refuse(_model: str, _call: RetrainingCall) -> RetrainingAnswer:
        raise server.RequestError(409, "r1 is open")

    inbox = RequestInbox()
    with session(inbox, refuse):
        response = client(inbox).post(PATH, headers=BEARER)
    assert (response.status_code, response.json()["error"]) == (409, "r1 is open")


def test_a_record_that_kafka_does_not_take_is_a_503_and_ends_the_session() -> None:
    def fail(_model: str, _call: RetrainingCall) -> RetrainingAnswer:
        raise KafkaTimeoutError("silent")

    inbox = RequestInbox()
    with session(inbox, fail):
        response = client(inbox).post(PATH, headers=BEARER)
    assert response.status_code == 503
    assert "same request_id" in response.json()["error"]
    assert response.headers["Retry-After"]


def test_without_a_session_the_call_is_a_503_and_is_not_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_api, "ANSWER_SECONDS_MAX", 0.01)
    inbox, asked = RequestInbox(), []

    def decide(model: str, call: RetrainingCall) -> RetrainingAnswer:
        asked.append(model)
        return accept(model, call)

    response = client(inbox).post(PATH, headers=BEARER)
    assert response.status_code == 503
    assert "same request_id" in response.json()["error"]
    inbox.answer(decide)
    assert asked == []


def test_calls_above_the_bound_are_refused() -> None:
    inbox = RequestInbox(calls_max=1)
    inbox.put("delay", RetrainingCall())
    response = client(inbox).post(PATH, headers=BEARER)
    assert response.status_code == 503
    assert "1 calls wait" in response.json()["error"]

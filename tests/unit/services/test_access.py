"""Who may ask, and how often."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from services import access, web
from services.access import RateLimit
from services.settings import Settings, Token


def digest(secret):
    return hashlib.sha256(secret.encode()).digest()


async def team_of(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.scope.get(access.TEAM)))


def client(tokens=(), **options):
    return TestClient(web.application(lambda: None, [Route("/team", team_of)], tokens, **options))


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


TOKENS = [Token(digest("one"), "red"), Token(digest("two"), "red"), Token(digest("three"), "blue")]


def test_each_token_stands_for_its_team():
    http = client(TOKENS)
    told = [http.get("/team", headers=bearer(secret)).text for secret in ("one", "two", "three")]
    assert told == ["red", "red", "blue"]


def test_without_a_known_token_there_is_a_challenge_and_health_stays_open():
    http = client(TOKENS)
    for headers in ({}, bearer("four"), {"Authorization": "Basic one"}, {"Authorization": "Bearer"}):
        answer = http.get("/team", headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"][:6]) == (401, "Bearer")
    assert [http.get(path).status_code for path in ("/health/live", "/health/ready", "/metrics")] == [200] * 3


def test_where_no_token_is_asked_for_there_is_no_team():
    assert client().get("/team").text == "None"
    assert access.may_ask({}, "red")
    assert access.may_ask({access.TEAM: "red"}, "red")
    assert access.may_ask({access.TEAM: "blue"}, "")
    assert not access.may_ask({access.TEAM: "blue"}, "red")


def test_who_asks_too_often_is_told_when_to_come_again():
    http = client(TOKENS, requests_per_second_max=0.1)
    assert http.get("/team", headers=bearer("one")).status_code == 200
    answer = http.get("/team", headers=bearer("one"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "10")
    assert http.get("/team", headers=bearer("two")).status_code == 200
    assert http.get("/health/live").status_code == 200


@given(st.lists(st.floats(0, 0.4), min_size=1, max_size=60), st.floats(1, 20))
def test_no_span_of_time_lets_more_through_than_its_share_and_one_burst(gaps_seconds, rate):
    limit, now, passed = RateLimit(rate), 100.0, []
    for gap in gaps_seconds:
        now += gap
        if limit.take(b"a", now) == 0:
            passed.append(now)
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= rate + (passed[last] - start) * rate + 1e-6


def test_whoever_waits_as_long_as_told_is_let_through():
    limit = RateLimit(3)
    assert [limit.take(b"a", 5.0) for _ in range(3)] == [0, 0, 0]
    wait_seconds = limit.take(b"a", 5.0)
    assert 0 < wait_seconds <= 1 / 3
    assert limit.take(b"a", 5.0 + wait_seconds + 1e-9) == 0


def test_callers_are_kept_within_a_bound(monkeypatch):
    monkeypatch.setattr(access, "CALLERS_MAX", 2)
    limit = RateLimit(1)
    for caller in (b"a", b"b", b"c"):
        assert limit.take(caller, 0.0) == 0
    assert limit.take(b"c", 0.0) > 0
    assert limit.take(b"a", 0.0) == 0


def test_tokens_are_read_from_the_settings():
    entries = f"red:{digest('one').hex()}, red:{digest('two').hex()},blue:{digest('three').hex().upper()}"
    assert list(Settings(team_token_digests=entries).scoring_tokens) == TOKENS
    assert Settings().scoring_tokens == ()

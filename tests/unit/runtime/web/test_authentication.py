"""Who may ask, and how often."""

import hashlib

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from services.runtime.settings import Settings, Token
from services.runtime.web import authentication, server
from services.runtime.web.rate_limits import RateLimit


def digest(secret):
    return hashlib.sha256(secret.encode()).digest()


async def team_of(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.scope.get(authentication.TEAM)))


def client(tokens=(), **options):
    return TestClient(server.application(lambda: None, [Route("/team", team_of)], tokens, **options))


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
    assert authentication.may_ask({}, "red")
    assert authentication.may_ask({authentication.TEAM: "red"}, "red")
    assert authentication.may_ask({authentication.TEAM: "blue"}, "")
    assert not authentication.may_ask({authentication.TEAM: "blue"}, "red")


class Tenth:
    """A request every ten seconds."""

    def __init__(self):
        self._limit = RateLimit(0.1)

    async def take(self, caller):
        return self._limit.take(caller, 0.0)


def test_who_asks_too_often_is_told_when_to_come_again():
    http = client(TOKENS, limit=Tenth())
    assert http.get("/team", headers=bearer("one")).status_code == 200
    answer = http.get("/team", headers=bearer("one"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "10")
    assert http.get("/team", headers=bearer("two")).status_code == 200
    assert http.get("/health/live").status_code == 200


def test_tokens_are_read_from_the_settings():
    entries = f"red:{digest('one').hex()}, red:{digest('two').hex()},blue:{digest('three').hex().upper()}"
    assert list(Settings(team_token_digests=entries).scoring_tokens) == TOKENS
    assert Settings().scoring_tokens == ()

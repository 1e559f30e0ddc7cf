"""Tokens of teams and their rate limits."""

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


def test_each_token_belongs_to_its_team():
    http = client(TOKENS)
    teams = [http.get("/team", headers=bearer(secret)).text for secret in ("one", "two", "three")]
    assert teams == ["red", "red", "blue"]


def test_without_a_known_token_the_response_is_a_challenge_and_health_stays_open():
    http = client(TOKENS)
    for headers in ({}, bearer("four"), {"Authorization": "Basic one"}, {"Authorization": "Bearer"}):
        response = http.get("/team", headers=headers)
        assert (response.status_code, response.headers["WWW-Authenticate"][:6]) == (401, "Bearer")
        assert "a valid bearer token is required" in response.json()["error"]
    assert [http.get(path).status_code for path in ("/health/live", "/health/ready", "/metrics")] == [200] * 3


def test_without_configured_tokens_there_is_no_team():
    assert client().get("/team").text == "None"
    assert authentication.is_allowed({}, "red")
    assert authentication.is_allowed({authentication.TEAM: "red"}, "red")
    assert authentication.is_allowed({authentication.TEAM: "blue"}, "")
    assert not authentication.is_allowed({authentication.TEAM: "blue"}, "red")


class TenthOfARequest:
    """Allows 0.1 requests per second, with a clock at 0."""

    def __init__(self):
        self._limit = RateLimit(0.1)

    async def take(self, caller):
        return self._limit.take(caller, 0.0)


def test_beyond_the_rate_the_response_says_when_to_retry():
    http = client(TOKENS, limit=TenthOfARequest())
    assert http.get("/team", headers=bearer("one")).status_code == 200
    response = http.get("/team", headers=bearer("one"))
    assert (response.status_code, response.headers["Retry-After"]) == (429, "10")
    assert response.json()["error"] == "the rate limit is exceeded; retry after 10 s"
    assert http.get("/team", headers=bearer("two")).status_code == 200
    assert http.get("/health/live").status_code == 200


def test_tokens_are_read_from_the_settings():
    entries = f"red:{digest('one').hex()}, red:{digest('two').hex()},blue:{digest('three').hex().upper()}"
    assert list(Settings(team_token_digests=entries).scoring_tokens) == TOKENS
    assert Settings().scoring_tokens == ()

"""What keeps the REST side within bounds: requests, seconds, teams, a process that stops."""

import asyncio
import hashlib

import httpx
import pytest
import redis.exceptions
from prometheus_client import REGISTRY
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from services.runtime.settings import Token
from services.runtime.web import server
from services.scoring.rest import routes
from tests.unit.scoring.fakes import HalfOfX, Held, Slow, Store, endpoint

ROW = {"id": "r0", "at": "2013-07-01T16:05:00Z", "x": 1.2, "who": "abc"}


def application(door=None, tokens=(), **subjects):
    served = subjects or {"m": endpoint()}
    return server.application(lambda: None, routes.routes(lambda: served), tokens, door=door)


def client(tokens=(), **subjects):
    return TestClient(application(tokens=tokens, **subjects), raise_server_exceptions=False)


def concurrently(ask, door=None, **subjects):
    """Run ``await ask(post)`` in one event loop with the application."""

    async def run():
        transport = httpx.ASGITransport(app=application(door, **subjects))
        async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
            return await ask(lambda **body: http.post("/predict", json={"rows": [ROW]} | body))

    return asyncio.run(run())


async def seen(condition):
    """Wait until it holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # what is looked at has no event
            await asyncio.sleep(0.001)


def test_the_caller_s_request_id_comes_back_and_stands_in_errors_and_logs():
    http = client(m=endpoint(models={1: HalfOfX(poison=1.2)}))
    with capture_logs() as logs:
        answer = http.post("/predict", json={"rows": [ROW]}, headers={"X-Request-Id": "abc-1"})
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (500, "abc-1")
    assert answer.json() == {"error": "internal error, logged as abc-1", "request_id": "abc-1"}
    assert logs[0]["request_id"] == "abc-1"


@pytest.mark.parametrize("sent", [None, "", "a b", "x" * 129, "\x1b[31m"])
def test_an_id_that_is_missing_or_fit_for_no_log_is_replaced(sent):
    headers = {} if sent is None else {"X-Request-Id": sent}
    answer = client().post("/predict", json={"rows": [ROW]}, headers=headers)
    assert answer.status_code == 200
    assert len(answer.headers["X-Request-Id"]) == 32


def test_rows_beyond_the_model_s_own_limit_are_refused():
    http = client(m=endpoint(limits={"rows_max": 2}))
    assert http.post("/predict", json={"rows": [ROW] * 2}).status_code == 200
    assert "1 to 2 are taken at once, got 3" in http.post("/predict", json={"rows": [ROW] * 3}).text


def test_a_slow_model_takes_no_places_of_another():
    """It is at its limit of requests: its own callers are turned away, those of the other are not."""
    slow = endpoint(models={1: Slow(1.5)}, limits={"requests_max": 2, "threads": 1})
    quick = endpoint()

    async def ask(post):
        waiting = [asyncio.create_task(post(model="slow")) for _ in range(3)]
        await asyncio.sleep(0.05)
        answers = [(await post(model="quick")).status_code for _ in range(5)]
        assert not all(one.done() for one in waiting)
        return answers, sorted([(await one).status_code for one in waiting])

    assert concurrently(ask, slow=slow, quick=quick) == ([200] * 5, [200, 200, 503])


def test_an_answer_that_takes_too_long_is_given_up():
    async def ask(post):
        return await post()

    answer = concurrently(ask, m=endpoint(models={1: Slow(0.5)}, limits={"seconds_max": 0.05}))
    assert (answer.status_code, answer.json()["error"]) == (504, "the answer took too long")


def test_only_what_is_no_fault_of_the_caller_counts_against_availability():
    def unanswered():
        labels = {"model": "m", "channel": "rest"}
        return REGISTRY.get_sample_value("driftline_requests_unanswered_total", labels)

    async def ask(post):
        return await post()

    slow = endpoint(models={1: Slow(0.5)}, limits={"seconds_max": 0.05})
    before = unanswered() or 0
    assert client(m=slow).post("/predict", json={"rows": [{"nonsense": 1}]}).status_code == 400
    assert unanswered() == before
    assert concurrently(ask, m=slow).status_code == 504
    assert unanswered() == before + 1


def test_concurrent_rows_share_a_call_of_the_model_and_errors_stay_with_their_own():
    model = Held(poison=9.5)
    subject = endpoint(models={1: model}, limits={"threads": 1})

    async def ask(post):
        first = asyncio.create_task(post())
        await seen(lambda: model.calls == [1])
        rows = [ROW | {"id": f"r{number}", "x": 9.5 if number == 4 else number} for number in range(8)]
        rest_of_them = [asyncio.create_task(post(rows=[row])) for row in rows]
        await seen(lambda: len(subject._batcher._waiting) == len(rows))
        model.let_go.set()
        await first
        return await asyncio.gather(*rest_of_them)

    answers = concurrently(ask, m=subject)
    assert [answer.status_code for answer in answers] == [200] * 4 + [500] + [200] * 3
    assert [answer.json()["predictions"][0]["score"] for answer in answers if answer.is_success] == [
        number / 2 for number in range(8) if number != 4
    ]
    assert model.calls[:2] == [1, 8]


def test_a_row_without_a_feature_that_must_be_there_is_the_caller_s_error():
    declared = {"service": "s", "from_request": ["x", "who"], "missing": {"reject": ["who"]}}
    http = client(m=endpoint(features=declared))
    answer = http.post("/predict", json={"rows": [ROW, ROW | {"who": None}]})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("rows[1]: the feature who is missing")


def test_a_store_that_is_away_is_a_503(monkeypatch):
    async def away(*_):
        raise redis.exceptions.ConnectionError("refused")

    monkeypatch.setattr(Store, "read", away)
    answer = client().post("/predict", json={"rows": [ROW]})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "refused" not in answer.text


def test_a_model_with_a_team_answers_only_to_that_team():
    tokens = [Token(hashlib.sha256(team.encode()).digest(), team) for team in ("red", "blue")]
    http = client(tokens, red=endpoint(name="red", team="red"), all=endpoint(name="all"))

    def status(team, model):
        headers = {"Authorization": f"Bearer {team}"} if team else {}
        paths = [("/predict", {"model": model, "rows": [ROW]}), (f"/v2/models/{model}/infer", {"inputs": []})]
        return [http.post(path, json=body, headers=headers).status_code for path, body in paths]

    assert status("red", "red") == [200, 400]
    assert status("blue", "red") == [403, 403]
    assert status("blue", "all") == [200, 400]
    assert status("", "all") == [401, 401]
    described = http.get("/openapi.json", headers={"Authorization": "Bearer blue"}).json()
    assert not any(name.startswith("red.") for name in described["components"]["schemas"])


def test_unknown_paths_and_methods_are_told_in_the_form_of_all_errors():
    answers = [client().get("/nothing"), client().get("/predict")]
    assert [answer.status_code for answer in answers] == [404, 405]
    assert all(answer.json()["request_id"] for answer in answers)


def test_a_process_that_stops_finishes_what_it_has_and_lets_no_more_in():
    door, stop = server.Door(), asyncio.Event()

    async def life():
        async with door.open():
            await stop.wait()

    async def ask(post):
        living, at_work = asyncio.create_task(life()), asyncio.create_task(post())
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.sleep(0.05)
        late = await post()
        assert not at_work.done()
        assert not living.done()
        answer = await at_work
        await living
        return answer.status_code, late

    at_work, late = concurrently(ask, door, m=endpoint(models={1: Slow(0.3)}))
    assert at_work == 200
    assert (late.status_code, late.headers["Connection"]) == (503, "close")


def test_a_door_waits_no_longer_than_its_bound(monkeypatch):
    monkeypatch.setattr(server, "DRAIN_SECONDS_MAX", 0.1)
    door = server.Door()

    async def ask(post):
        async with door.open():
            at_work = asyncio.create_task(post())
            await asyncio.sleep(0.05)
        assert not at_work.done()
        return await at_work

    assert concurrently(ask, door, m=endpoint(models={1: Slow(1.5)})).status_code == 200


def test_requests_beyond_the_process_s_bound_are_turned_away():
    async def ask(post):
        first, second = await asyncio.gather(post(), post())
        return sorted([first.status_code, second.status_code])

    assert concurrently(ask, server.Door(requests_max=1), m=endpoint(models={1: Slow(0.1)})) == [200, 503]


def test_a_body_that_comes_too_slowly_is_given_up(monkeypatch):
    monkeypatch.setattr(server, "BODY_SECONDS_MAX", 0.05)

    async def trickle():
        yield b'{"rows"'
        await asyncio.sleep(1)

    async def run():
        transport = httpx.ASGITransport(app=application())
        async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
            return await http.post("/predict", content=trickle())

    assert asyncio.run(run()).status_code == 408

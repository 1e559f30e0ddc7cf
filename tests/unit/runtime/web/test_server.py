"""What all HTTP APIs share: the form of errors, the bound on bodies and on requests in progress."""

import asyncio
import subprocess
import sys

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from services.runtime.web import server
from services.runtime.web.server import ConcurrencyLimit, RequestError
from tests.waiting import LIVENESS_SECONDS


class GatedHandler:
    """Responds after its release; counts the requests that have reached it."""

    def __init__(self) -> None:
        self.arrived = 0
        self.is_reached = asyncio.Event()
        self.released = asyncio.Event()

    async def __call__(self, _: Request) -> Response:
        self.arrived += 1
        self.is_reached.set()
        await self.released.wait()
        return PlainTextResponse("done")


def run_with_client(scenario, limit=None):
    """Run ``await scenario(http, handler)`` with an application whose only route is the handler."""

    async def run():
        handler = GatedHandler()

        async def gated(request: Request) -> Response:
            return await handler(request)

        routes = [Route("/gated", server.handle_errors(gated))]
        app = server.application(lambda: None, routes, concurrency=limit)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await scenario(http, handler)

    return asyncio.run(run())


def test_a_request_error_has_its_status_its_headers_and_its_text():
    async def reject(_: Request) -> Response:
        raise RequestError(418, "short and stout", {"Retry-After": "7"})

    routes = [Route("/reject", server.handle_errors(reject))]
    response = TestClient(server.application(lambda: None, routes)).get("/reject")
    assert (response.status_code, response.headers["Retry-After"]) == (418, "7")
    assert response.json()["error"] == "short and stout"


def test_path_parameters_reach_a_handler():
    async def echo(request: Request) -> Response:
        return JSONResponse(dict(request.path_params))

    routes = [Route("/models/{name}/versions/{version}", server.handle_errors(echo))]
    http = TestClient(server.application(lambda: None, routes))
    assert http.get("/models/m/versions/3").json() == {"name": "m", "version": "3"}
    assert http.post("/models/m/versions/3").status_code == 405


@pytest.mark.parametrize("reason", [None, "loading models: m"])
def test_readiness_has_the_reason_and_the_detail(reason):
    http = TestClient(server.application(lambda: reason, detail=lambda: {"broken": {}}))
    response = http.get("/health/ready")
    if reason is None:
        assert (response.status_code, response.json()) == (200, {"status": "ready", "broken": {}})
    else:
        expected = {"status": "not ready", "reason": reason, "broken": {}}
        assert (response.status_code, response.json()) == (503, expected)
    assert http.get("/health/live").json() == {"status": "live"}


def body_application(bytes_max=10):
    async def measure(request: Request) -> Response:
        return PlainTextResponse(str(len(await server.read_body(request, bytes_max))))

    return server.application(lambda: None, [Route("/body", server.handle_errors(measure), methods=["POST"])])


def test_a_body_is_read_up_to_its_bound():
    http = TestClient(body_application())
    assert http.post("/body", content=b"x" * 10).text == "10"
    response = http.post("/body", content=b"x" * 11)
    assert (response.status_code, response.json()["error"]) == (
        413,
        "the request body exceeds the limit of 10 bytes",
    )


def test_a_body_that_arrives_too_slowly_is_a_408(monkeypatch):
    monkeypatch.setattr(server, "BODY_SECONDS_MAX", 0.01)

    async def endless():
        yield b"x"
        await asyncio.Event().wait()

    async def run():
        transport = httpx.ASGITransport(app=body_application())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.post("/body", content=endless())

    assert asyncio.run(run()).status_code == 408


def test_requests_beyond_the_limit_are_turned_away():
    async def scenario(http, handler):
        first = asyncio.create_task(http.get("/gated"))
        await handler.is_reached.wait()
        second = await http.get("/gated")
        health = await http.get("/health/live")
        handler.released.set()
        return (await first).status_code, second, health.status_code

    first, second, health = run_with_client(scenario, ConcurrencyLimit(requests_max=1))
    assert (first, second.status_code, health) == (200, 503, 200)
    assert second.headers["Retry-After"] == "1"
    assert second.json()["error"] == "1 requests are in progress, which is the limit; retry"


def test_shutdown_finishes_requests_in_progress_and_admits_no_new_ones():
    limit = ConcurrencyLimit()

    async def scenario(http, handler):
        stop = asyncio.Event()

        async def serve():
            async with limit.draining():
                await stop.wait()

        serving, in_progress = asyncio.create_task(serve()), asyncio.create_task(http.get("/gated"))
        await handler.is_reached.wait()
        stop.set()
        while not limit.is_closed:  # noqa: ASYNC110  # closing has no event
            await asyncio.sleep(0)
        late = await http.get("/gated")
        assert not in_progress.done()
        assert not serving.done()
        handler.released.set()
        response = await in_progress
        await serving
        return response.status_code, late, handler.arrived

    status, late, arrived = run_with_client(scenario, limit)
    assert (status, arrived) == (200, 1)
    assert (late.status_code, late.headers["Connection"]) == (503, "close")
    assert late.json()["error"] == "the process is shutting down"


def test_shutdown_waits_no_longer_than_its_bound(monkeypatch):
    monkeypatch.setattr(server, "DRAIN_SECONDS_MAX", 0.01)
    limit = ConcurrencyLimit()

    async def scenario(http, handler):
        async with limit.draining():
            in_progress = asyncio.create_task(http.get("/gated"))
            await handler.is_reached.wait()
        assert not in_progress.done()
        handler.released.set()
        return (await in_progress).status_code

    assert run_with_client(scenario, limit) == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 200),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, 200),
        ({"Content-Type": "application/vnd.driftline+json"}, 200),
        ({"Content-Type": "application/json", "Origin": "https://page.example"}, 200),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 200),
        ({}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "text/plain; x=application/json"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://page.example"}, 415),
        ({"Origin": "null"}, 415),
    ],
)
def test_a_body_is_json_and_never_what_a_page_of_another_site_can_send(headers, status):
    response = TestClient(body_application()).post("/body", content=b"{}", headers=headers)
    assert response.status_code == status
    if status == 415:
        assert "must be application/json" in response.json()["error"]


def ask(app, *messages):
    """Send one request as a server does; return the messages of the response."""

    async def run():
        sent, waiting = [], list(messages)

        async def receive():
            if waiting:
                return waiting.pop(0)
            return await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/body",
            "headers": [],
            "query_string": b"",
            "root_path": "",
        }
        await app(scope, receive, send)
        return sent

    return asyncio.run(run())


def test_a_client_that_disconnects_within_its_body_is_no_defect():
    part = {"type": "http.request", "body": b"x", "more_body": True}
    with capture_logs() as logs:
        sent = ask(body_application(), part, {"type": "http.disconnect"})
    assert sent[0]["status"] == 400
    assert logs == []


@pytest.mark.parametrize("has_gone", [True, False])
def test_a_caller_that_has_gone_is_noticed_without_waiting(has_gone):
    async def answer(request: Request) -> Response:
        await server.read_body(request, 10)
        return PlainTextResponse(str(server.has_gone(request)))

    app = server.application(lambda: None, [Route("/body", server.handle_errors(answer), methods=["POST"])])
    body = {"type": "http.request", "body": b"x", "more_body": False}
    messages = [body, {"type": "http.disconnect"}] if has_gone else [body]
    assert ask(app, *messages)[1]["body"] == str(has_gone).encode()


@pytest.mark.parametrize("serve", ["in_thread", "in_loop"])
def test_a_process_whose_http_server_ends_by_itself_is_stopped(serve):
    """The port is taken: uvicorn ends, and without it nobody would see the state of the process."""
    code = f"""
import asyncio, signal, socket, sys, time
from services.runtime.web import server

taken = socket.create_server(("127.0.0.1", 0))
port = taken.getsockname()[1]
app = server.application(lambda: None)

async def in_loop():
    async with server.serve_in_loop(app, "127.0.0.1", port):
        await asyncio.sleep(20)

def in_thread():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
    with server.serve_in_thread(app, "127.0.0.1", port):
        time.sleep(20)

in_thread() if {serve == "in_thread"} else asyncio.run(in_loop())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=LIVENESS_SECONDS, check=False
    )
    assert done.returncode == (4 if serve == "in_thread" else 3), done.stderr
    assert b"address already in use" in done.stderr

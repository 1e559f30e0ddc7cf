"""Request ids: from the caller or new, in the response, in errors and in the log."""

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from services.runtime.web import server


async def fail(_: Request) -> PlainTextResponse:
    raise ValueError("secret")


async def succeed(_: Request) -> PlainTextResponse:
    return PlainTextResponse("done")


def client() -> TestClient:
    routes = [
        Route("/fail", server.handle_errors(fail)),
        Route("/v2/fail", server.handle_errors(fail)),
        Route("/succeed", succeed),
    ]
    return TestClient(server.application(lambda: None, routes), raise_server_exceptions=False)


def test_the_caller_s_id_is_in_the_response_the_error_and_the_log():
    with capture_logs() as logs:
        response = client().get("/fail", headers={"X-Request-Id": "abc-1"})
    assert (response.status_code, response.headers["X-Request-Id"]) == (500, "abc-1")
    assert response.json() == {"error": "internal error, logged as abc-1", "request_id": "abc-1"}
    assert logs[0]["request_id"] == "abc-1"


@pytest.mark.parametrize("sent", [None, "", "a b", "x" * 129, "\x1b[31m"])
def test_an_id_that_is_missing_or_could_forge_log_lines_is_replaced(sent):
    headers = {} if sent is None else {"X-Request-Id": sent}
    response = client().get("/succeed", headers=headers)
    assert response.status_code == 200
    assert len(response.headers["X-Request-Id"]) == 32


def test_errors_of_the_inference_protocol_have_no_id_in_the_body():
    response = client().get("/v2/fail", headers={"X-Request-Id": "abc-1"})
    assert response.headers["X-Request-Id"] == "abc-1"
    assert response.json() == {"error": "internal error, logged as abc-1"}

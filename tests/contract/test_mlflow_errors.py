"""What MLflow's client raises while its server is away, for `streams.outages`.

If one of these fails after MLflow is upgraded, the classification there needs another way.
"""

import contextlib
import http.server
import threading
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from services.operations.local_servers.ports import free_port
from streams.outages import is_outage


@contextlib.contextmanager
def gateway(status: int, page: bytes) -> Iterator[str]:
    """Serve one page for every request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def error_at(url: str) -> MlflowException:
    with pytest.raises(MlflowException) as raised:
        MlflowClient(url).get_model_version("m", "1")
    return raised.value


@pytest.fixture(autouse=True)
def _without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_a_refused_connection_is_an_outage() -> None:
    assert is_outage(error_at(f"http://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503])
def test_the_page_of_a_gateway_is_an_outage_whatever_its_status(status: int) -> None:
    with gateway(status, b"<html>default backend</html>") as url:
        assert is_outage(error_at(url))


def test_a_page_instead_of_an_answer_is_an_outage() -> None:
    with gateway(200, b"<html>log in</html>") as url:
        assert is_outage(error_at(url))


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "RESOURCE_DOES_NOT_EXIST", False),
        (403, "PERMISSION_DENIED", False),
        (400, "INVALID_PARAMETER_VALUE", False),
        (500, "INTERNAL_ERROR", True),
        (503, "TEMPORARILY_UNAVAILABLE", True),
    ],
)
def test_an_answer_of_mlflow_is_an_outage_by_its_code(status: int, code: str, *, expected: bool) -> None:
    with gateway(status, b'{"error_code": "%s", "message": "m"}' % code.encode()) as url:
        assert is_outage(error_at(url)) is expected


def test_an_answer_of_a_registry_in_a_file_is_no_outage(tmp_path: object) -> None:
    assert not is_outage(error_at(f"sqlite:///{tmp_path}/registry.db"))

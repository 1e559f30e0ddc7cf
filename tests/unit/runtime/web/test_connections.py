"""A connection must send its headers in time, and there is a limit to their number."""

import socket
from collections.abc import Iterator

import pytest

from services.operations.local_servers import ports
from services.operations.local_servers.supervisor import answers_ok
from services.runtime.web import connections, server
from tests.waiting import until

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
SECONDS_MAX = 20


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(connections, "HEADER_SECONDS_MAX", 0.3)
    port = ports.free_port()
    with server.serve_in_thread(server.application(lambda: None), "127.0.0.1", port):
        until(answers_ok("127.0.0.1", port, "/health/live"), "the server listens")
        yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", REQUEST[:-2]])
def test_a_connection_whose_headers_do_not_end_is_closed(port: int, sent: bytes) -> None:
    with connect(port) as client:
        client.sendall(sent)
        assert client.recv(100) == b""


def test_a_further_request_must_send_its_headers_in_time_as_well(port: int) -> None:
    with connect(port) as client:
        client.sendall(REQUEST)
        assert client.recv(10_000).startswith(b"HTTP/1.1 200")
        client.sendall(REQUEST[:-2])
        assert client.recv(100) == b""


def test_a_slow_body_is_not_closed_by_the_limit_of_the_headers(port: int) -> None:
    """It waits longer than the limit of the headers before the body arrives."""
    with connect(port) as slow, connect(port) as idle:
        slow.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        assert slow.recv(10_000).startswith(b"HTTP/1.1 404")
        assert idle.recv(100) == b"", "the limit has passed"
        slow.sendall(b"{}")
        slow.sendall(REQUEST)
        assert slow.recv(10_000).startswith(b"HTTP/1.1 200")


def test_a_connection_beyond_the_limit_is_closed_and_others_go_on(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(port) as first:
        first.sendall(REQUEST)
        assert first.recv(10_000).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(connections, "CONNECTIONS_MAX", 1)
        with connect(port) as second:
            second.sendall(REQUEST)
            assert _received(second) == b""
        first.sendall(REQUEST)
        assert first.recv(10_000).startswith(b"HTTP/1.1 200")


def _received(client: socket.socket) -> bytes:
    try:
        return client.recv(100)
    except ConnectionResetError:
        return b""

import socket
from collections.abc import Iterator

import pytest

from services.operations.local_servers import ports


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_free_ports_never_repeat():
    chosen = [ports.free_port() for _ in range(50)]
    assert len(set(chosen)) == 50
    assert all(ports.PORT_MIN <= port <= ports.PORT_MAX for port in chosen)


def test_taken_port_is_not_free_but_open(taken_port: int):
    assert not ports.is_free(taken_port)
    assert ports.is_open(taken_port)


def test_port_that_is_bound_without_a_listener_is_neither_free_nor_open() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert not ports.is_free(port)
        assert not ports.is_open(port)


def test_port_that_was_closed_is_free(taken_port: int) -> None:
    port = ports.free_port()
    assert port != taken_port
    assert ports.is_free(port)
    assert not ports.is_open(port)


def test_search_ends_with_the_range_and_the_number_of_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(ports, "is_free", asked.append)
    with pytest.raises(OSError, match="no free port found between 20000 and 32000 after 500 attempts"):
        ports.free_port()
    assert len(asked) == ports.ATTEMPTS_MAX

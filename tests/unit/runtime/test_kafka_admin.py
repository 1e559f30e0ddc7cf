"""The connection of the administration client, without a broker."""

from typing import Any

import pytest

from services.runtime import kafka_admin


class RecordingClient:
    """Stands in for kafka-python's client."""

    made: list["RecordingClient"]

    def __init__(self, **options: Any) -> None:
        self.options, self.is_closed = options, False
        self.made.append(self)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[RecordingClient]:
    monkeypatch.setattr(kafka_admin, "KafkaAdminClient", RecordingClient)
    monkeypatch.setattr(RecordingClient, "made", [], raising=False)
    return RecordingClient.made


def test_by_default_the_time_limits_are_those_of_the_library(clients: list[RecordingClient]) -> None:
    with kafka_admin.connected({"bootstrap_servers": "b:1"}):
        pass
    assert clients[0].options == {"bootstrap_servers": "b:1"}


def test_a_time_limit_holds_for_the_connection_and_for_each_request(clients: list[RecordingClient]) -> None:
    with kafka_admin.connected({}, timeout_ms=7):
        pass
    assert clients[0].options == {"bootstrap_timeout_ms": 7, "request_timeout_ms": 7}


def fail_while_connected() -> None:
    with kafka_admin.connected({}):
        raise ValueError("mine")


def test_it_disconnects_after_an_error_too(clients: list[RecordingClient]) -> None:
    with pytest.raises(ValueError, match="mine"):
        fail_while_connected()
    assert clients[0].is_closed

from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError

from services.runtime import kafka_producers
from services.runtime.kafka_producers import (
    ACKNOWLEDGED_SECONDS_MAX,
    CLOSE_SECONDS_MAX,
    REQUEST_BYTES_MAX,
    connected,
)
from services.runtime.settings import Settings
from streams import topics


class Client:
    """A producer of kafka-python, and its future: every record is acknowledged at offset 7, or fails."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.sent: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.closed_within_seconds: float | None = None

    def send(self, topic: str, *, key: bytes, value: bytes | None, headers: list[Any]) -> Any:
        self.sent.append((topic, key, value, headers))
        return self

    def get(self, *, timeout: float) -> Any:
        assert timeout == ACKNOWLEDGED_SECONDS_MAX
        if self.failure is not None:
            raise self.failure
        return SimpleNamespace(offset=7)

    def close(self, *, timeout: float) -> None:
        self.closed_within_seconds = timeout


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """The clients that were made."""
    made: list[Client] = []

    def make(**options: Any) -> Client:
        made.append(Client(**options))
        return made[-1]

    monkeypatch.setattr(kafka_producers, "KafkaProducer", make)
    return made


def test_a_record_is_acknowledged_by_all_replicas_and_has_its_offset(clients: list[Client]) -> None:
    with connected(Settings(_env_file=None, broker="b:1")) as producer:
        assert producer.send("t", b"k", None, (("h", b"1"),)) == 7
        assert clients[0].closed_within_seconds is None
    (client,) = clients
    assert client.sent == [("t", b"k", None, [("h", b"1")])]
    assert client.options["bootstrap_servers"] == ["b:1"]
    assert (client.options["acks"], client.options["enable_idempotence"]) == ("all", True)
    assert max(topic.message_bytes_max() for topic in topics.ALL) <= client.options["max_request_size"]
    assert client.options["max_request_size"] == REQUEST_BYTES_MAX
    assert client.closed_within_seconds == CLOSE_SECONDS_MAX


def test_a_record_that_is_not_acknowledged_is_an_error_and_the_next_one_has_a_new_client(
    clients: list[Client],
) -> None:
    with connected(Settings(_env_file=None)) as producer:
        clients[0].failure = KafkaTimeoutError("no reply")
        with pytest.raises(KafkaTimeoutError, match="no reply"):
            producer.send("t", b"k", b"v")
        assert clients[0].closed_within_seconds == 0
        assert producer.send("t", b"k", b"w") == 7
    assert clients[1].sent == [("t", b"k", b"w", [])]
    assert clients[1].closed_within_seconds == CLOSE_SECONDS_MAX


def test_the_last_record_may_fail(clients: list[Client]) -> None:
    def write() -> None:
        with connected(Settings(_env_file=None)) as producer:
            clients[0].failure = KafkaTimeoutError("no reply")
            producer.send("t", b"k", b"v")

    with pytest.raises(KafkaTimeoutError, match="no reply"):
        write()
    assert len(clients) == 1

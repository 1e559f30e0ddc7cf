"""What the retraining process writes, and which ends it reads."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.model_registry import ledger
from services.retraining.publisher import TopicPublisher
from services.runtime import kafka_consumers
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams.records import RetrainingFinished, RetrainingRequested

FINISHED = RetrainingFinished(
    request_id="r1", model="delay", trigger="manual", requested_at_ms=1, result="failed", version=0
)


REQUEST = RetrainingRequested(
    request_id="r1", model="delay", trigger="manual", requested_at_ms=1, reason="by hand"
)


class Producer:
    def __init__(self) -> None:
        self.headers: list[list[str]] = []

    def send(self, _topic: str, _key: bytes, _value: bytes, headers: Any) -> None:
        self.headers.append([name for name, _ in headers])


@pytest.mark.parametrize(("cloud_events", "has_headers"), [("none", False), ("all", True)])
def test_headers_are_left_out_where_cloud_events_are_off(
    cloud_events: Any, *, has_headers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "append", lambda *_: None)
    producer = Producer()
    settings = Settings(_env_file=None, cloud_events=cloud_events)
    TopicPublisher(settings, cast("Any", producer)).publish_result(FINISHED, REQUEST)
    assert [bool(each) for each in producer.headers] == [has_headers]


def test_a_topic_that_does_not_exist_has_no_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(_: Any, topic: str) -> list[int]:
        if topic == "there":
            return [4, 5]
        raise MissingTopicError("there is no such topic")

    monkeypatch.setattr(kafka_consumers, "end_offsets", ends)
    monkeypatch.setattr(kafka_consumers, "connect", lambda *_: SimpleNamespace(close=lambda: None))
    publisher = TopicPublisher(Settings(_env_file=None), cast("Any", None))
    assert publisher.end_offsets(["there", "away"]) == {"there": [4, 5], "away": []}

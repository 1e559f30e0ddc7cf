"""Topics are compared with those whose reading began; one connection serves all questions."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError

from services.runtime import kafka_admin, topic_watch
from services.runtime.topic_identity import TopicRecreatedError
from services.runtime.topic_watch import TopicIds, TopicWatch


class Broker:
    """Topics with ids; each connection works for a number of questions."""

    def __init__(self, questions: int = 100, **ids: str) -> None:
        self.ids = ids
        self.connections = self.open = 0
        self._questions = questions
        self._left = 0

    @contextlib.contextmanager
    def connected(self, _options: Mapping[str, Any]) -> Iterator["Broker"]:
        self.connections += 1
        self.open += 1
        self._left = self._questions
        yield self
        self.open -= 1

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        if not self._left:
            raise KafkaConnectionError
        self._left -= 1
        found = [{"name": name, "topic_id": self.ids[name]} for name in names if name in self.ids]
        return [*found, {"name": "of another", "error_code": 3}]


def watch(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> TopicWatch:
    monkeypatch.setattr(kafka_admin, "connected", broker.connected)
    return TopicWatch(TopicIds({}))


def test_a_topic_that_is_recreated_is_noticed_until_it_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = Broker(a="1", b="2", c="")

    async def run() -> None:
        subject = watch(broker, monkeypatch)
        assert await subject.start(["a", "b", "c", "d"]) == {"a": "1", "b": "2"} == subject.ids
        broker.ids |= {"b": "3", "c": "4", "d": "5"}
        assert await subject.recreated() == ["b"]
        with pytest.raises(TopicRecreatedError, match="recreated since the last read: b"):
            await subject.check()
        await subject.start(["b"])
        assert subject.ids == {"a": "1", "b": "3"}
        await subject.check()

    asyncio.run(run())
    assert broker.connections == 1


def test_topics_are_checked_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        broker = Broker(a="1")
        subject = watch(broker, monkeypatch)
        await subject.start(["a"])
        broker.ids["a"] = "2"
        await subject.check_due()
        monkeypatch.setattr(topic_watch, "CHECK_SECONDS", 0.0)
        with pytest.raises(TopicRecreatedError):
            await subject.check_due()

    asyncio.run(run())


def test_a_connection_that_fails_is_replaced_and_all_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(questions=2, a="1")
    monkeypatch.setattr(kafka_admin, "connected", broker.connected)
    find = TopicIds({})
    assert [find(["a"]) for _ in range(5)] == [{"a": "1"}] * 5
    assert (broker.connections, broker.open) == (3, 1)
    find.close()
    assert broker.open == 0
    assert find([]) == {}


def test_a_broker_that_cannot_be_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(questions=0)
    monkeypatch.setattr(kafka_admin, "connected", broker.connected)
    with pytest.raises(KafkaConnectionError):
        TopicIds({})(["a"])

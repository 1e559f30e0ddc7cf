"""A topic is another one if its id in the metadata has changed."""

from typing import Any

import pytest

from services.runtime.recreated_topics import RecreatedTopics
from services.runtime.topic_identity import TopicRecreatedError


class Cluster:
    """Metadata with ids of topics."""

    def __init__(self, **ids: str) -> None:
        self.ids = ids

    def topic_id(self, topic: str) -> str | None:
        return self.ids.get(topic)


class Consumer:
    def __init__(self, **ids: str) -> None:
        self._cluster = Cluster(**ids)

    def learn(self, **ids: str) -> None:
        self._cluster.ids |= ids


def test_a_topic_that_is_seen_first_is_the_known_one() -> None:
    consumer: Any = Consumer(a="1")
    recreated = RecreatedTopics(consumer)
    assert [recreated.has("a"), recreated.has("a"), recreated.has("b")] == [False] * 3
    consumer.learn(a="2", b="7")
    assert [recreated.has("a"), recreated.has("b")] == [True, False]
    recreated.note("a")
    assert not recreated.has("a")


def test_a_topic_that_is_deleted_is_no_other_one() -> None:
    consumer: Any = Consumer(a="1")
    recreated = RecreatedTopics(consumer)
    recreated.note("a")
    consumer.learn(a="")
    recreated.check(["a"])


def test_the_error_names_the_topics() -> None:
    consumer: Any = Consumer(a="1", b="1")
    recreated = RecreatedTopics(consumer)
    recreated.check(["a", "b"])
    consumer.learn(b="2")
    with pytest.raises(TopicRecreatedError, match="recreated since the last read: b; reading continues"):
        recreated.check(["a", "b"])


def test_a_client_without_metadata_knows_nothing() -> None:
    recreated = RecreatedTopics(object())
    recreated.note("a")
    assert not recreated.has("a")

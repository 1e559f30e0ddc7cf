"""A change of arms is written only on top of the latest change, and a race is always noticed."""

from typing import Any, NamedTuple

import pytest
from kafka import TopicPartition

from services.model_registry.models_topic import (
    ATTEMPTS_MAX,
    PARTITION,
    KeyedRecord,
    ModelsTopic,
    OvertakenError,
)
from streams import records
from streams.records import Arm, ModelChanged


class Message(NamedTuple):
    offset: int
    value: bytes | None


class TopicConsumer:
    """A consumer of a topic in memory: a list of values, by offset."""

    def __init__(self, log: list[bytes | None]) -> None:
        self.log = log
        self.at = 0

    def assign(self, partitions: list[TopicPartition]) -> None:
        assert partitions == [PARTITION]

    def seek_to_beginning(self, _: TopicPartition) -> None:
        self.at = 0

    def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, len(self.log))

    def position(self, _: TopicPartition) -> int:
        return self.at

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Message]]:
        del timeout_ms
        found = [Message(offset, value) for offset, value in enumerate(self.log)][self.at :]
        self.at = len(self.log)
        return {PARTITION: found}


class Topic:
    """The models topic in memory; ``before_write`` holds what others write before each of our writes."""

    def __init__(self) -> None:
        self.log: list[bytes | None] = []
        self.before_write: list[ModelChanged] = []
        self.sent: list[KeyedRecord] = []

    def client(self, **options: Any) -> ModelsTopic:
        return ModelsTopic(TopicConsumer(self.log), self.send, source="tests", **options)

    def write(self, change: ModelChanged) -> None:
        self.log.append(records.encode(change))

    def send(self, batch: Any) -> None:
        if self.before_write:
            self.write(self.before_write.pop(0))
        self.sent += batch
        self.log += [value for _, value, _ in batch]


def change(reason: str, model: str = "m", version: int = 1) -> ModelChanged:
    arms = [Arm(name="champion", version=version, weight=10_000)]
    return ModelChanged(model=model, arms=arms, changed_at_ms=0, reason=reason)


@pytest.fixture
def topic() -> Topic:
    return Topic()


def reasons(topic: Topic) -> list[str]:
    return [records.decoder_of(ModelChanged).decode(value).reason for value in topic.log if value]


def test_latest_change_of_each_model_is_read_over_invalid_records_and_tombstones(topic: Topic):
    for reason, model in (("a", "m"), ("b", "n"), ("c", "m")):
        topic.write(change(reason, model))
    topic.log += [None, b"no JSON"]
    latest = topic.client().latest
    assert {model: found.reason for model, found in latest.items()} == {"m": "c", "n": "b"}


def test_refresh_reads_what_was_written_since(topic: Topic):
    client = topic.client()
    topic.write(change("a"))
    assert client.latest == {}
    client.refresh()
    assert client.latest["m"].reason == "a"


def test_published_changes_are_the_latest(topic: Topic):
    client = topic.client()
    client.publish([change("a"), change("b")])
    assert client.latest["m"].reason == "b"
    client.publish([change("c")])
    assert reasons(topic) == ["a", "b", "c"]
    assert {key for key, _, _ in topic.sent} == {b"m"}


def test_nothing_is_written_after_a_change_by_somebody_else(topic: Topic):
    client = topic.client()
    topic.write(change("theirs"))
    with pytest.raises(OvertakenError, match=r"nothing was written, because .* \('theirs', offset 0\)"):
        client.publish([change("ours")])
    assert reasons(topic) == ["theirs"]
    client.publish([change("ours")])  # on top of theirs, which is known by now


def test_change_by_somebody_else_between_check_and_write_is_noticed(topic: Topic):
    """Ours is the later record but does not include theirs, so the next change is based on theirs."""
    client = topic.client()
    topic.before_write = [change("theirs")]
    with pytest.raises(OvertakenError, match="was written, but is not based on the latest arms"):
        client.publish([change("ours")])
    assert reasons(topic) == ["theirs", "ours"]
    assert client.latest["m"].reason == "theirs"


def test_changes_of_other_models_overtake_nothing(topic: Topic):
    client = topic.client()
    topic.write(change("other", "n"))
    topic.before_write = [change("another", "n")]
    client.publish([change("ours")])
    assert client.latest["n"].reason == "another"


def test_publish_on_latest_includes_each_change_by_somebody_else(topic: Topic):
    client = topic.client()
    topic.before_write = [change("first"), change("second")]

    def make(latest: ModelChanged | None) -> list[ModelChanged]:
        return [change(f"ours on {latest.reason if latest else None}")]

    assert [each.reason for each in client.publish_on_latest("m", make)] == ["ours on second"]
    assert reasons(topic)[-1] == "ours on second"


def test_publish_on_latest_writes_nothing_if_no_change_is_needed(topic: Topic):
    topic.write(change("a"))
    assert topic.client().publish_on_latest("m", lambda _: []) == []
    assert topic.sent == []


def test_publish_on_latest_gives_up_after_a_bound(topic: Topic):
    topic.before_write = [change(f"theirs {number}") for number in range(ATTEMPTS_MAX)]
    with pytest.raises(OvertakenError, match="the arms of m were changed 5 times by somebody else"):
        topic.client().publish_on_latest("m", lambda _: [change("ours")])
    assert len(topic.sent) == ATTEMPTS_MAX


def test_cloud_events_headers_name_the_source(topic: Topic):
    topic.client().publish([change("a")])
    topic.client(cloud_events=True).publish([change("b")])
    (_, _, none), (_, _, headers) = topic.sent
    assert none == []
    assert dict(headers)["ce_source"] == b"/driftline/tests/m"


def test_a_change_that_needs_nothing_of_ours_is_the_last_record_again(topic: Topic) -> None:
    """Ours was written after an operator's rollback, which holds: the rollback has to count."""
    client = topic.client()
    topic.before_write = [change("rollback")]
    made = client.publish_on_latest(
        "m", lambda latest: [] if latest and latest.reason == "rollback" else [change("learned")]
    )
    assert not made  # nothing of ours is in effect
    assert reasons(topic) == ["rollback", "learned", "rollback"]
    assert client.latest["m"].reason == "rollback"

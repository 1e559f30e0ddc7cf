"""Where snapshots are found and written while their topic grows."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from kafka import TopicPartition

from services.runtime import large_records
from services.runtime.model_ownership import OwnershipLostError
from services.runtime.state_topic import OlderTopic, StateTopic
from streams.producer import Record, partition_of
from tests.unit.drift.memory_kafka import MemoryConsumer

TOPIC, MODEL = "states", "fares"


class Ownership:
    """A worker that owns everything, until it is lost."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.is_lost = False

    def partition(self, model: str) -> int:
        return partition_of(model.encode(), self.partitions)

    def require(self, partition: int) -> None:
        if self.is_lost:
            raise OwnershipLostError


class Broker:
    """Partitions in memory."""

    def __init__(self, partitions: int) -> None:
        self.consumer = MemoryConsumer()
        self.grow(partitions)

    def grow(self, partitions: int) -> None:
        for number in range(partitions):
            self.consumer.logs.setdefault(TopicPartition(TOPIC, number), [])
        self.ownership = Ownership(partitions)

    def state_topic(self, older: OlderTopic | None = None) -> StateTopic:
        return StateTopic(TOPIC, cast("Any", self), cast("Any", self.ownership), older)

    def write(self, stage: Mapping[tuple[str, int], Sequence[Record]]) -> None:
        for (topic, partition), batch in stage.items():
            self.consumer.write_records(topic, batch, partition)

    def found(self, older: OlderTopic | None = None) -> bytes | None:
        values = self.state_topic(older).find(cast("Any", self.consumer), [MODEL, "other"])
        return values[MODEL].value if MODEL in values else None

    def live(self) -> list[tuple[int, bytes]]:
        """Return the partition and value of each key of the model that is not deleted."""
        last = {
            (partition.partition, message.key): message.value
            for partition, log in self.consumer.logs.items()
            for message in log
        }
        return [(partition, value) for (partition, _), value in last.items() if value is not None]


def test_a_snapshot_is_in_the_partition_of_its_model() -> None:
    broker = Broker(32)
    assert broker.found() is None
    broker.state_topic().put(MODEL, b"1")
    assert broker.live() == [(partition_of(MODEL.encode(), 32), b"1")]
    assert broker.found() == b"1"


@pytest.mark.parametrize("size", [10, 25_000])
def test_a_snapshot_is_found_after_the_topic_has_grown_and_the_next_one_replaces_it(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_records, "PART_BYTES_MAX", 10_000)
    broker = Broker(1)
    for partitions in (1, 32, 64, 128):
        broker.grow(partitions)
        value = bytes([partitions]) * size
        states = broker.state_topic()
        states.find(cast("Any", broker.consumer), [MODEL])
        states.put(MODEL, value)
        assert {partition for partition, _ in broker.live()} == {partition_of(MODEL.encode(), partitions)}
        assert broker.found() == value
        broker.grow(2 * partitions)
        assert broker.found() == value


def test_the_checkpoint_of_an_older_version_is_found_and_replaced() -> None:
    older = OlderTopic("learned", lambda model: f"{model}/checkpoint".encode())
    broker = Broker(32)
    broker.consumer.write_records("learned", [(b"fares/checkpoint", b"old", []), (b"fares/1", b"model", [])])
    assert broker.found(older) == b"old"
    states = broker.state_topic(older)
    states.find(cast("Any", broker.consumer), [MODEL])
    states.put(MODEL, b"new")
    assert broker.found(older) == b"new"
    assert sorted(value for _, value in broker.live()) == [b"model", b"new"]


def test_a_worker_that_has_lost_the_model_writes_nothing() -> None:
    broker = Broker(4)
    broker.ownership.is_lost = True
    with pytest.raises(OwnershipLostError):
        broker.state_topic().put(MODEL, b"1")
    assert broker.live() == []

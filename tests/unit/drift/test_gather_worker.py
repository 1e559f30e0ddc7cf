"""What a gathering worker writes and commits, in which order."""

from typing import Any, cast

import msgspec
from kafka import TopicPartition

from services.drift.gather_worker import GatherSession, ModelGatherer
from services.drift.gathered_slices import LabelSlice, PredictionSlice
from streams import topics
from tests.unit.drift import scenario
from tests.unit.drift.memory_kafka import NOW_MS, MemoryConsumer, MemoryOutbox
from tests.unit.drift.scenario import START_MS

PREDICTIONS, LABELS = topics.predictions("m"), "m.labels"


def new_session(consumer: MemoryConsumer) -> GatherSession:
    outbox = cast("Any", MemoryOutbox(consumer))
    return GatherSession(cast("Any", consumer), outbox, [ModelGatherer(scenario.declaration(), None)])


def write(consumer: MemoryConsumer, topic: str, *entries: Any) -> None:
    consumer.write_records(topic, [scenario.kafka_record(entry) for entry in entries])


def decoded(consumer: MemoryConsumer, topic: str, kind: Any) -> list[Any]:
    return [msgspec.msgpack.decode(value, type=kind) for value in consumer.values(topic)]


def test_dead_letters_and_slices_are_written_before_the_offsets_are_committed():
    consumer = MemoryConsumer()
    label = scenario.label(1, START_MS, 1.0, offset=0)
    write(consumer, LABELS, label, b"not JSON", START_MS + 5)
    new_session(consumer).step()
    assert consumer.calls == [topics.DEAD_LETTERS.name, topics.label_slices("m"), "commit"]
    assert consumer.committed == {TopicPartition(LABELS, 0): 3}
    (found,) = decoded(consumer, topics.label_slices("m"), LabelSlice)
    written = msgspec.structs.replace(label, written_time_ms=NOW_MS)
    assert (found.start, found.stop, found.rows) == (0, 3, [written])
    assert (found.rejected, found.heartbeats) == ([1], [(2, START_MS + 5)])


def test_a_slice_begins_where_the_last_one_of_the_partition_stopped():
    consumer = MemoryConsumer()
    write(consumer, PREDICTIONS, scenario.prediction(0, START_MS))
    session = new_session(consumer)
    session.step()
    write(consumer, PREDICTIONS, scenario.prediction(1, START_MS), scenario.prediction(2, START_MS))
    session.step()
    found = decoded(consumer, topics.prediction_slices("m"), PredictionSlice)
    assert [(each.start, each.stop, each.offsets) for each in found] == [(0, 1, [0]), (1, 3, [1, 2])]


def test_after_a_rebalance_it_continues_with_what_it_reads():
    """The committed offset may be one that another worker committed."""
    consumer = MemoryConsumer()
    write(consumer, PREDICTIONS, scenario.prediction(0, START_MS))
    session = new_session(consumer)
    session.step()
    write(consumer, PREDICTIONS, scenario.prediction(1, START_MS), scenario.prediction(2, START_MS))
    partition = TopicPartition(PREDICTIONS, 0)
    session.on_partitions_revoked([partition])
    session.on_partitions_assigned([partition])
    consumer.seek(partition, 2)
    session.step()
    assert [each.start for each in decoded(consumer, topics.prediction_slices("m"), PredictionSlice)] == [
        0,
        2,
    ]


def test_without_records_nothing_is_written_or_committed():
    consumer = MemoryConsumer()
    new_session(consumer).step()
    assert consumer.calls == []


def test_a_topic_that_is_recreated_is_gathered_from_its_start():
    consumer = MemoryConsumer()
    write(consumer, PREDICTIONS, *(scenario.prediction(number, START_MS) for number in range(3)))
    session = new_session(consumer)
    session.step()
    consumer.recreate(PREDICTIONS)
    write(consumer, PREDICTIONS, *(scenario.prediction(number, START_MS) for number in range(5)))
    session.step()
    session.step()
    found = decoded(consumer, topics.prediction_slices("m"), PredictionSlice)
    assert [(each.start, each.stop) for each in found] == [(0, 3), (0, 5)]

"""Snapshots of models on a compacted topic that is keyed by model: each in the partition of its key.

The topic may get more partitions. The partition of a key may then be another one, and its latest record stays
where it is. So a snapshot that is not in the partition of its key is looked for in all others, and the one
that was written last counts. The next snapshot is written to the partition of its key, and replaces them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import structlog
from kafka import KafkaConsumer, TopicPartition

from services.runtime import kafka_consumers, large_records
from services.runtime.kafka_outbox import Outbox
from services.runtime.large_records import FoundValue, LargeRecordWriter
from services.runtime.model_ownership import ModelOwnership
from streams.producer import Record

_log = structlog.get_logger()


class OlderTopic(NamedTuple):
    """Where older versions wrote snapshots: partition 0 of another topic, under another key."""

    topic: str
    key_of: Callable[[str], bytes]


class _Place(NamedTuple):
    partition: TopicPartition
    key: bytes
    found: FoundValue


class StateTopic:
    """Reads and writes the snapshots of the models that a worker owns, by name."""

    def __init__(
        self, topic: str, outbox: Outbox, ownership: ModelOwnership, older: OlderTopic | None = None
    ) -> None:
        """Take what writes, what tells whether this worker may write, and where older snapshots may be."""
        self._topic = topic
        self._outbox = outbox
        self._ownership = ownership
        self._older = older
        self._writers: dict[int, LargeRecordWriter] = {}
        self._replaced: dict[str, list[_Place]] = {}
        """Snapshots in other places that the next one of the model replaces."""

    def find(self, consumer: KafkaConsumer, models: Collection[str]) -> dict[str, FoundValue]:
        """Return the latest snapshot of each of these models that has one.

        Args:
            consumer: A consumer for this call alone.
            models: Their names; they are owned.

        Raises:
            LargeRecordError: A snapshot in parts is not complete.
            KafkaError: The broker cannot be reached.
        """
        found: dict[str, FoundValue] = {}
        for partition, names in self._by_partition(models).items():
            keys = {name.encode(): name for name in names}
            values = kafka_consumers.latest_values(consumer, TopicPartition(self._topic, partition), [*keys])
            self._writer(partition).learn(values)
            found |= {keys[key]: value for key, value in values.items()}
        for model, place in self._elsewhere(consumer, sorted(set(models) - found.keys())):
            self._replaced.setdefault(model, []).append(place)
        latest = {
            model: max((each.found for each in self._replaced[model]), key=lambda each: each.written_ms)
            for model in models
            if model not in found and model in self._replaced
        }
        return found | latest

    def put(self, model: str, value: bytes) -> None:
        """Write a snapshot, and return when it is acknowledged.

        Raises:
            OwnershipLostError: This worker does not own the model any more.
        """
        self._writer(self._ownership.partition(model)).put(model.encode(), value)
        for place in self._replaced.pop(model, ()):
            keys = large_records.keys_of(place.key, place.found)
            batch: Sequence[Record] = [(key, None, []) for key in keys]
            self._outbox.write({tuple(place.partition): batch})

    def _by_partition(self, models: Iterable[str]) -> Mapping[int, Sequence[str]]:
        found: dict[int, list[str]] = {}
        for model in models:
            found.setdefault(self._ownership.partition(model), []).append(model)
        return found

    def _elsewhere(self, consumer: KafkaConsumer, models: Sequence[str]) -> Iterator[tuple[str, _Place]]:
        """Yield the snapshots that were written before the topic had its present partitions."""
        if not models:
            return
        places = [
            (TopicPartition(self._topic, number), {model.encode(): model for model in models})
            for number in range(kafka_consumers.partition_count(consumer, self._topic))
        ]
        if self._older is not None:
            older = TopicPartition(self._older.topic, 0)
            places.append((older, {self._older.key_of(model): model for model in models}))
        for model in models:
            self._replaced.pop(model, None)
        for partition, keys in places:
            for key, found in kafka_consumers.latest_values(consumer, partition, [*keys]).items():
                _log.info("state.found_elsewhere", model=keys[key], topic=partition.topic)
                yield keys[key], _Place(partition, key, found)

    def _writer(self, partition: int) -> LargeRecordWriter:
        def write(batch: Sequence[Record]) -> None:
            self._ownership.require(partition)
            self._outbox.write({(self._topic, partition): batch})

        return self._writers.setdefault(partition, LargeRecordWriter(write))

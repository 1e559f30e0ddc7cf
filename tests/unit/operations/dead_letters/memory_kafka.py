"""Topics in memory, with the parts of aiokafka's consumer and of `BatchProducer` that a replay uses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from streams.producer import Record, RecordTooLargeError


class ReadRecord(NamedTuple):
    """A record as it is read."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp_ms: int


class Found(NamedTuple):
    """The answer to a search by time."""

    offset: int


class MemoryKafka:
    """The records of each partition, as one consumer and one producer see them."""

    def __init__(self, **partitions: int) -> None:
        """Make topics with a number of partitions each."""
        self.logs: dict[TopicPartition, list[ReadRecord]] = {
            TopicPartition(topic, number): []
            for topic, count in partitions.items()
            for number in range(count)
        }
        self.deleted: dict[TopicPartition, int] = {}
        """By partition, the first offset that still exists."""
        self.is_silent = False
        self.writes_max: int | None = None
        """Writes until the broker is gone."""
        self.bytes_max: int | None = None
        """Maximum size of a value."""
        self._position: dict[TopicPartition, int] = {}

    def write(self, place: TopicPartition, *batch: Record, timestamp_ms: int = 0) -> None:
        """Append records."""
        log = self.logs[place]
        for each in batch:
            log.append(ReadRecord(len(log), *each, timestamp_ms))

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""

    async def send(self, topic: str, partition: int, batch: Iterable[Record]) -> None:
        """Append records, as a producer does."""
        if self.writes_max is not None:
            if self.writes_max == 0:
                raise ConnectionError("the broker is gone")
            self.writes_max -= 1
        batch = list(batch)
        for each in batch:
            if self.bytes_max is not None and len(each[1] or b"") > self.bytes_max:
                raise RecordTooLargeError(topic, each, len(each[1] or b""), None)
        self.write(TopicPartition(topic, partition), *batch)

    async def partitions(self, topic: str) -> int:
        """Count the partitions of a topic."""
        return sum(place.topic == topic for place in self.logs)

    async def topics(self) -> set[str]:
        """Return the topics that exist."""
        return {place.topic for place in self.logs}

    async def end_offsets(self, places: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the ends."""
        return {place: len(self.logs[place]) for place in places}

    async def beginning_offsets(self, places: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the first offsets that exist."""
        return {place: self.deleted.get(place, 0) for place in places}

    async def offsets_for_times(
        self, times_ms: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, Found | None]:
        """Return the first record at each time or later."""
        return {
            place: next((Found(r.offset) for r in self.logs[place] if r.timestamp_ms >= time_ms), None)
            for place, time_ms in times_ms.items()
        }

    def assign(self, places: Iterable[TopicPartition]) -> None:
        """Read these partitions from now on."""
        self._position = dict.fromkeys(places, 0)

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Read from an offset on."""
        self._position[place] = offset

    async def position(self, place: TopicPartition) -> int:
        """Return the offset of the next record to read."""
        return self._position[place]

    async def getmany(self, place: TopicPartition, *, timeout_ms: int, max_records: int) -> Mapping[Any, Any]:
        """Return the next records; nothing from a silent broker."""
        assert timeout_ms > 0
        start = self._position[place]
        found = [] if self.is_silent else self.logs[place][start : start + max_records]
        self._position[place] += len(found)
        return {place: found} if found else {}

"""Writes dead letters back to the topic and partition that they came from, each failed record once.

Delivery:

1. write a mark to the dead letters that names the records and the end of their partition;
2. write the records back, and wait until the broker has acknowledged them;
3. write a second mark that says that they arrived.

A later replay skips records that arrived, whatever its filters are; the committed offset of a consumer group
could only say "all up to here". After a crash between the marks, the next replay searches the partition from
that end on for the header that each replayed record has, and writes marks for those that arrived or were
lost. Marks have the retention of the letters, keep their order, and need no other store.

One replay runs at a time: a second one finds the mark of the first and refuses.
"""

import collections
import dataclasses
import itertools
from collections.abc import Sequence

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.operations.dead_letters import letters
from services.operations.dead_letters.letters import LetterFilter, LetterSource, ReplayProgress
from services.operations.dead_letters.topic_reader import LETTERS, LettersError, offset_at, read, reader
from services.runtime.settings import Settings
from services.runtime.times import now_ms
from streams import codec, records
from streams.producer import BatchProducer, RecordTooLargeError
from streams.producer_connection import BATCH_BYTES_MAX, REQUEST_TIMEOUT_MS

SETTLE_MS = 2 * REQUEST_TIMEOUT_MS
"""Time after which the outcome of an interrupted replay is final: until then, a request may still be in the
broker's queue."""


@dataclasses.dataclass
class ReplayResult:
    """What was done with the letters that the filter selects."""

    replayed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Number of replayed records by topic/partition."""
    left: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Number of records that were not replayed, by reason."""


async def replay(
    settings: Settings,
    chosen: LetterFilter,
    *,
    records_max: int | None = None,
    again: bool = False,
    dry: bool,
) -> ReplayResult:
    """Write back every selected letter that has not been replayed, oldest first.

    Args:
        settings: The broker.
        chosen: Which letters.
        records_max: The maximum number of records to write back.
        again: Include records that were replayed `letters.REPLAYS_MAX` times or more.
        dry: Only count.

    Raises:
        LettersError: Another replay is running, or the broker does not respond.
        KafkaError: The broker cannot be reached or refuses.
    """
    # A record may have come compressed, and fit into its topic only so.
    producer = BatchProducer(settings.kafka_options(), compression="gzip")
    async with reader(settings) as consumer:
        await producer.start()
        try:
            run = _Replay(consumer, producer, records_max, again=again, dry=dry)
            await run.learn()
            await run.write(chosen)
        finally:
            await producer.stop()
    return run.result


class _Replay:
    """One run."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        producer: BatchProducer,
        records_max: int | None,
        *,
        again: bool,
        dry: bool,
    ) -> None:
        self.result = ReplayResult()
        self._consumer = consumer
        self._producer = producer
        self._left = records_max
        self._again = again
        self._dry = dry
        self._progress = ReplayProgress()
        self._partitions: dict[str, int] = {}
        """Number of partitions of each topic that was checked; 0 if it does not exist."""

    async def learn(self) -> None:
        """Read what has been replayed, and settle the replays that a crash has left open."""
        async for piece in read(self._consumer, LETTERS):
            for record in piece:
                if record.value is None:
                    self._progress.take(record.headers)
        doubtful = self._progress.doubtful.values()
        if not doubtful:
            return
        wait_ms = max(mark.begun_ms for mark in doubtful) + SETTLE_MS - now_ms()
        if wait_ms > 0:
            raise LettersError(
                f"another replay is running or has just crashed: try again in {wait_ms // 1000 + 1} s"
            )
        starts: dict[TopicPartition, int] = {}
        for mark in doubtful:
            place = TopicPartition(mark.topic, mark.partition)
            starts[place] = min(mark.end_offset, starts.get(place, mark.end_offset))
        found: set[LetterSource] = set()
        for place, start in starts.items():
            found |= await self._search(place, start)
        for mark in self._progress.settled(found):
            await self._mark(mark)

    async def _search(self, place: TopicPartition, start: int) -> set[LetterSource]:
        """Return the sources of the replayed records in a partition, from an offset on."""
        if not await self._exists(place):
            return set()
        found = set[LetterSource]()
        async for piece in read(self._consumer, place, start):
            found.update(source for r in piece if (source := letters.replayed_from(r.headers)) is not None)
        return found

    async def write(self, chosen: LetterFilter) -> None:
        """Write back the records that the filter selects, piece by piece."""
        start = 0 if chosen.since_ms is None else await offset_at(self._consumer, LETTERS, chosen.since_ms)
        async for piece in read(self._consumer, LETTERS, start):
            batches: dict[TopicPartition, dict[int, records.DeadLetter]] = collections.defaultdict(dict)
            for record in piece:
                letter = None if record.value is None else letters.decoded(record)
                if letter is None:
                    continue
                place = TopicPartition(letter.topic, letter.partition)
                if chosen.admits(letter) and await self._wants(letter, place, batches[place]):
                    batches[place][letter.offset] = letter
            for place, batch in batches.items():
                await self._send(place, list(batch.values()))
            if self._left == 0:
                return

    async def _wants(
        self, letter: records.DeadLetter, place: TopicPartition, taken: dict[int, records.DeadLetter]
    ) -> bool:
        """Decide whether to replay one letter; count the reason if not."""
        if self._left == 0:
            return False
        if self._progress.has(letters.source_of(letter)) or letter.offset in taken:
            self.result.left["replayed already"] += 1
        elif letter.cut_from_bytes is not None:
            source = letters.place(letters.source_of(letter))
            named = len(self.result.left) < letters.REASONS_MAX
            where = (
                f"the complete record is {source}" if named else "'list' says where the complete record is"
            )
            self.result.left[f"cut, as it was too large for a letter: {where}"] += 1
        elif not self._again and letters.replays_of(letter.headers) >= letters.REPLAYS_MAX:
            self.result.left[f"came back {letters.REPLAYS_MAX} times (--again includes them)"] += 1
        elif not await self._exists(place):
            self.result.left["the topic or its partition does not exist"] += 1
        else:
            self._left = None if self._left is None else self._left - 1
            return True
        return False

    async def _exists(self, place: TopicPartition) -> bool:
        if place.topic not in self._partitions:
            there = place.topic in await self._consumer.topics()  # asking for its partitions might create it
            self._partitions[place.topic] = await self._producer.partitions(place.topic) if there else 0
        return int(place.partition) < self._partitions[place.topic]

    async def _send(self, place: TopicPartition, batch: Sequence[records.DeadLetter]) -> None:
        """Write the first mark, the records, and the second mark."""
        if not batch:
            return
        mark = records.ReplayMark(
            state="begun",
            topic=place.topic,
            partition=place.partition,
            offsets=[letter.offset for letter in batch],
            begun_ms=now_ms(),
            end_offset=(await self._consumer.end_offsets([place]))[place],
        )
        await self._mark(mark)
        refused = set[int]() if self._dry else await self._write(place, batch)
        if arrived := [letter.offset for letter in batch if letter.offset not in refused]:
            await self._mark(msgspec.structs.replace(mark, state="arrived", offsets=arrived))
            self.result.replayed[f"{place.topic}/{place.partition}"] += len(arrived)
        if refused:
            await self._mark(msgspec.structs.replace(mark, state="lost", offsets=sorted(refused)))
            self.result.left[f"larger than {place.topic} takes: raise its max.message.bytes"] += len(refused)

    async def _write(self, place: TopicPartition, batch: Sequence[records.DeadLetter]) -> set[int]:
        """Write the records back; return the offsets of those that their topic does not take."""
        refused = set[int]()
        for _, group in itertools.groupby(batch, key=_position_if_large):
            part = list(group)
            try:
                await self._producer.send(
                    place.topic, place.partition, [letters.record_of(letter) for letter in part]
                )
            except RecordTooLargeError:
                if len(part) > 1:
                    raise  # which of them are written is not known: the next replay looks for them
                refused.add(part[0].offset)
        return refused

    async def _mark(self, mark: records.ReplayMark) -> None:
        self._progress.add(mark)
        if not self._dry:
            header = (codec.REPLAY_MARK_HEADER, records.encode(mark))
            await self._producer.send(
                LETTERS.topic, LETTERS.partition, [(mark.topic.encode(), None, [header])]
            )


def _position_if_large(letter: records.DeadLetter) -> int | None:
    """Return None for records that share a batch, and the offset of a large one, which is a batch alone."""
    return letter.offset if len(letter.value or b"") + len(letter.key or b"") > BATCH_BYTES_MAX // 2 else None

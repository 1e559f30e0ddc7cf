"""The two stages: source topics to the partitions of the views' entities, and from there to the rows.

A view whose join keys are the message key is written where its source is read; for the others the
source stage forwards each event to an internal topic (`streams.topics.REPARTITION`).

Delivery, of both stages: a slice is acknowledged when everything that it caused has been acknowledged
by its sink, in this order: dead letters, late events and forwarded events (or the feature log, then rows);
then each view's progress, with its watermark. After a crash:

1. Records below a view's stored progress are passed over: all their effects stand.
2. Others are handled again. Forwarded ones carry their source offset, and a row's sidecar, written in
   the same command as the row, holds the last source offset applied to that entity: nothing counts twice.
3. Dead letters, late events and the feature log may repeat.

So the online store is the same, to the byte, as without the crash. A worker that was away meanwhile
changes nothing either: see `services.features.row_store`.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol, cast

import msgspec
from aiokafka import ConsumerRecord

from services.features.catch_up import OpenReader, Outlet, Place, Stage
from services.features.decoder import SERVICE, Intake, SourceReader, source_header, source_of
from services.features.generations import Generations
from services.features.row_store import FeatureStore, LostError, Progress, RefusedError, Rise, Standing
from services.features.view_state import Event
from services.features.view_writer import ViewWriter
from services.runtime import metrics
from services.runtime.watermarks import NEVER
from streams import codec, records, topics
from streams.producer import BatchProducer, Record

GENERATION_HEADER = "driftline-generation"
"""Header of a forwarded record: the generation of the view for which it was forwarded."""


class SourceStage(Stage):
    """Reads one source topic: writes the views that are keyed as it is, forwards for the others."""

    prefix = "source"

    def __init__(
        self,
        reader: SourceReader,
        writers: Sequence[ViewWriter],
        store: FeatureStore,
        producer: BatchProducer,
        generations: Generations,
        open_reader: OpenReader,
    ) -> None:
        """Take all views of this source."""
        outlets: list[_Outlet] = [
            _Route(writer, producer) if writer.logic.view.is_repartitioned else _Direct(writer, reader)
            for writer in writers
        ]
        super().__init__(reader.source.topic, outlets, store, generations, open_reader)
        self._reader = reader
        self._producer = producer

    async def advance(
        self,
        partition: int,
        records: Sequence[ConsumerRecord],
        next_offset: int,
        places: Sequence[Place],
        *,
        letters: bool,
    ) -> list[Rise]:
        """Decode, set late events aside, write or forward."""
        views = [(cast("_Outlet", place.outlet), place.standing) for place in places]
        before_ms = views[0][1].progress.watermarks_ms.get(partition, NEVER) if views else NEVER
        await self._reader.learn(records)
        intake = self._reader.read(records, before_ms)
        _count_invalid(places, intake)
        if letters:
            await _send_letters(self._producer, intake.letters)
        await self._send_late(partition, [at.view for _, at in views], intake.late)
        await asyncio.gather(*(outlet.put(partition, at, intake, before_ms) for outlet, at in views))
        after = Progress(next_offset, {partition: intake.watermark_ms})
        return [Rise(at, after, partition, outlet.publishes(intake.watermark_ms)) for outlet, at in views]

    async def _send_late(self, partition: int, views: Sequence[str], late: Sequence[ConsumerRecord]) -> None:
        if not late:
            return
        batch: list[Record] = [(r.key, r.value, [source_header(r.partition, r.offset)]) for r in late]
        for view in views:
            metrics.FEATURE_EVENTS.labels(view, "late").inc(len(late))
            to_partition = partition % await self._producer.partitions(topics.late(view))
            await self._producer.send(topics.late(view), to_partition, batch)


class _Outlet(Outlet, Protocol):
    """What a source stage makes of one view's events."""

    async def put(self, partition: int, at: Standing, intake: Intake, before_ms: int) -> None:
        """Hand the events on; ``before_ms`` was the watermark before them."""

    def publishes(self, watermark_ms: int) -> int | None:
        """Return the watermark to publish with the progress, None for none."""


class _Direct:
    """Writes a view whose entity is the message key."""

    def __init__(self, writer: ViewWriter, reader: SourceReader) -> None:
        self.view = writer.logic.view.name
        self._writer = writer
        self._lateness_ms = reader.source.lateness_ms

    def forget(self, partition: int) -> None:
        self._writer.forget(partition)

    async def put(self, partition: int, at: Standing, intake: Intake, before_ms: int) -> None:
        del before_ms
        await self._writer.write(partition, at, [event for _, event in intake.events])

    def publishes(self, watermark_ms: int) -> int | None:
        return _public_watermark(self.view, watermark_ms, self._lateness_ms)


class _Route:
    """The way of a view's events to the partitions of its own entity."""

    def __init__(self, writer: ViewWriter, producer: BatchProducer) -> None:
        self.view = writer.logic.view.name
        self._topic = topics.repartition(self.view)
        self._logic = writer.logic
        self._producer = producer

    def forget(self, partition: int) -> None:
        """Do nothing: a route remembers nothing."""

    def publishes(self, watermark_ms: int) -> None:
        """Publish nothing: the rows are not written yet."""

    async def put(self, partition: int, at: Standing, intake: Intake, before_ms: int) -> None:
        """Send each event to its entity's partition, and the new watermark, once, to every one of them."""
        generation = (GENERATION_HEADER, b"%d" % at.generation)
        batches = self._divide(intake.events, await self._producer.partitions(self._topic), generation)
        if intake.watermark_ms > before_ms:
            headers = [*codec.heartbeat(intake.watermark_ms), source_header(partition, -1), generation]
            for batch in batches:
                batch.append((None, None, headers))
        sends: list[Awaitable[None]] = [
            self._producer.send(self._topic, number, batch) for number, batch in enumerate(batches) if batch
        ]
        await asyncio.gather(*sends)

    def _divide(
        self,
        events: Sequence[tuple[ConsumerRecord, Event]],
        partitions: int,
        generation: tuple[str, bytes],
    ) -> list[list[Record]]:
        """Divide events by entity: CRC-32 of the key, the same in every process and version."""
        batches: list[list[Record]] = [[] for _ in range(partitions)]
        for record, event in events:
            entity = self._logic.entity(event.value)
            if entity is None:
                metrics.FEATURE_EVENTS.labels(self._logic.view.name, "no_entity").inc()
                continue
            key = msgspec.json.encode(entity)
            headers = [source_header(event.source_partition, event.source_offset), generation]
            batches[zlib.crc32(key) % partitions].append((key, record.value, headers))
        return batches


class ViewStage(Stage):
    """Reads one view's internal topic and writes its rows."""

    prefix = "view"

    def __init__(
        self,
        reader: SourceReader,
        writer: ViewWriter,
        store: FeatureStore,
        producer: BatchProducer,
        generations: Generations,
        open_reader: OpenReader,
    ) -> None:
        """Take one view that is not keyed as its source is."""
        topic = topics.repartition(writer.logic.view.name)
        super().__init__(topic, [writer], store, generations, open_reader)
        self._reader = reader
        self._writer = writer
        self._producer = producer
        self._foreign: set[bytes | None] = set()

    async def advance(
        self,
        partition: int,
        records: Sequence[ConsumerRecord],
        next_offset: int,
        places: Sequence[Place],
        *,
        letters: bool,
    ) -> list[Rise]:
        """Decode, write. What was forwarded for another generation counts as nothing."""
        if not places:  # all that is in the topic was valid when it was forwarded
            return []
        (place,) = places
        at = place.standing
        own = await self._own(at, records)
        watermarks_ms = dict(at.progress.watermarks_ms)
        await self._reader.learn(own)
        intake = self._reader.read_forwarded(own, watermarks_ms)
        _count_invalid(places, intake)
        if letters:
            await _send_letters(self._producer, intake.letters)
        await self._writer.write(partition, at, [event for _, event in intake.events])
        published = await self._published(watermarks_ms)
        return [Rise(at, Progress(next_offset, watermarks_ms), partition, published)]

    def tell_removed(self, place: Place, records: int) -> None:
        """Say nothing of what was forwarded for earlier generations; of this one nothing may be missing."""
        if place.standing.progress.stored:
            raise LostError(
                place.outlet.view, f"{records} forwarded records were removed before they were read"
            )

    async def _own(self, at: Standing, records: Sequence[ConsumerRecord]) -> list[ConsumerRecord]:
        """Return the records of this generation; ask whether it is still the right one if others come."""
        ours = b"%d" % at.generation
        numbers = [_generation(record) for record in records]
        foreign = set(numbers) - {ours}
        if foreign - self._foreign:
            await self.generations.check()
            if self.generations.of(at.view).generation != at.generation:
                raise RefusedError(at.view, "a new generation has begun")
            self._foreign = foreign
        # A record without any header of ours stays: it becomes a dead letter.
        return [
            record
            for record, number in zip(records, numbers, strict=True)
            if number == ours or (number is None and source_of(record.headers) is None)
        ]

    async def _published(self, watermarks_ms: Mapping[int, int]) -> int | None:
        """Take the least of all source partitions; there is none before each has been heard of."""
        if len(watermarks_ms) < await self._producer.partitions(self._reader.source.topic):
            return None
        return _public_watermark(
            self._writer.view, min(watermarks_ms.values()), self._reader.source.lateness_ms
        )


def _generation(record: ConsumerRecord) -> bytes | None:
    for name, value in record.headers:
        if name == GENERATION_HEADER:
            number: bytes = value
            return number
    return None


def _count_invalid(places: Sequence[Place], intake: Intake) -> None:
    """Count what a view does not get; a dead letter is sent only the first time that a record is read."""
    if intake.letters:
        for place in places:
            metrics.FEATURE_EVENTS.labels(place.outlet.view, "invalid").inc(len(intake.letters))


def _public_watermark(view: str, watermark_ms: int, lateness_ms: int) -> int | None:
    if watermark_ms == NEVER:
        return None
    complete_ms = watermark_ms - lateness_ms
    metrics.FEATURE_WATERMARK.labels(view).set(complete_ms / 1000)
    return complete_ms


async def _send_letters(producer: BatchProducer, letters: Sequence[records.DeadLetter]) -> None:
    await producer.send_dead_letters(letters)
    for letter in letters:
        metrics.DEAD_LETTERS.labels(SERVICE, letter.topic).inc()

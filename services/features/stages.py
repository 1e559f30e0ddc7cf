"""The two stages: source topics to the partitions of the views' entities, and from there to the rows.

A view whose join keys are the message key is written where its source is read; for the others the
source stage forwards each event to an internal topic (`streams.topics.REPARTITION`).

Delivery, of both stages: a slice is acknowledged when everything that it caused has been acknowledged
by its sink, in this order: dead letters, late events and forwarded events (or rows and the feature
log); then, in one transaction, the views' watermarks and the partition's progress. After a crash:

1. Records below the stored progress are passed over: all their effects stand.
2. Others are handled again. Forwarded ones carry their source offset, and a row's sidecar, written in
   the same command as the row, holds the last source offset applied to that entity: nothing counts twice.
3. Dead letters, late events and the feature log may repeat.

So the online store is the same, to the byte, as without the crash.
"""

import asyncio
import contextlib
import dataclasses
import zlib
from collections.abc import Awaitable, Iterator, Mapping, Sequence

import msgspec
from aiokafka import ConsumerRecord

from services import telemetry
from services.features.intake import SERVICE, Intake, SourceReader, source_header
from services.features.states import Event
from services.features.store import FeatureStore, Progress
from services.features.writing import ViewWriter
from services.watermarks import NEVER
from streams import codec, records, topics
from streams.batches import Slice
from streams.producer import BatchProducer, Record


@dataclasses.dataclass
class _Positions:
    """Progress by partition, in memory as long as slices follow each other without a gap."""

    store: FeatureStore
    topic: str
    writers: Sequence[ViewWriter]
    known: dict[int, Progress] = dataclasses.field(default_factory=dict)

    async def resume(self, slice_: Slice) -> Progress:
        """Return the progress before this slice, from Redis if another worker may have been here since."""
        partition = slice_.partition
        known = self.known.pop(partition, None)
        if known is None or known.next_offset != slice_.records[0].offset:
            for writer in self.writers:
                writer.forget(partition)
            known = await self.store.progress(self.topic, partition)
        return known

    @contextlib.contextmanager
    def guarding(self, partition: int) -> Iterator[None]:
        """Forget a partition if its slice fails, so that the retry starts from what is stored."""
        try:
            yield
        except BaseException:
            self.known.pop(partition, None)
            for writer in self.writers:
                writer.forget(partition)
            raise


class SourceStage:
    """Reads one source topic: writes the views that are keyed as it is, forwards for the others."""

    def __init__(
        self,
        reader: SourceReader,
        writers: Sequence[ViewWriter],
        store: FeatureStore,
        producer: BatchProducer,
    ) -> None:
        """Take all views of this source."""
        self._reader = reader
        self._store = store
        self._producer = producer
        self._all = list(writers)
        self._direct = [writer for writer in writers if not writer.logic.view.is_repartitioned]
        self._routes = [_Route(writer) for writer in writers if writer.logic.view.is_repartitioned]
        self._positions = _Positions(store, reader.source.topic, self._direct)

    async def handle(self, slice_: Slice) -> None:
        """Receive, decode, write or forward, publish, acknowledge."""
        partition = slice_.partition
        with self._positions.guarding(partition):
            progress = await self._positions.resume(slice_)
            before_ms = progress.watermarks_ms.get(partition, NEVER)
            fresh = [record for record in slice_.records if record.offset >= progress.next_offset]
            intake = self._reader.read(fresh, before_ms)
            advanced_ms = intake.watermark_ms if intake.watermark_ms > before_ms else None
            await asyncio.gather(
                _send_letters(self._producer, intake.letters), self._send_late(partition, intake.late)
            )
            await asyncio.gather(*await self._forward(partition, intake, advanced_ms))
            events = [event for _, event in intake.events]
            await asyncio.gather(*(writer.write(partition, events) for writer in self._direct))
            progress = Progress(
                max(progress.next_offset, slice_.next_offset), {partition: intake.watermark_ms}
            )
            await self._store.finish(slice_.topic, partition, progress, self._watermarks(intake.watermark_ms))
            self._positions.known[partition] = progress
        slice_.ack()

    def _watermarks(self, watermark_ms: int) -> dict[str, int]:
        return _public_watermarks(self._direct, watermark_ms, self._reader.source.lateness_ms)

    async def _send_late(self, partition: int, late: Sequence[ConsumerRecord]) -> None:
        if not late:
            return
        batch: list[Record] = [(r.key, r.value, [source_header(r.partition, r.offset)]) for r in late]
        for view in [writer.logic.view.name for writer in self._all]:
            telemetry.FEATURE_EVENTS.labels(view, "late").inc(len(late))
            to_partition = partition % await self._producer.partitions(topics.late(view))
            await self._producer.send(topics.late(view), to_partition, batch)

    async def _forward(
        self, partition: int, intake: Intake, advanced_ms: int | None
    ) -> list[Awaitable[None]]:
        """Send each event to its entity's partition, and the new watermark, once, to every one of them."""
        sends: list[Awaitable[None]] = []
        for route in self._routes:
            batches = route.divide(intake.events, await self._producer.partitions(route.topic))
            if advanced_ms is not None:
                beat: Record = (None, None, [*codec.heartbeat(advanced_ms), source_header(partition, -1)])
                for batch in batches:
                    batch.append(beat)
            sends += [
                self._producer.send(route.topic, number, batch)
                for number, batch in enumerate(batches)
                if batch
            ]
        return sends


class _Route:
    """The way of a view's events to the partitions of its own entity."""

    def __init__(self, writer: ViewWriter) -> None:
        self.topic = topics.repartition(writer.logic.view.name)
        self._logic = writer.logic

    def divide(self, events: Sequence[tuple[ConsumerRecord, Event]], partitions: int) -> list[list[Record]]:
        """Divide events by entity: CRC-32 of the key, the same in every process and version."""
        batches: list[list[Record]] = [[] for _ in range(partitions)]
        for record, event in events:
            entity = self._logic.entity(event.value)
            if entity is None:
                telemetry.FEATURE_EVENTS.labels(self._logic.view.name, "no_entity").inc()
                continue
            key = msgspec.json.encode(entity)
            header = source_header(event.source_partition, event.source_offset)
            batches[zlib.crc32(key) % partitions].append((key, record.value, [header]))
        return batches


class ViewStage:
    """Reads one view's internal topic and writes its rows."""

    def __init__(
        self,
        reader: SourceReader,
        writer: ViewWriter,
        store: FeatureStore,
        producer: BatchProducer,
    ) -> None:
        """Take one view that is not keyed as its source is."""
        self._reader = reader
        self._writer = writer
        self._store = store
        self._producer = producer
        self._positions = _Positions(store, topics.repartition(writer.logic.view.name), [writer])

    async def handle(self, slice_: Slice) -> None:
        """Receive, decode, write, publish, acknowledge."""
        partition = slice_.partition
        with self._positions.guarding(partition):
            progress = await self._positions.resume(slice_)
            fresh = [record for record in slice_.records if record.offset >= progress.next_offset]
            watermarks_ms = dict(progress.watermarks_ms)
            intake = self._reader.read_forwarded(fresh, watermarks_ms)
            await _send_letters(self._producer, intake.letters)
            await self._writer.write(partition, [event for _, event in intake.events])
            progress = Progress(max(progress.next_offset, slice_.next_offset), watermarks_ms)
            await self._store.finish(slice_.topic, partition, progress, await self._watermarks(watermarks_ms))
            self._positions.known[partition] = progress
        slice_.ack()

    async def _watermarks(self, watermarks_ms: Mapping[int, int]) -> dict[str, int]:
        """Take the least of all source partitions; there is none before each has been heard of."""
        if len(watermarks_ms) < await self._producer.partitions(self._reader.source.topic):
            return {}
        return _public_watermarks(
            [self._writer], min(watermarks_ms.values()), self._reader.source.lateness_ms
        )


def _public_watermarks(writers: Sequence[ViewWriter], watermark_ms: int, lateness_ms: int) -> dict[str, int]:
    if watermark_ms == NEVER:
        return {}
    complete_ms = watermark_ms - lateness_ms
    for writer in writers:
        telemetry.FEATURE_WATERMARK.labels(writer.logic.view.name).set(complete_ms / 1000)
    return {writer.logic.view.name: complete_ms for writer in writers}


async def _send_letters(producer: BatchProducer, letters: Sequence[records.DeadLetter]) -> None:
    await producer.send_dead_letters(letters)
    for letter in letters:
        telemetry.DEAD_LETTERS.labels(SERVICE, letter.topic).inc()

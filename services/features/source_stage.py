"""The first stage: reads a source topic, writes views with the same key, forwards events of the others.

A view whose join keys are the message key is written directly. For every other view, each event is forwarded
to the partition of its entity in an internal topic (`streams.topics.repartition`), which the view's
`services.features.view_stage.ViewStage` reads.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol, cast

import msgspec
from aiokafka import ConsumerRecord

from services.features.catch_up import OpenReader
from services.features.decoder import DecodedSlice, SourceDecoder, source_header
from services.features.generations import Generations
from services.features.row_store import RowStore
from services.features.stage import FeatureStage, count_invalid, public_watermark, send_letters, split_defects
from services.features.view_partition import ViewPartition, ViewSink
from services.features.view_progress import ProgressUpdate, ViewPosition, ViewProgress
from services.features.view_state import Event
from services.features.view_writer import ViewWriter
from services.runtime import metrics
from services.runtime.times import now_ms
from services.runtime.watermarks import NEVER
from streams import topics
from streams.producer import BatchProducer, Record

GENERATION_HEADER = "driftline-generation"
"""Header of a forwarded record: the view's generation for which it was forwarded."""


class SourceStage(FeatureStage):
    """Reads one source topic for all its views."""

    prefix = "source"

    def __init__(
        self,
        decoder: SourceDecoder,
        writers: Sequence[ViewWriter],
        store: RowStore,
        producer: BatchProducer,
        generations: Generations,
        open_reader: OpenReader,
    ) -> None:
        """Take the writers of all views of this source."""
        sinks: list[_EventSink] = [
            _Forwarder(writer, producer)
            if writer.logic.view.is_repartitioned
            else _DirectWriter(writer, decoder)
            for writer in writers
        ]
        super().__init__(decoder.source.topic, sinks, store, generations, open_reader)
        self._decoder = decoder
        self._producer = producer

    async def process(
        self,
        partition: int,
        records: Sequence[ConsumerRecord],
        next_offset: int,
        views: Sequence[ViewPartition],
        *,
        send_dead_letters: bool,
        defects: Mapping[int, str],
    ) -> list[ProgressUpdate]:
        """Decode, send late events to their topic, write or forward the others."""
        targets = [(cast("_EventSink", view.sink), view.position) for view in views]
        before_ms = targets[0][1].progress.watermarks_ms.get(partition, NEVER) if targets else NEVER
        sound, letters = split_defects(records, defects, views)
        await self._decoder.learn_schemas(sound)
        decoded = self._decoder.decode(sound, before_ms, now_ms())
        letters += decoded.dead_letters
        count_invalid(views, letters)
        if send_dead_letters:
            await send_letters(self._producer, letters)
        await self._send_late(partition, [sink for sink, _ in targets], decoded.late)
        await asyncio.gather(*(sink.put(partition, position, decoded) for sink, position in targets))
        after = ViewProgress(next_offset, {partition: decoded.watermark_ms})
        return [
            ProgressUpdate(position, after, partition, sink.public_watermark(decoded.watermark_ms))
            for sink, position in targets
        ]

    async def _send_late(
        self, partition: int, sinks: Sequence["_EventSink"], late: Sequence[ConsumerRecord]
    ) -> None:
        for sink in sinks if late else ():
            view = sink.view
            kept = [record for record in late if not self._is_erased(sink, record)]
            metrics.FEATURE_EVENTS.labels(view, "late").inc(len(kept))
            batch: list[Record] = [(r.key, r.value, [source_header(r.partition, r.offset)]) for r in kept]
            to_partition = partition % await self._producer.partitions(topics.late(view))
            await self._producer.send(topics.late(view), to_partition, batch)

    def _is_erased(self, sink: "_EventSink", late: ConsumerRecord) -> bool:
        """Tell whether a late record is of an erased subject: a build would write it to a topic again."""
        if not sink.writer.erased.are_known:
            return False
        event = self._decoder.decode_record(late, late.partition, late.offset)
        return sink.writer.erased.is_erased(sink.writer.logic, event)


class _EventSink(ViewSink, Protocol):
    """Where a source stage sends the events of one view."""

    @property
    def writer(self) -> ViewWriter: ...

    async def put(self, partition: int, position: ViewPosition, decoded: DecodedSlice) -> None:
        """Write or forward events."""

    def public_watermark(self, watermark_ms: int) -> int | None:
        """Return the watermark to publish with the progress, None for none."""


class _DirectWriter:
    """Writes a view whose entity is the message key."""

    def __init__(self, writer: ViewWriter, decoder: SourceDecoder) -> None:
        self.view = writer.view
        self.writer = writer
        self._lateness_ms = decoder.source.lateness_ms

    def forget(self, partition: int) -> None:
        self.writer.forget(partition)

    async def put(self, partition: int, position: ViewPosition, decoded: DecodedSlice) -> None:
        await self.writer.write(partition, position, [event for _, event in decoded.events])

    def public_watermark(self, watermark_ms: int) -> int | None:
        return public_watermark(self.view, watermark_ms, self._lateness_ms)


class _Forwarder:
    """Forwards a view's events to the partitions of its entities."""

    def __init__(self, writer: ViewWriter, producer: BatchProducer) -> None:
        self.view = writer.view
        self.writer = writer
        self._topic = topics.repartition(self.view)
        self._logic = writer.logic
        self._producer = producer

    def forget(self, partition: int) -> None:
        """Do nothing: a forwarder has no state."""

    def public_watermark(self, watermark_ms: int) -> None:
        """Publish nothing: the rows are not written yet. See `services.features.view_heartbeats`."""

    async def put(self, partition: int, position: ViewPosition, decoded: DecodedSlice) -> None:
        """Send each event to its entity's partition."""
        del partition
        generation = (GENERATION_HEADER, b"%d" % position.generation)
        batches = self._divide(decoded.events, await self._producer.partitions(self._topic), generation)
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
        """Divide events by the CRC-32 of their entity's key, the same in every process and version."""
        batches: list[list[Record]] = [[] for _ in range(partitions)]
        for record, event in events:
            entity = self._logic.entity(event.value)
            if entity is None:
                metrics.FEATURE_EVENTS.labels(self._logic.view.name, "no_entity").inc()
                continue
            if self.writer.erased.is_erased(self._logic, event):
                metrics.FEATURE_EVENTS.labels(self._logic.view.name, "erased").inc()
                continue
            key = msgspec.json.encode(entity)
            headers = [source_header(event.source_partition, event.source_offset), generation]
            batches[zlib.crc32(key) % partitions].append((key, record.value, headers))
        return batches

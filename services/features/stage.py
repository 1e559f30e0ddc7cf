"""A stage reads one topic for some views and writes what each view makes of the records.

Each view has its own progress. Usually all views of a topic have reached the slice that is processed, and are
processed with it. A view that is before the slice is built beside it: see `services.features.catch_up`. When
at most `JOIN_RECORDS` records are left, the slice waits, and the view continues with the others.

Delivery, of every stage: a slice is acknowledged after all its effects have been acknowledged by their sinks,
in this order: dead letters, late events and forwarded events (or the feature log, then rows); then each
view's progress, with its watermark. After a crash:

1. Records below a view's stored progress are skipped: all their effects are stored.
2. Other records are processed again. Forwarded records carry their source offset, and a row's sidecar,
   written in the same command as the row, holds the last source offset applied to that entity. So nothing
   counts twice.
3. Dead letters, late events and the feature log may repeat.

A record on which the code fails (`streams.record_isolation`) becomes a dead letter that names the views that
skip it; their progress passes it. Other views of the topic apply it.

So the online store has the same bytes as without the crash. A worker that lost its partitions and writes
later changes nothing either: see `services.features.row_store`.
"""

import abc
import asyncio
import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence

import structlog
from aiokafka import ConsumerRecord

from services.features.catch_up import BuildProgress, CatchUp, OpenReader
from services.features.decoder import SERVICE
from services.features.generations import Generations
from services.features.position_lookup import PositionLookup
from services.features.row_store import RowStore, StateLostError, WriteConflictError
from services.features.view_partition import (
    PartitionViews,
    ViewPartition,
    ViewSink,
    by_progress,
    forget_on_error,
)
from services.features.view_progress import ProgressUpdate
from services.runtime import metrics
from services.runtime.watermarks import NEVER
from streams import codec
from streams import records as wire
from streams.outages import is_outage
from streams.producer import BatchProducer
from streams.slices import Slice

log = structlog.get_logger()

JOIN_RECORDS = 5000
"""A slice waits for a view that lags by at most this many records; it takes a fraction of a second."""
ATTEMPTS_MAX = 5
"""Immediate attempts at a slice whose writes are refused; then the lane backs off."""


class FeatureStage(abc.ABC):
    """Reads one topic for some views."""

    prefix: str
    """First part of the names of its progress fields."""

    def __init__(
        self,
        topic: str,
        sinks: Sequence[ViewSink],
        store: RowStore,
        generations: Generations,
        open_reader: OpenReader,
    ) -> None:
        """Take the sinks of the views and the process's connections."""
        self.topic = topic
        self.generations = generations
        self._store = store
        self._sinks = sinks
        self._lookup = PositionLookup(topic, store, generations)
        self._catch_up = CatchUp(topic, self._lookup, open_reader, self._advance, self.report_removed)
        self._partitions: dict[int, PartitionViews] = {}
        self._releases = 0

    @abc.abstractmethod
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
        """Apply records to views of equal progress (or to none); return the new progress of each.

        When it returns, all sinks have acknowledged. ``send_dead_letters`` is true once per record: for one
        group of views, and not in a build. Records in ``defects`` (`Slice.defects`) become dead letters and
        are skipped.
        """

    def report_removed(self, view: ViewPartition, records: int) -> None:
        """Report records that retention deleted before a build read them.

        Raises:
            StateLostError: The view cannot be built without them.
        """
        view.records_removed = records
        metrics.FEATURE_RECORDS_REMOVED.labels(view.view, str(view.partition)).set(records)
        log.warning(
            "features.records_removed",
            view=view.view,
            topic=self.topic,
            partition=view.partition,
            records=records,
        )

    async def handle(self, slice_: Slice) -> None:
        """Process a slice for all views that have reached its start, then acknowledge it."""
        partition = self._partition(slice_.partition)
        async with partition.lock:
            for attempt in itertools.count(1):
                try:
                    await self._handle(partition, slice_)
                    break
                except (WriteConflictError, StateLostError) as error:
                    if attempt == ATTEMPTS_MAX:
                        raise
                    await self._lookup.recover(partition, error)
        slice_.ack()

    async def _handle(self, partition: PartitionViews, slice_: Slice) -> None:
        live = await self._join(partition, slice_.first_offset)
        partition.raise_reached(slice_.next_offset)
        if not live:
            await self.process(
                partition.number,
                slice_.records,
                slice_.next_offset,
                [],
                send_dead_letters=True,
                defects=slice_.defects,
            )
        groups = list(by_progress(live))
        try:
            await self._advance_groups(partition, slice_, groups)
        except Exception as error:
            if is_outage(error) or len(groups) == len(live):
                raise
            # A view may fail on a record that the others can hold: only that view must skip it.
            live = await self._join(partition, slice_.first_offset)
            await self._advance_groups(partition, slice_, ([view] for view in live))

    async def _advance_groups(
        self, partition: PartitionViews, slice_: Slice, groups: Iterable[Sequence[ViewPartition]]
    ) -> None:
        """Apply a slice to each group of views of equal progress; raise the first defect after the last."""
        defect: Exception | None = None
        for number, views in enumerate(groups):
            try:
                await self._advance(
                    partition,
                    slice_.records,
                    slice_.next_offset,
                    views,
                    send_dead_letters=number == 0,
                    defects=slice_.defects,
                )
            except Exception as error:
                if is_outage(error):
                    raise
                defect = defect or error
        if defect is not None:
            raise defect

    async def _advance(
        self,
        partition: PartitionViews,
        records: Sequence[ConsumerRecord],
        next_offset: int,
        views: Sequence[ViewPartition],
        *,
        send_dead_letters: bool,
        defects: Mapping[int, str],
    ) -> None:
        before = views[0].known_progress
        if next_offset <= before.next_offset:
            return  # already applied
        fresh = [record for record in records if record.offset >= before.next_offset]
        with forget_on_error(views):
            updates = await self.process(
                partition.number,
                fresh,
                next_offset,
                views,
                send_dead_letters=send_dead_letters,
                defects=defects,
            )
            for view, progress in zip(views, await self._store.update_progress(updates), strict=True):
                view.progress = progress

    async def _join(self, partition: PartitionViews, start: int) -> list[ViewPartition]:
        """Return the views to process with a slice; start builds of the views that lag."""
        partition.raise_reached(start)
        live = []
        for view in partition.views:
            while True:
                if view.caught_up is None and await self._has_reached(partition, view, start):
                    live.append(view)
                    break
                if view.records_behind(start) > JOIN_RECORDS:
                    break
                assert view.caught_up is not None
                await view.caught_up.wait()
        return live

    async def _has_reached(self, partition: PartitionViews, view: ViewPartition, offset: int) -> bool:
        """Tell whether a view has reached an offset; start its build if it has not.

        Raises:
            WriteConflictError: Another worker builds the view, because the partition was released.
        """
        await self._lookup.locate(view, offset)
        if view.known_progress.next_offset >= offset:
            return True
        if self._partitions.get(partition.number) is not partition:
            raise WriteConflictError(view.view, f"partition {partition.number} was released")
        self._catch_up.start(partition, view)
        return False

    async def start_builds(self, committed: Mapping[int, int]) -> None:
        """Start the builds that are due, also in partitions without new records.

        It ends if partitions are released: they may no longer be assigned.

        Args:
            committed: The committed offset of each partition assigned to this process.
        """
        releases = self._releases
        for number, offset in committed.items():
            if self._releases != releases:
                return
            partition = self._partition(number)
            if partition.lock.locked():
                continue  # the slice that is processed starts builds itself
            async with partition.lock:
                partition.raise_reached(offset)
                await self._lookup.forget_changed(partition)
                with contextlib.suppress(WriteConflictError):
                    for view in partition.views:
                        if view.caught_up is None:
                            await self._has_reached(partition, view, partition.reached)

    async def release(self) -> None:
        """Stop all builds and forget all partitions: they are revoked, or the process stops."""
        self._releases += 1
        builds = [partition.build for partition in self._partitions.values() if partition.build]
        for partition in self._partitions.values():
            for view in partition.views:
                view.forget()
        self._partitions.clear()
        for build in builds:
            build.cancel()
        await asyncio.gather(*builds, return_exceptions=True)

    def builds(self) -> dict[str, BuildProgress]:
        """Return the progress of each view that is being built."""
        found: dict[str, BuildProgress] = {}
        for partition in self._partitions.values():
            for view in partition.views:
                if view.caught_up is not None:
                    left = view.records_behind(partition.reached)
                    progress = BuildProgress(left, max(view.records_missing, left), view.records_removed)
                    name = view.view
                    found[name] = found[name].plus(progress) if name in found else progress
        return found

    def _partition(self, number: int) -> PartitionViews:
        partition = self._partitions.get(number)
        if partition is None:
            views = [ViewPartition(sink, f"{self.prefix}-{number}", number) for sink in self._sinks]
            partition = self._partitions[number] = PartitionViews(number, views)
        return partition


def split_defects(
    records: Sequence[ConsumerRecord], defects: Mapping[int, str], views: Sequence[ViewPartition]
) -> tuple[Sequence[ConsumerRecord], list[wire.DeadLetter]]:
    """Return the records to decode, and the dead letters of the others, with the views that skip them."""
    skipped_by = f" (skipped by {', '.join(view.view for view in views)})" if views else ""
    return codec.split_defects(
        SERVICE, records, {offset: reason + skipped_by for offset, reason in defects.items()}
    )


def count_invalid(views: Sequence[ViewPartition], dead_letters: Sequence[wire.DeadLetter]) -> None:
    """Count failed records for each view, also in a build, where no dead letter is sent again."""
    for letter in dead_letters:
        for view in views:
            metrics.FEATURE_EVENTS.labels(view.view, letter.kind).inc()


async def send_letters(producer: BatchProducer, dead_letters: Sequence[wire.DeadLetter]) -> None:
    """Send dead letters and count them."""
    await producer.send_dead_letters(dead_letters)
    for letter in dead_letters:
        metrics.DEAD_LETTERS.labels(SERVICE, letter.topic, letter.kind).inc()


def public_watermark(view: str, watermark_ms: int, lateness_ms: int) -> int | None:
    """Return the event time up to which a view is complete; None if nothing is known."""
    if watermark_ms == NEVER:
        return None
    complete_ms = watermark_ms - lateness_ms
    metrics.FEATURE_WATERMARK.labels(view).set(complete_ms / 1000)
    return complete_ms

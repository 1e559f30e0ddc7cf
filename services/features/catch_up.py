"""Builds: a view that lags reads its records again while slices continue for the other views.

A view lags if it is new or replayed, has another definition, or the store lost it. A task then reads its
records from the earliest offset that retention has kept up to the offset that slices have reached. So no
record is skipped and none counts twice, whichever view is ahead.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import OffsetOutOfRangeError

from services.features.defect_search import DefectSearch
from services.features.position_lookup import PositionLookup
from services.features.row_store import StateLostError, WriteConflictError
from services.features.view_partition import PartitionViews, ViewPartition, by_progress
from streams.outages import is_outage

log = structlog.get_logger()

RETRY_SECONDS = 1.0
"""Pause before a failed build is retried."""


class RangeReader(Protocol):
    """See `services.features.partition_reader.PartitionReader`."""

    async def earliest(self) -> int: ...
    async def read(self, start: int, limit: int) -> tuple[Sequence[ConsumerRecord], int]: ...


OpenReader = Callable[[str, int], contextlib.AbstractAsyncContextManager[RangeReader]]
"""Opens a topic's partition to read it again."""


class Advance(Protocol):
    """Applies records to views of equal progress and stores the new progress; see `FeatureStage`."""

    async def __call__(
        self,
        partition: PartitionViews,
        records: Sequence[ConsumerRecord],
        next_offset: int,
        views: Sequence[ViewPartition],
        /,
        *,
        send_dead_letters: bool,
        defects: Mapping[int, str],
    ) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class BuildProgress:
    """The progress of a view's builds, summed over the partitions of this process."""

    records_left: int
    records_missing: int
    """Records to read when the builds began, and those that have arrived since."""
    records_removed: int
    """Records that retention had deleted."""

    def plus(self, other: "BuildProgress") -> "BuildProgress":
        """Add the progress of other partitions."""
        return BuildProgress(
            self.records_left + other.records_left,
            self.records_missing + other.records_missing,
            self.records_removed + other.records_removed,
        )

    def __str__(self) -> str:
        done = 1 - self.records_left / self.records_missing if self.records_missing else 1.0
        left = f"{self.records_left} of {self.records_missing} records left ({done:.0%} done)"
        return f"{left}; retention deleted {self.records_removed} records" if self.records_removed else left


class CatchUp:
    """Builds the lagging views of one topic, in one task per partition."""

    def __init__(
        self,
        topic: str,
        lookup: PositionLookup,
        open_reader: OpenReader,
        advance: Advance,
        report_removed: Callable[[ViewPartition, int], None],
    ) -> None:
        """Take the stage's operations.

        Args:
            topic: The topic to read.
            lookup: Reads positions.
            open_reader: Opens a partition.
            advance: Applies records.
            report_removed: Reports the number of records that retention deleted before a view read them.
        """
        self._topic = topic
        self._lookup = lookup
        self._open_reader = open_reader
        self._advance = advance
        self._report_removed = report_removed

    def start(self, partition: PartitionViews, view: ViewPartition) -> None:
        """Build a view up to the offset that slices have reached, together with other lagging views."""
        view.begin_build(partition.reached)
        if partition.build is None or partition.build.done():
            name = f"build {self._topic}/{partition.number}"
            partition.build = asyncio.create_task(self._build(partition), name=name)

    async def _build(self, partition: PartitionViews) -> None:
        """Build all lagging views; retry after any error."""
        search = DefectSearch()
        while any(view.caught_up for view in partition.views):
            try:
                async with self._open_reader(self._topic, partition.number) as reader:
                    earliest = await reader.earliest()
                    while await self._build_step(partition, reader, earliest, search):
                        pass
            except OffsetOutOfRangeError:
                continue  # retention has deleted more records since
            except (WriteConflictError, StateLostError) as error:
                await self._attempt(partition, self._lookup.recover(partition, error))
            except Exception as error:  # noqa: BLE001  # a build must not end before its views have caught up
                await self._pause(partition, error)

    async def _attempt(self, partition: PartitionViews, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  # a build must not end before its views have caught up
            await self._pause(partition, error)

    async def _pause(self, partition: PartitionViews, error: Exception) -> None:
        log.warning(
            "features.build_retried", topic=self._topic, partition=partition.number, error=repr(error)
        )
        await asyncio.sleep(RETRY_SECONDS)

    async def _build_step(
        self, partition: PartitionViews, reader: RangeReader, earliest: int, search: DefectSearch
    ) -> bool:
        """Apply one batch to the views with the lowest offset; tell whether any view still lags."""
        lagging = await self._lagging(partition, earliest)
        if not lagging:
            return False
        last = next(by_progress(lagging))
        start = last[0].known_progress.next_offset
        others = [view.known_progress.next_offset for view in lagging]
        limit = min([partition.reached, *(offset for offset in others if offset > start)])
        records, next_offset = search.bounded(*await reader.read(start, limit))
        defects = search.defects(records)
        try:
            await self._advance(
                partition,
                records,
                next_offset,
                last[:1] if search.is_active else last,
                send_dead_letters=bool(defects),  # invalid records were sent before
                defects=defects,
            )
        except Exception as error:
            if is_outage(error) or not search.note_failure(len(records), error):
                raise
        else:
            search.note_success()
        return True

    async def _lagging(self, partition: PartitionViews, earliest: int) -> list[ViewPartition]:
        """Return the views that still lag; end the builds of the others."""
        lagging = []
        for view in partition.views:
            if view.caught_up is not None:
                await self._lookup.locate(view, partition.reached)
                self._skip_removed(view, min(earliest, partition.reached))
                if view.known_progress.next_offset < partition.reached:
                    lagging.append(view)
                else:
                    view.end_build()
        return lagging

    def _skip_removed(self, view: ViewPartition, earliest: int) -> None:
        missing = earliest - view.known_progress.next_offset
        if missing > 0:
            self._report_removed(view, missing)
            view.skip_to(earliest)

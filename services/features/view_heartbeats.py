"""Heartbeats for the internal topics of views, whose events come from all partitions of a source.

A view's partition is complete up to the lowest watermark of the source partitions, as soon as all that they
have forwarded up to there is before it in the partition's log. Each source partition stores its watermark
with its progress, after what it has forwarded is acknowledged. So the lowest stored watermark is written into
every partition of the view: one heartbeat for all source partitions. Their number grows with the partitions
of the view alone, and not with those of the source, their slices or the processes.

The processes of one group take turns: for each view, one of them writes in each interval. If it ends before
it has written, another one writes in the next interval.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from services.features.decoder import ALL_SOURCES
from services.features.heartbeat_store import ForwardedProgress, HeartbeatStore
from services.features.source_stage import GENERATION_HEADER
from services.runtime.supervised_task import SupervisedTask
from services.runtime.watermarks import NEVER
from streams import codec, topics
from streams.producer import BatchProducer

INTERVAL_SECONDS_MIN = 0.05
"""Shortest time between two heartbeats of one partition: what they add to the age of a complete feature."""
HEARTBEATS_PER_SECOND_MAX = 2000
"""Maximum heartbeats of one view over all its partitions; with more partitions, the interval is longer."""


def interval_ms(partitions: int) -> int:
    """Return the time between two heartbeats of a view with this number of partitions.

    >>> interval_ms(4), interval_ms(1000)
    (50, 500)
    """
    return round(1000 * max(INTERVAL_SECONDS_MIN, partitions / HEARTBEATS_PER_SECOND_MAX))


def heartbeat_due(found: ForwardedProgress) -> int | None:
    """Return the watermark to write; None while a source partition has none, or if it is written already."""
    known_ms = [NEVER if mark is None else mark for mark in found.watermarks_ms]
    reached_ms = min(known_ms, default=NEVER)
    written_ms = NEVER if found.written_ms is None else found.written_ms
    return reached_ms if reached_ms > written_ms else None


class ViewHeartbeats:
    """Writes the heartbeats of the views that read an internal topic."""

    def __init__(self, sources: Mapping[str, str], store: HeartbeatStore, producer: BatchProducer) -> None:
        """Take the source topic of each such view, a store to own, and the process's producer."""
        self._sources = sources
        self._store = store
        self._producer = producer
        self._task = SupervisedTask("view heartbeats", self._write_forever)

    @property
    def failure(self) -> str | None:
        """Why no heartbeats are written now: watermarks stop there; None while they are."""
        return self._task.failure

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write until the block ends."""
        try:
            async with self._task.running() if self._sources else contextlib.nullcontext():
                yield
        finally:
            await self._store.close()

    async def _write_forever(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS_MIN)
            await self.write_in_turn()

    async def write_in_turn(self) -> None:
        """Write what is due of the views whose turn is this process's; see the module."""
        intervals_ms = {
            view: interval_ms(await self._producer.partitions(topics.repartition(view)))
            for view in self._sources
        }
        for view in await self._store.claim(intervals_ms):
            await self.write(view)

    async def write(self, view: str) -> bool:
        """Write a view's heartbeats if its watermark has risen; return whether it has."""
        found = await self._store.forwarded(view, await self._producer.partitions(self._sources[view]))
        watermark_ms = heartbeat_due(found)
        if watermark_ms is None:
            return False
        topic = topics.repartition(view)
        generation = (GENERATION_HEADER, b"%d" % found.generation)
        headers = [*codec.heartbeat(watermark_ms), ALL_SOURCES, generation]
        partitions = await self._producer.partitions(topic)
        await asyncio.gather(
            *(self._producer.send(topic, number, [(None, None, headers)]) for number in range(partitions))
        )
        await self._store.note(view, found.generation, watermark_ms)
        return True

"""Where each view stands in each partition, and how one that is behind catches up beside the others.

A view's progress is its own. Mostly all views of a topic stand where the slice in work begins, and are
handled with it. One that stands before it (new, defined otherwise, lost by the store, to be replayed)
is *built*: a task reads the records between again, from the earliest that the broker has, while the
slices go on for the other views. When less than `JOIN_RECORDS` are left, the slice waits, and the view
is with the others again. So nothing is skipped and nothing counts twice, whoever is ahead.
"""

import abc
import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import OffsetOutOfRangeError

from services.features.generations import NOW, Generations
from services.features.row_store import FeatureStore, LostError, Progress, RefusedError, Rise, Standing
from services.runtime import metrics
from streams.batches import Slice

log = structlog.get_logger()

JOIN_RECORDS = 5000
"""A view that is no further behind is waited for: a fraction of a second."""
ATTEMPTS_MAX = 5
"""Of a slice that is refused, at once; then the lane backs off."""
RETRY_SECONDS = 1.0


class Outlet(Protocol):
    """What a stage makes of one view's events."""

    @property
    def view(self) -> str: ...

    def forget(self, partition: int) -> None:
        """Drop what is remembered of a partition."""


class Reader(Protocol):
    """See `services.features.partition_reader.PartitionReader`."""

    async def earliest(self) -> int: ...
    async def read(self, start: int, limit: int) -> tuple[Sequence[ConsumerRecord], int]: ...


OpenReader = Callable[[str, int], contextlib.AbstractAsyncContextManager[Reader]]
"""Opens a topic's partition for reading again."""


@dataclasses.dataclass(eq=False, slots=True)
class Place:
    """One view in one partition of the topic that a stage reads."""

    outlet: Outlet
    name: str
    partition: int
    generation: int = 0
    progress: Progress | None = None
    """None where another worker may have been since."""
    caught_up: asyncio.Event | None = None
    """While it is built."""
    left_at: int = 0
    """Where it stood when it was forgotten."""
    records_missing: int = 0
    """When its build began."""
    records_removed: int = 0
    """Which the broker had removed before they could be read."""

    @property
    def standing(self) -> Standing:
        """Where the view stands; only where that is known."""
        assert self.progress is not None, "locate it first"
        return Standing(self.outlet.view, self.generation, self.name, self.progress)

    def forget(self) -> None:
        """Start again from what is stored."""
        if self.progress is not None:
            self.left_at = self.progress.next_offset
        self.progress = None
        self.outlet.forget(self.partition)


@dataclasses.dataclass(eq=False, slots=True)
class _Partition:
    """All views in one partition."""

    number: int
    places: list[Place]
    reached: int = 0
    """Where the slices stand; builds go no further."""
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Held by the slice in work."""
    build: asyncio.Task[None] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Building:
    """A view that is behind, over all partitions of this process."""

    records_left: int
    records_missing: int
    """When the builds began, with what came since."""
    records_removed: int
    """Which the broker had no longer."""

    def plus(self, other: "Building") -> "Building":
        """Add other partitions."""
        return Building(
            self.records_left + other.records_left,
            self.records_missing + other.records_missing,
            self.records_removed + other.records_removed,
        )

    def __str__(self) -> str:
        done = 1 - self.records_left / self.records_missing if self.records_missing else 1.0
        told = f"{self.records_left} of {self.records_missing} records to go ({done:.0%} done)"
        return f"{told}, {self.records_removed} were removed" if self.records_removed else told


class Stage(abc.ABC):
    """Reads one topic for some views."""

    prefix: str
    """Of the names of its places."""

    def __init__(
        self,
        topic: str,
        outlets: Sequence[Outlet],
        store: FeatureStore,
        generations: Generations,
        open_reader: OpenReader,
    ) -> None:
        """Take the views and the process's connections."""
        self.topic = topic
        self.store = store
        self.generations = generations
        self._outlets = outlets
        self._open_reader = open_reader
        self._partitions: dict[int, _Partition] = {}

    @abc.abstractmethod
    async def advance(
        self,
        partition: int,
        records: Sequence[ConsumerRecord],
        next_offset: int,
        places: Sequence[Place],
        *,
        letters: bool,
    ) -> list[Rise]:
        """Bring views of equal progress, or none, forward by records; return the new progress.

        When it returns, all sinks have acknowledged. Dead letters are sent if ``letters``: once for
        all views, and not again when one is built anew.
        """

    def tell_removed(self, place: Place, records: int) -> None:
        """Note that the broker has no longer what a build needs; `LostError` if that must not be."""
        place.records_removed = records
        metrics.FEATURE_RECORDS_REMOVED.labels(place.outlet.view, str(place.partition)).set(records)
        log.warning(
            "features.records_removed",
            view=place.outlet.view,
            topic=self.topic,
            partition=place.partition,
            records=records,
        )

    async def handle(self, slice_: Slice) -> None:
        """Handle a slice with all views that stand at its beginning, then acknowledge it."""
        partition = self._partition(slice_.partition)
        async with partition.lock:
            for attempt in itertools.count(1):
                try:
                    await self._handle(partition, slice_)
                    break
                except (RefusedError, LostError) as error:
                    if attempt == ATTEMPTS_MAX:
                        raise
                    await self._recover(partition, error)
        slice_.ack()

    async def _handle(self, partition: _Partition, slice_: Slice) -> None:
        live = await self._join(partition, slice_.first_offset)
        partition.reached = max(partition.reached, slice_.next_offset)
        if not live:
            await self.advance(partition.number, slice_.records, slice_.next_offset, [], letters=True)
        for number, places in enumerate(_by_progress(live)):
            await self._advance(partition, slice_.records, slice_.next_offset, places, letters=number == 0)

    async def _advance(
        self,
        partition: _Partition,
        records: Sequence[ConsumerRecord],
        next_offset: int,
        places: Sequence[Place],
        *,
        letters: bool,
    ) -> None:
        before = _progress(places[0])
        if next_offset <= before.next_offset:
            return  # all of it stands already
        fresh = [record for record in records if record.offset >= before.next_offset]
        with _forgetting(places):
            rises = await self.advance(partition.number, fresh, next_offset, places, letters=letters)
            for place, progress in zip(places, await self.store.rise(rises), strict=True):
                place.progress = progress

    async def _join(self, partition: _Partition, first_offset: int) -> list[Place]:
        """Return the views to handle with a slice; those that are far behind are built beside it."""
        partition.reached = max(partition.reached, first_offset)
        live = []
        for place in partition.places:
            while True:
                if place.caught_up is None:
                    await self._locate(place, first_offset)
                    if _progress(place).next_offset >= first_offset:
                        live.append(place)
                        break
                    self._build_beside(partition, place)
                if first_offset - (place.progress.next_offset if place.progress else 0) > JOIN_RECORDS:
                    break
                assert place.caught_up is not None
                await place.caught_up.wait()
        return live

    async def _locate(self, place: Place, now_at: int) -> None:
        """Read where a view stands, unless that is known."""
        build = self.generations.of(place.outlet.view)
        if place.progress is not None and place.generation == build.generation:
            return
        place.forget()
        (progress,) = await self.store.progress([(place.outlet.view, place.name)])
        if not progress.stored and build.start == NOW:
            progress = Progress(next_offset=now_at)
        place.progress, place.generation = progress, build.generation

    async def _recover(self, partition: _Partition, error: RefusedError | LostError) -> None:
        """Learn what has changed. Begin a new generation if rows went back and the progress did not."""
        log.info("features.refused", topic=self.topic, partition=partition.number, reason=str(error))
        metrics.FEATURE_REFUSALS.labels(error.view).inc()
        before = self.generations.of(error.view)
        await self.generations.check()
        if isinstance(error, RefusedError) or self.generations.of(error.view) != before:
            return
        for place in partition.places:
            if place.outlet.view == error.view:
                (stored,) = await self.store.progress([(error.view, place.name)])
                if stored.next_offset >= place.left_at:
                    await self.generations.renew(error.view, before, "rows lost by the store")
                    await self.generations.check()

    async def tend(self, committed: Mapping[int, int]) -> None:
        """Start the builds that are due in partitions where nothing may happen.

        Args:
            committed: The offset from which this process reads on, of each partition that it has.
        """
        for number, offset in committed.items():
            partition = self._partition(number)
            if partition.lock.locked():
                continue  # the slice in work looks for itself
            async with partition.lock:
                partition.reached = max(partition.reached, offset)
                await self._compare(partition)
                for place in partition.places:
                    if place.caught_up is None:
                        await self._locate(place, partition.reached)
                        if _progress(place).next_offset < partition.reached:
                            self._build_beside(partition, place)

    async def _compare(self, partition: _Partition) -> None:
        """Forget where views stand if the store says otherwise: perhaps it came back with an older file."""
        known = [place for place in partition.places if place.progress and place.caught_up is None]
        stored = await self.store.progress([(place.outlet.view, place.name) for place in known])
        for place, progress in zip(known, stored, strict=True):
            if place.standing.progress.stored != progress.stored:
                place.forget()

    async def let_go(self) -> None:
        """Stop all builds: the partitions leave, or the process ends."""
        builds = [partition.build for partition in self._partitions.values() if partition.build]
        for partition in self._partitions.values():
            for place in partition.places:
                place.forget()
        self._partitions.clear()
        for build in builds:
            build.cancel()
        await asyncio.gather(*builds, return_exceptions=True)

    def building(self) -> dict[str, Building]:
        """Return the views that are behind."""
        found: dict[str, Building] = {}
        for partition in self._partitions.values():
            for place in partition.places:
                if place.caught_up is not None:
                    left = partition.reached - (place.progress.next_offset if place.progress else 0)
                    one = Building(left, max(place.records_missing, left), place.records_removed)
                    view = place.outlet.view
                    found[view] = found[view].plus(one) if view in found else one
        return found

    def _partition(self, number: int) -> _Partition:
        partition = self._partitions.get(number)
        if partition is None:
            places = [Place(outlet, f"{self.prefix}-{number}", number) for outlet in self._outlets]
            partition = self._partitions[number] = _Partition(number, places)
        return partition

    def _build_beside(self, partition: _Partition, place: Place) -> None:
        place.caught_up = asyncio.Event()
        place.records_missing = partition.reached - _progress(place).next_offset
        if partition.build is None or partition.build.done():
            name = f"build {self.topic}/{partition.number}"
            partition.build = asyncio.create_task(self._build(partition), name=name)

    async def _build(self, partition: _Partition) -> None:
        """Bring all views that are behind to where the slices stand; try again whatever goes wrong."""
        while any(place.caught_up for place in partition.places):
            try:
                async with self._open_reader(self.topic, partition.number) as reader:
                    earliest = await reader.earliest()
                    while await self._build_step(partition, reader, earliest):
                        pass
            except OffsetOutOfRangeError:
                continue  # the broker has removed more meanwhile
            except (RefusedError, LostError) as error:
                await self._tried(self._recover(partition, error))
            except Exception as error:  # noqa: BLE001  # a build must not end before its views have caught up
                log.warning(
                    "features.build_retried",
                    topic=self.topic,
                    partition=partition.number,
                    error=repr(error),
                )
                await asyncio.sleep(RETRY_SECONDS)

    async def _tried(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  # as above
            log.warning("features.build_retried", topic=self.topic, error=repr(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def _build_step(self, partition: _Partition, reader: Reader, earliest: int) -> bool:
        """Bring the views that are furthest behind one batch forward; tell whether any is still behind."""
        behind = []
        for place in partition.places:
            if place.caught_up is not None:
                await self._locate(place, partition.reached)
                self._skip_removed(place, min(earliest, partition.reached))
                if _progress(place).next_offset < partition.reached:
                    behind.append(place)
                else:
                    _arrive(place)
        if not behind:
            return False
        furthest = next(_by_progress(behind))
        start = _progress(furthest[0]).next_offset
        others = [_progress(place).next_offset for place in behind]
        limit = min([partition.reached, *(offset for offset in others if offset > start)])
        records, next_offset = await reader.read(start, limit)
        await self._advance(partition, records, next_offset, furthest, letters=False)
        return True

    def _skip_removed(self, place: Place, earliest: int) -> None:
        before = _progress(place)
        if before.next_offset < earliest:
            self.tell_removed(place, earliest - before.next_offset)
            place.progress = msgspec.structs.replace(before, next_offset=earliest)


def _arrive(place: Place) -> None:
    assert place.caught_up is not None
    place.caught_up.set()
    place.caught_up = None
    log.info("features.view_built", view=place.outlet.view, place=place.name)


def _progress(place: Place) -> Progress:
    assert place.progress is not None, "locate it first"
    return place.progress


def _by_progress(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Group views that stand at the same point and have seen the same, the furthest behind first."""

    def standing(place: Place) -> tuple[int, list[tuple[int, int]]]:
        progress = _progress(place)
        return progress.next_offset, sorted(progress.watermarks_ms.items())

    for _, group in itertools.groupby(sorted(places, key=standing), key=standing):
        yield list(group)


@contextlib.contextmanager
def _forgetting(places: Sequence[Place]) -> Iterator[None]:
    """Forget places whose work fails, so that the next try starts from what is stored."""
    try:
        yield
    except BaseException:
        for place in places:
            place.forget()
        raise

"""The views of one topic in one partition: the known progress of each, and whether it is being built."""

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec
import structlog

from services.features.view_progress import ViewPosition, ViewProgress

log = structlog.get_logger()


class ViewSink(Protocol):
    """Where a stage sends the events of one view."""

    @property
    def view(self) -> str: ...

    def forget(self, partition: int) -> None:
        """Drop cached state of a partition."""


@dataclasses.dataclass(eq=False, slots=True)
class ViewPartition:
    """One view in one partition of the topic that a stage reads."""

    sink: ViewSink
    name: str
    """Stage and partition, such as ``source-0``; see `ViewPosition.stage_partition`."""
    partition: int
    generation: int = 0
    progress: ViewProgress | None = None
    """None if unknown, because another worker may have changed it."""
    caught_up: asyncio.Event | None = None
    """Set when the running build ends; None if the view is not being built."""
    forgotten_at: int = 0
    """The next offset when the progress was last forgotten."""
    records_missing: int = 0
    """Records to read when the build began."""
    records_removed: int = 0
    """Records that retention deleted before they could be read."""

    @property
    def view(self) -> str:
        """The view's name."""
        return self.sink.view

    @property
    def position(self) -> ViewPosition:
        """The position that the next write is based on; the progress must be known."""
        return ViewPosition(self.view, self.generation, self.name, self.known_progress)

    @property
    def known_progress(self) -> ViewProgress:
        """The progress, which must be known."""
        assert self.progress is not None, "locate it first"
        return self.progress

    def records_behind(self, offset: int) -> int:
        """Return the number of offsets between the view and an offset; all of them if it is unknown."""
        return offset - (self.progress.next_offset if self.progress else 0)

    def forget(self) -> None:
        """Continue from the stored progress and rows next time."""
        if self.progress is not None:
            self.forgotten_at = self.progress.next_offset
        self.progress = None
        self.sink.forget(self.partition)

    def skip_to(self, offset: int) -> None:
        """Continue from a later offset."""
        self.progress = msgspec.structs.replace(self.known_progress, next_offset=offset)

    def begin_build(self, stop: int) -> None:
        """Mark the view as being built up to an offset."""
        self.caught_up = asyncio.Event()
        self.records_missing = stop - self.known_progress.next_offset

    def end_build(self) -> None:
        """Mark the view as caught up."""
        assert self.caught_up is not None
        self.caught_up.set()
        self.caught_up = None
        log.info("features.view_built", view=self.view, place=self.name)


@dataclasses.dataclass(eq=False, slots=True)
class PartitionViews:
    """All views of a topic in one partition."""

    number: int
    views: list[ViewPartition]
    reached: int = 0
    """The offset that slices have reached; builds stop there."""
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    """Held while a slice is processed."""
    build: asyncio.Task[None] | None = None

    def raise_reached(self, offset: int) -> None:
        """Record that slices have reached an offset."""
        self.reached = max(self.reached, offset)


def by_progress(views: Sequence[ViewPartition]) -> Iterator[list[ViewPartition]]:
    """Group views with equal offsets and watermarks, the lowest offset first."""

    def progress_of(view: ViewPartition) -> tuple[int, list[tuple[int, int]]]:
        progress = view.known_progress
        return progress.next_offset, sorted(progress.watermarks_ms.items())

    for _, group in itertools.groupby(sorted(views, key=progress_of), key=progress_of):
        yield list(group)


@contextlib.contextmanager
def forget_on_error(views: Sequence[ViewPartition]) -> Iterator[None]:
    """Forget views if the block fails, so that the next attempt starts from the stored values."""
    try:
        yield
    except BaseException:
        for view in views:
            view.forget()
        raise

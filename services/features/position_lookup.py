"""Find out how far each view has been processed, also after a refused write or a loss in the store."""

import structlog

from services.features.generations import NOW, Generations
from services.features.row_store import RowStore, StateLostError, WriteConflictError
from services.features.view_partition import PartitionViews, ViewPartition
from services.features.view_progress import ViewProgress
from services.runtime import metrics

log = structlog.get_logger()


class PositionLookup:
    """Reads the stored positions of the views of one topic."""

    def __init__(self, topic: str, store: RowStore, generations: Generations) -> None:
        """Take the topic and the process's connections."""
        self._topic = topic
        self._store = store
        self._generations = generations

    async def locate(self, view: ViewPartition, current_offset: int) -> None:
        """Read the progress of a view unless it is known.

        Args:
            view: The view.
            current_offset: Where a view begins that is built from now on and has no stored progress.
        """
        generation = self._generations.current(view.view)
        if view.progress is not None and view.generation == generation.number:
            return
        view.forget()
        (progress,) = await self._store.progress([(view.view, view.name)])
        if not progress.stored and generation.start == NOW:
            progress = ViewProgress(next_offset=current_offset)
        view.progress, view.generation = progress, generation.number

    async def forget_changed(self, partition: PartitionViews) -> None:
        """Forget the progress that the store contradicts: it may have restarted from an older file."""
        known = [view for view in partition.views if view.progress and view.caught_up is None]
        stored = await self._store.progress([(view.view, view.name) for view in known])
        for view, progress in zip(known, stored, strict=True):
            if view.known_progress.stored != progress.stored:
                view.forget()

    async def recover(self, partition: PartitionViews, error: WriteConflictError | StateLostError) -> None:
        """Read what has changed; begin a new generation if rows were lost but their progress was not."""
        log.info("features.refused", topic=self._topic, partition=partition.number, reason=str(error))
        metrics.FEATURE_REFUSALS.labels(error.view).inc()
        before = self._generations.current(error.view)
        await self._generations.check()
        if isinstance(error, WriteConflictError) or self._generations.current(error.view) != before:
            return
        for view in partition.views:
            if view.view == error.view:
                (stored,) = await self._store.progress([(error.view, view.name)])
                if stored.next_offset >= view.forgotten_at:
                    await self._generations.begin_next(error.view, before, "the store lost rows")
                    await self._generations.check()

"""Writes predictions given over HTTP to Kafka, after the response.

Delivery: at most once. A caller gets its response before the record is written and never waits for it. So a
prediction is missing from the log after a crash, while the broker is unreachable, or if the queue is full;
where the process still can, it counts the loss (``driftline_predictions_unlogged_total``). No record is
written twice.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import structlog

from services.runtime import metrics
from services.scoring.inference_pipeline import InferencePipeline
from services.scoring.prediction_records import ShadowScores, to_records
from services.scoring.scored_batch import ScoredBatch
from services.scoring.shadows import NO_SHADOWS, ShadowRun
from streams import records, topics
from streams.cloud_events import Envelope
from streams.producer import Record

log = structlog.get_logger()

ROWS_MAX = 20_000
"""Maximum rows in a model's queue: seconds of full load, and some 20 MB with a hundred features."""
LINGER_SECONDS = 0.05
"""Time to collect predictions before a write: one request to the broker for each prediction would cost more
than the prediction."""
ROWS_AT_ONCE = 32
"""Rows that are turned into records without yielding to the event loop; takes less than a millisecond."""
FLUSH_SECONDS_MAX = 2.0
"""Maximum time to write the queue at shutdown."""


class KeyedProducer(Protocol):
    """The part of `streams.producer.BatchProducer` that the REST side uses."""

    async def send_by_key(self, topic: str, batch: Sequence[Record]) -> None:
        """Write records to the partitions of their keys."""


@dataclasses.dataclass(frozen=True, slots=True)
class _QueuedBatch:
    batch: ScoredBatch
    shadows: ShadowRun
    predicted_ns: int

    @property
    def row_count(self) -> int:
        return len(self.batch.ids)


class PredictionLog:
    """Writes one model's predictions. It owns the shadows of the batches in its queue."""

    def __init__(
        self, pipeline: InferencePipeline, producer: KeyedProducer, *, cloud_events: bool = False
    ) -> None:
        """Take the model and the producer; see `running`."""
        self._model = pipeline.name
        self._task = pipeline.task
        self._producer = producer
        self._topic = topics.predictions(pipeline.name)
        self._envelope = Envelope("scoring", pipeline.name, enabled=cloud_events)
        self._queue: list[_QueuedBatch] = []
        self._is_closed = False
        self._row_count = 0
        """Rows in the queue or being written."""
        self._is_filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, batch: ScoredBatch, shadows: ShadowRun = NO_SHADOWS) -> None:
        """Queue a batch with its running shadows; drop and count it if the queue is full."""
        queued = _QueuedBatch(batch, shadows, time.time_ns())
        if self._is_closed or self._row_count + queued.row_count > ROWS_MAX:
            self._drop([queued])
            return
        self._row_count += queued.row_count
        self._idle.clear()
        self._queue.append(queued)
        self._is_filled.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write until the block ends, and then the rest of the queue, within `FLUSH_SECONDS_MAX`."""
        task = asyncio.create_task(self._write_queue(), name=f"prediction log {self._model}")
        try:
            yield
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), FLUSH_SECONDS_MAX)
            self._is_closed = True
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._drop(self._queue)
            self._queue = []

    async def _write_queue(self) -> None:
        while True:
            await self._is_filled.wait()
            await asyncio.sleep(LINGER_SECONDS)
            self._is_filled.clear()
            taken, self._queue = self._queue, []
            try:
                await self._write(taken)
            except BaseException as error:
                self._drop(taken)
                if not isinstance(error, Exception):
                    raise
                log.warning("predictions.unlogged", model=self._model, error=repr(error))
            finally:
                self._row_count -= sum(queued.row_count for queued in taken)
                if not self._row_count:
                    self._idle.set()

    async def _write(self, taken: Sequence[_QueuedBatch]) -> None:
        written: list[Record] = []
        row_count = 0
        async for queued, shadow_scores in self._with_shadow_scores(taken):
            written += self._records(queued.batch, shadow_scores, queued.predicted_ns)
            row_count += queued.row_count
            if row_count >= ROWS_AT_ONCE:  # predictions go first
                row_count = 0
                await asyncio.sleep(0)
        if written:
            await self._producer.send_by_key(self._topic, written)

    async def _with_shadow_scores(
        self, taken: Sequence[_QueuedBatch]
    ) -> AsyncIterator[tuple[_QueuedBatch, ShadowScores]]:
        """Yield the batches with the scores of their shadows; all shadows share one wait."""
        running = [queued.shadows.scores() for queued in taken if not queued.shadows.is_empty]
        scores = iter(await asyncio.gather(*running))
        for queued in taken:
            yield queued, ({} if queued.shadows.is_empty else next(scores))

    def _records(self, batch: ScoredBatch, shadow_scores: ShadowScores, now_ns: int) -> list[Record]:
        http, now_ms = records.ASKED_OVER_HTTP, now_ns // 1_000_000
        offsets = [http] * len(batch.ids)
        predictions = to_records(
            batch, shadow_scores, self._task, self._model, partition=http, offsets=offsets, now_ms=now_ms
        )
        # The id of an event must be unique. There is no source record to give one: use the prediction's time.
        sources = ((-now_ns, row) for row in range(len(predictions)))
        headers = self._envelope.bulk(records.Prediction, sources, now_ms)
        return [
            (prediction.prediction_id.encode(), records.encode(prediction), event_headers)
            for prediction, event_headers in zip(predictions, headers, strict=False)
        ]

    def _drop(self, batches: Sequence[_QueuedBatch]) -> None:
        for queued in batches:
            queued.shadows.cancel()
            unlogged = queued.row_count - len(queued.batch.failed)
            metrics.PREDICTIONS_UNLOGGED.labels(self._model).inc(unlogged)

"""Writes predictions given over HTTP to Kafka, after the response.

Only rows whose caller gets them are logged: not those of a request that failed, took too long, or whose
caller has gone. Such a caller asks again, and the prediction would be in the log twice.

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
from services.scoring.prediction_records import ShadowScores, encode_predictions
from services.scoring.scored_batch import ScoredBatch
from services.scoring.shadows import NO_SHADOWS, ShadowRun
from streams import records, topics
from streams.cloud_events import Envelope
from streams.producer import Record, RecordTooLargeError

log = structlog.get_logger()

ROWS_MAX = 20_000
"""Maximum rows in a model's queue: seconds of full load, and some 20 MB with a hundred features. A larger
request is logged if the queue is empty."""
LINGER_SECONDS = 0.05
"""Time to collect predictions before a write: one request to the broker for each prediction would cost more
than the prediction."""
ROWS_AT_ONCE = 32
"""Rows that are turned into records without yielding to the event loop; takes less than a millisecond."""
UNANSWERED_SECONDS_MAX = 120.0
"""Time after which the shadows of a batch of which no row was answered are ended; more than an explanation
takes."""
FLUSH_SECONDS_MAX = 2.0
"""Maximum time to write the queue at shutdown."""


class KeyedProducer(Protocol):
    """The part of `streams.producer.BatchProducer` that the REST side uses."""

    async def send_by_key(self, topic: str, batch: Sequence[Record]) -> None:
        """Write records to the partitions of their keys."""


class AnsweredBatch:
    """A scored batch, and the rows of it that callers got. It owns the shadows of the batch."""

    def __init__(self, scored: ScoredBatch, shadows: ShadowRun = NO_SHADOWS) -> None:
        """Take a batch of which no row is answered yet, and its running shadows."""
        self.scored = scored
        self.predicted_ns = time.time_ns()
        self._shadows = shadows
        self._shadow_scores: ShadowScores | None = {} if shadows.is_empty else None
        self._waiting: list[range] = []
        self._end: asyncio.TimerHandle | None = None
        if not shadows.is_empty:
            self._end = asyncio.get_running_loop().call_later(UNANSWERED_SECONDS_MAX, self.cancel)

    def add(self, rows: range) -> None:
        """Remember rows to be written; neighbours are joined, because a call to encode them costs most."""
        last = self._waiting[-1] if self._waiting else range(0)
        if last and last.stop == rows.start and rows.stop - last.start <= ROWS_AT_ONCE:
            self._waiting[-1] = range(last.start, rows.stop)
        else:
            self._waiting.append(rows)

    def take(self) -> list[range]:
        """Return the rows to be written, once."""
        taken, self._waiting = self._waiting, []
        return taken

    async def shadow_scores(self) -> ShadowScores:
        """Return the scores of the shadows, which end with the first call."""
        if self._shadow_scores is None:
            self._cancel_end()
            self._shadow_scores = await self._shadows.scores()
        return self._shadow_scores

    def cancel(self) -> None:
        """End the shadows: nobody needs them."""
        self._cancel_end()
        self._shadow_scores = {}
        self._shadows.cancel()

    def _cancel_end(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a batch that one caller got."""

    batch: AnsweredBatch
    rows: range


class PredictionLog:
    """Writes one model's predictions."""

    def __init__(
        self, pipeline: InferencePipeline, producer: KeyedProducer, *, cloud_events: bool = False
    ) -> None:
        """Take the model and the producer; see `running`."""
        self._model = pipeline.name
        self._task = pipeline.task
        self._producer = producer
        self._topic = topics.predictions(pipeline.name)
        self._envelope = Envelope("scoring", pipeline.name, enabled=cloud_events)
        self._queue: dict[AnsweredBatch, None] = {}
        self._is_closed = False
        self._row_count = 0
        """Rows in the queue or being written."""
        self._is_filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, batch: AnsweredBatch, rows: range) -> None:
        """Queue rows of a batch; drop and count them if the queue is full. One request always fits."""
        is_full = self._row_count > 0 and self._row_count + len(rows) > ROWS_MAX
        if self._is_closed or is_full:
            metrics.PREDICTIONS_UNLOGGED.labels(self._model).inc(len(rows))
            return
        batch.add(rows)
        self._row_count += len(rows)
        self._idle.clear()
        self._queue[batch] = None
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
            self._drop(self._take())

    def _take(self) -> list[_Rows]:
        taken = [_Rows(batch, rows) for batch in self._queue for rows in batch.take()]
        self._queue = {}
        return taken

    async def _write_queue(self) -> None:
        while True:
            await self._is_filled.wait()
            await asyncio.sleep(LINGER_SECONDS)
            self._is_filled.clear()
            taken = self._take()
            try:
                await self._write(taken)
            except BaseException as error:
                self._drop(taken)
                if not isinstance(error, Exception):
                    raise
                log.warning("predictions.unlogged", model=self._model, error=repr(error))
            finally:
                self._row_count -= sum(len(each.rows) for each in taken)
                if not self._row_count:
                    self._idle.set()

    async def _write(self, taken: Sequence[_Rows]) -> None:
        batches = dict.fromkeys(each.batch for each in taken)
        scores = await asyncio.gather(*(batch.shadow_scores() for batch in batches))  # they share one wait
        shadow_scores = dict(zip(batches, scores, strict=True))
        written: list[Record] = []
        row_count = 0
        for each in taken:
            written += self._records(each, shadow_scores[each.batch])
            row_count += len(each.rows)
            if row_count >= ROWS_AT_ONCE:  # predictions go first
                row_count = 0
                await asyncio.sleep(0)
        while written:
            try:
                await self._producer.send_by_key(self._topic, written)
            except RecordTooLargeError as error:  # the others are not written yet
                written = self._without(error, written)
            else:
                return

    def _without(self, error: RecordTooLargeError, written: Sequence[Record]) -> list[Record]:
        """Return the records without the one that is too large."""
        left = [each for each in written if each is not error.record]
        if len(left) == len(written):
            raise error
        metrics.PREDICTIONS_UNLOGGED.labels(self._model).inc(len(written) - len(left))
        metrics.RECORDS_TOO_LARGE.labels("scoring", self._topic).inc(len(written) - len(left))
        log.warning("predictions.too_large", model=self._model, error=str(error))
        return left

    def _records(self, each: _Rows, shadow_scores: ShadowScores) -> list[Record]:
        http, now_ns = records.ASKED_OVER_HTTP, each.batch.predicted_ns
        positions, values = encode_predictions(
            each.batch.scored,
            shadow_scores,
            self._task,
            self._model,
            partition=http,
            offsets=[http] * len(each.rows),
            now_ms=now_ns // 1_000_000,
            rows=each.rows,
        )
        # The id of an event must be unique. There is no source record to give one: use the prediction's time.
        sources = ((-now_ns, row) for row in each.rows)
        headers = self._envelope.bulk(records.Prediction, sources, now_ns // 1_000_000)
        ids = each.batch.scored.ids
        keys = [ids[each.rows[position]].encode() for position in positions]
        return list(zip(keys, values, headers, strict=False))

    def _drop(self, taken: Sequence[_Rows]) -> None:
        for each in taken:
            each.batch.cancel()
            metrics.PREDICTIONS_UNLOGGED.labels(self._model).inc(len(each.rows))

"""Answers over HTTP become predictions on Kafka, behind the answer.

Delivery: at most once. A caller has its answer before the record is written, and waits for nothing here; so
what a crash, a broker that is away or a queue that is full loses is missing in the log, and counted where the
process still can (``driftline_predictions_unlogged_total``). Nothing is ever written twice.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import structlog

from services.runtime import metrics
from services.scoring.inference import Scored, Scorer, to_predictions
from streams import records, topics
from streams.cloud_events import Envelope
from streams.producer import Record

log = structlog.get_logger()

ROWS_MAX = 20_000
"""Waiting, a model: seconds of a full load, and some 20 MB where there are a hundred features."""
LINGER_SECONDS = 0.05
"""Collected before a write: one request to the broker for each answer would cost more than the answer."""
ROWS_AT_ONCE = 32
"""Made into records without a break: less than a millisecond of them."""
FLUSH_SECONDS_MAX = 2.0
"""For what waits when the process stops."""


class Producer(Protocol):
    """The part of `streams.producer.BatchProducer` that the REST side uses."""

    async def send_by_key(self, topic: str, batch: Sequence[Record]) -> None:
        """Write records to the partitions of their keys."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Answered:
    scored: Scored
    at_ns: int


class PredictionLog:
    """Writes one model's answers."""

    def __init__(self, scorer: Scorer, producer: Producer, *, cloud_events: bool = False) -> None:
        """Prepare; see `running`."""
        self._scorer = scorer
        self._producer = producer
        self._topic = topics.predictions(scorer.name)
        self._envelope = Envelope("scoring", scorer.name, enabled=cloud_events)
        self._waiting: list[_Answered] = []
        self._ended = False
        self._rows = 0
        """Waiting or being written."""
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, scored: Scored) -> None:
        """Take a batch of answers with its shadows at work; drop and count it where too much waits."""
        rows = len(scored.ids)
        if self._ended or self._rows + rows > ROWS_MAX:
            self._drop([scored])
            return
        self._rows += rows
        self._idle.clear()
        self._waiting.append(_Answered(scored, time.time_ns()))
        self._news.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write until the block ends, and then what waits, within `FLUSH_SECONDS_MAX`."""
        task = asyncio.create_task(self._work(), name=f"prediction log {self._scorer.name}")
        try:
            yield
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), FLUSH_SECONDS_MAX)
            self._ended = True
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._drop([answered.scored for answered in self._waiting])
            self._waiting = []

    async def _work(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(LINGER_SECONDS)
            self._news.clear()
            taken, self._waiting = self._waiting, []
            try:
                await self._write(taken)
            except BaseException as error:
                self._drop([answered.scored for answered in taken])
                if not isinstance(error, Exception):
                    raise
                log.warning("predictions.unlogged", model=self._scorer.name, error=repr(error))
            finally:
                self._rows -= sum(len(answered.scored.ids) for answered in taken)
                if not self._rows:
                    self._idle.set()

    async def _write(self, taken: Sequence[_Answered]) -> None:
        batch: list[Record] = []
        rows = 0
        async for scored, at_ns in self._whole(taken):
            batch += self._records(scored, at_ns)
            rows += len(scored.ids)
            if rows >= ROWS_AT_ONCE:  # answers go first
                rows = 0
                await asyncio.sleep(0)
        if batch:
            await self._producer.send_by_key(self._topic, batch)

    async def _whole(self, taken: Sequence[_Answered]) -> AsyncIterator[tuple[Scored, int]]:
        """Yield the batches, with what their shadows said, which all may still say for the same while."""
        asked = [answered.scored for answered in taken if answered.scored.silent]
        heard = iter(await asyncio.gather(*map(self._scorer.with_shadows, asked)))
        for answered in taken:
            yield next(heard) if answered.scored.silent else answered.scored, answered.at_ns

    def _records(self, scored: Scored, now_ns: int) -> list[Record]:
        scorer, http, now_ms = self._scorer, records.ASKED_OVER_HTTP, now_ns // 1_000_000
        predictions = to_predictions(
            scored, scorer.task, scorer.name, partition=http, offsets=[http] * len(scored.ids), now_ms=now_ms
        )
        # No two events have the same id: no source record gives them one, so the moment of the answer does.
        places = ((-now_ns, row) for row in range(len(predictions)))
        headers = self._envelope.bulk(records.Prediction, places, now_ms)
        return [
            (prediction.prediction_id.encode(), records.encode(prediction), own)
            for prediction, own in zip(predictions, headers, strict=False)
        ]

    def _drop(self, batches: Sequence[Scored]) -> None:
        for scored in batches:
            for task in scored.silent.values():
                task.cancel()
            unlogged = len(scored.ids) - len(scored.failed)
            metrics.PREDICTIONS_UNLOGGED.labels(self._scorer.name).inc(unlogged)

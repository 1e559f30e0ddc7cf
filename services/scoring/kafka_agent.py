"""The Faust agent of one model: slices of requests in, predictions out.

Delivery: a slice is acknowledged after the broker has acknowledged its predictions and dead letters. After a
crash the slices since the last commit are scored again; their predictions carry the same source offsets, so
consumers drop them (`streams.repeats.RepeatFilter`). Predictions keep the partition number and order of their
requests, and heartbeats travel with them.

While a slice is written, the next slice of its partition is already scored; it is written in its turn. The
requests of several partitions that wait at the same time are scored together: one read of features and one
call of the model, instead of one for each partition. Each slice is decoded, written and acknowledged by
itself, so that no partition waits for another's sink nor, in a replay, for another's features. If they fail
together, each slice is scored by itself, so that a request at fault is found in its own partition.
"""

import dataclasses
import functools
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from prometheus_client import Histogram

from services.runtime import metrics, times
from services.runtime.event_clock import EventClock
from services.scoring.batcher import Batcher, BatchPart
from services.scoring.feature_wait import FeatureWait
from services.scoring.inference_pipeline import InferencePipeline
from services.scoring.models_follower import ModelsFollower
from services.scoring.prediction_records import ShadowScores, count_predictions, encode_predictions
from services.scoring.request_decoder import SERVICE, DecodedRequests, RequestDecoder
from services.scoring.scored_batch import ScoredBatch
from services.scoring.tracing import (
    SliceTraces,
    StageTiming,
    Tracing,
    collected_stages,
    stage,
    with_trace_headers,
)
from streams import codec, records, schemas, topics
from streams.cloud_events import Envelope
from streams.producer import BatchProducer, Record
from streams.slices import Slice

SLICES_AT_ONCE = 2
"""Slices of one partition in progress: one is written while the next is scored."""
READING_BATCHES = 1
"""Batches beyond the model's threads: their features are read while every thread is busy."""


@dataclasses.dataclass(frozen=True, slots=True)
class _AgentBatch:
    """What slices of several partitions share: one scored batch, its shadow scores and its stages."""

    scored: ScoredBatch
    shadow_scores: ShadowScores
    stages: Sequence[StageTiming]


class _Row(NamedTuple):
    """A request to score."""

    event: Any
    time_ms: int
    """Event time."""
    refuses_late: bool
    """Whether it fails if its features have not passed the event time."""


class ScoringAgent:
    """Scores the slices of one model's request topic."""

    def __init__(
        self,
        pipeline: InferencePipeline,
        follower: ModelsFollower,
        producer: BatchProducer,
        *,
        record_bytes_max: int,
        cloud_events: bool,
        tracing: Tracing,
        registry: schemas.SchemaRegistry | None = None,
        clock: EventClock | None = None,
    ) -> None:
        """Take the collaborators; larger records become dead letters.

        Raises `SchemaError` if the declared encoding needs a schema registry and there is none.
        """
        self._pipeline = pipeline
        topic = pipeline.declaration.request
        self._decoder = RequestDecoder(
            topic,
            topic.wire_decoder(registry, pipeline.features.ranges),
            clock or EventClock(SERVICE),
            record_bytes_max,
        )
        self._follower = follower
        self._producer = producer
        self.wait = FeatureWait(pipeline.name, pipeline.declaration.features, pipeline.features)
        self._tracing = tracing
        self._topic = topics.predictions(pipeline.name)
        self.source = ""
        """Digest of the request topic; set before the first slice."""
        self._unanswered = metrics.REQUESTS_UNANSWERED.labels(pipeline.name, "kafka")
        self._envelope = Envelope(SERVICE, pipeline.name, enabled=cloud_events)
        limits = pipeline.declaration.limits
        self._batcher = Batcher(
            self._score_batch, rows_max=limits.slice_records_max, batches_max=limits.threads + READING_BATCHES
        )
        self._event_age = metrics.EVENT_AGE.labels(pipeline.name)
        self._duration = metrics.PREDICTION_DURATION.labels(pipeline.name, "kafka")

    async def write_predictions(self, slice_: Slice) -> None:
        """Receive, decode, score, write; acknowledge when the broker has acknowledged all."""
        with collected_stages() as stages:
            traces, shared = await self._write(slice_)
        self._observe_stages(stages)
        self._tracing.end(traces, [*stages, *shared], self._pipeline.name, slice_.partition)

    async def _write(self, slice_: Slice) -> tuple[SliceTraces, Sequence[StageTiming]]:
        """Return the traced requests, and the stages that the slice shared with others."""
        start, start_ns = time.perf_counter(), time.time_ns()
        with stage("decode"):
            sound, letters = codec.split_defects(SERVICE, slice_.records, slice_.defects)
            await self._decoder.learn_schemas(sound)
            requests = self._decoder.decode(sound, times.now_ms())
            letters += requests.letters
        traces = self._tracing.begin(requests.sources, start_ns)
        batch: list[Record] = []
        shared: Sequence[StageTiming] = ()
        if requests.sources:
            part = await self._score(requests)
            await slice_.turn()
            if part.result.scored.arms is not self._pipeline.versions.router.answering:
                part = await self._score(requests)  # the arms changed after the slice was scored ahead
            shared = part.result.stages
            letters += self._failed(requests, part)
            batch = self._records(requests, part, slice_.partition, traces)
        if requests.watermark_ms is not None:
            batch.append((None, None, codec.heartbeat(requests.watermark_ms)))
        await slice_.turn()  # also for a slice of heartbeats only
        with stage("write"):
            await self._producer.send_dead_letters(letters)
            if batch:
                await self._producer.send(self._topic, slice_.partition, batch)
        slice_.ack()
        self._observe(letters, time.perf_counter() - start)
        return traces, shared

    def _records(
        self,
        requests: DecodedRequests,
        part: BatchPart[_AgentBatch],
        partition: int,
        traces: SliceTraces,
    ) -> list[Record]:
        """Return the predictions of a slice as records, with the keys of their requests."""
        now_ms = times.now_ms()
        offsets = [record.offset for record in requests.sources]
        positions, values = encode_predictions(
            part.result.scored,
            part.result.shadow_scores,
            self._pipeline.task,
            self._pipeline.name,
            partition=partition,
            offsets=offsets,
            now_ms=now_ms,
            rows=part.rows,
            source=self.source,
        )
        sources = ((partition, offsets[position]) for position in positions)
        headers = self._envelope.bulk(records.Prediction, sources, now_ms)
        headers = with_trace_headers(headers, (offsets[position] for position in positions), traces)
        keys = [requests.sources[position].key for position in positions]
        return list(zip(keys, values, headers, strict=False))

    async def _score(self, requests: DecodedRequests) -> BatchPart[_AgentBatch]:
        """Score the requests of a slice; those with a declared wait have the features of their event time.

        If the wait is in vain, they are answered with what is there, or refused, as declared.
        """
        wait = self.wait
        deadline, reached = wait.begin(), True
        while True:
            if wait.is_declared:  # exact only if each model change precedes the requests that it affects
                await self._follower.catch_up(self._pipeline.name)
                reached = await wait.until(max(requests.times_ms), deadline, len(requests.events))
            refuses_late = wait.refuses_late and not reached
            part = await self._batcher.submit(
                [
                    _Row(event, time_ms, refuses_late)
                    for event, time_ms in zip(requests.events, requests.times_ms, strict=True)
                ]
            )
            scored = part.result.scored
            scored.check_available(part.rows)  # else the slice waits, without the others of its batch
            late = int(np.count_nonzero(scored.lag_ms[part.start : part.stop])) if wait.is_declared else 0
            if not late or not reached:
                wait.note(late)
                return part
            # A view is being built again since the wait: its values would be missing.

    async def _score_batch(self, rows: Sequence[_Row]) -> _AgentBatch:
        """Score the requests of slices that wait at the same time; a replay waits for every shadow."""
        times_ms = np.array([row.time_ms for row in rows], dtype=np.int64)
        with collected_stages() as stages:
            scored, shadows = await self._pipeline.score([row.event for row in rows], times_ms)
            shadow_scores = await shadows.scores(wait_for_all=self.wait.is_declared)
        late = [row for row in np.flatnonzero(scored.lag_ms).tolist() if rows[row].refuses_late]
        if late:
            failed = dict.fromkeys(late, self.wait.reason) | dict(scored.failed)
            scored = dataclasses.replace(scored, failed=failed)
        self._observe_stages(stages)
        count_predictions(self._pipeline.name, scored)
        self._unanswered.inc(len(scored.failed.keys() - scored.rejected - scored.unavailable.keys()))
        self._event_age.set(time.time() - int(times_ms[-1]) / 1000)
        return _AgentBatch(scored, shadow_scores, stages)

    def _failed(self, requests: DecodedRequests, part: BatchPart[_AgentBatch]) -> list[records.DeadLetter]:
        return [
            codec.dead_letter(SERVICE, requests.sources[row - part.start], reason)
            for row, reason in part.result.scored.failed.items()
            if row in part.rows
        ]

    def _observe_stages(self, stages: Iterable[StageTiming]) -> None:
        for each in stages:
            seconds = (each.stop_ns - each.start_ns) / 1e9
            _stage_duration(self._pipeline.name, each.name).observe(seconds)

    def _observe(self, letters: Sequence[records.DeadLetter], seconds: float) -> None:
        self._duration.observe(seconds)
        for letter in letters:
            metrics.DEAD_LETTERS.labels("scoring", letter.topic, letter.kind).inc()


@functools.cache
def _stage_duration(model: str, stage_name: str) -> Histogram:
    """Return the series of a stage, looked up once."""
    return metrics.SCORING_STAGE_DURATION.labels(model, stage_name)

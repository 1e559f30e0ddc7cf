"""The Faust agent of one model: slices of requests in, predictions out.

Delivery: a slice is acknowledged after the broker has acknowledged its predictions and dead letters. After a
crash the slices since the last commit are scored again; their predictions carry the same source offsets, so
consumers drop them (`streams.codec.RepeatFilter`). Predictions keep the partition number and order of their
requests, and heartbeats travel with them.

While a slice is written, the next slice of its partition is already scored; it is written in its turn. The
requests of several partitions that wait at the same time are scored together: one read of features and one
call of the model, instead of one for each partition. Each slice is decoded, written and acknowledged by
itself, so that no partition waits for another's sink nor, in a replay, for another's features. If they fail
together, each slice is scored by itself, so that a request at fault is found in its own partition.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from aiokafka import ConsumerRecord

from services.runtime import metrics, times
from services.runtime.event_clock import EventClock
from services.scoring.batcher import Batcher, BatchPart
from services.scoring.inference_pipeline import InferencePipeline
from services.scoring.models_follower import ModelsFollower
from services.scoring.prediction_records import ShadowScores, count_predictions, to_records
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

_Request = tuple[Any, Any, int]
"""Record, decoded event, event time in Unix ms."""
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
        self._decoder = pipeline.declaration.request.wire_decoder(registry, pipeline.features.ranges)
        self._clock = clock or EventClock("scoring")
        self._follower = follower
        self._producer = producer
        self._record_bytes_max = record_bytes_max
        self._is_replay = pipeline.declaration.features.wait_seconds > 0
        self._tracing = tracing
        self._topic = topics.predictions(pipeline.name)
        self.source = ""
        """Digest of the request topic; set before the first slice."""
        self._unanswered = metrics.REQUESTS_UNANSWERED.labels(pipeline.name, "kafka")
        self._envelope = Envelope("scoring", pipeline.name, enabled=cloud_events)
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
            sound, letters = codec.split_defects("scoring", slice_.records, slice_.defects)
            await schemas.learn(self._decoder, (record.value for record in sound))
            requests, invalid, watermark_ms = self._decode(sound)
            letters += invalid
        traces = self._tracing.begin(((record, event) for record, event, _ in requests), start_ns)
        batch: list[Record] = []
        shared: Sequence[StageTiming] = ()
        if requests:
            part = await self._score(requests)
            await slice_.turn()
            if part.result.scored.arms is not self._pipeline.versions.router.answering:
                part = await self._score(requests)  # the arms changed after the slice was scored ahead
            shared = part.result.stages
            letters += self._failed(requests, part)
            keys = {record.offset: record.key for record, _, _ in requests}
            batch = self._records(keys, self._predictions(requests, part, slice_.partition), traces)
        if watermark_ms is not None:
            batch.append((None, None, codec.heartbeat(watermark_ms)))
        await slice_.turn()  # also for a slice of heartbeats only
        with stage("write"):
            await self._producer.send_dead_letters(letters)
            if batch:
                await self._producer.send(self._topic, slice_.partition, batch)
        slice_.ack()
        self._observe(letters, time.perf_counter() - start)
        return traces, shared

    def _decode(
        self, found: Sequence[ConsumerRecord]
    ) -> tuple[list[_Request], list[records.DeadLetter], int | None]:
        """Return the requests, the dead letters and the last watermark of some records."""
        decode, bytes_max = self._decoder.decode, self._record_bytes_max
        event_time_ms, now_ms = self._pipeline.event_time_ms, times.now_ms()
        requests, letters, watermark_ms = list[_Request](), list[records.DeadLetter](), None
        for record in found:
            value = record.value
            try:
                if value is None:
                    watermark_ms = self._clock.watermark_of(record, now_ms) or watermark_ms
                    continue
                if len(value) > bytes_max:
                    raise codec.InvalidRecordError(
                        f"the record has {len(value)} bytes, the limit is {bytes_max}"
                    )
                event = decode(value)
                time_ms = event_time_ms(event)
                self._clock.check(time_ms, record, now_ms)
                requests.append((record, event, time_ms))
            except codec.InvalidRecordError as error:
                letters.append(codec.dead_letter("scoring", record, str(error)))
        return requests, letters, watermark_ms

    def _records(
        self, keys: Mapping[int, Any], predictions: Sequence[records.Prediction], traces: SliceTraces
    ) -> list[Record]:
        sources = ((p.source_partition, p.source_offset) for p in predictions)
        time_ms = predictions[0].scored_time_ms if predictions else None
        headers = self._envelope.bulk(records.Prediction, sources, time_ms)
        headers = with_trace_headers(headers, (p.source_offset for p in predictions), traces)
        return [
            (keys[p.source_offset], records.encode(p), record_headers)
            for p, record_headers in zip(predictions, headers, strict=False)
        ]

    async def _score(self, requests: Sequence[_Request]) -> BatchPart[_AgentBatch]:
        while True:
            if self._is_replay:  # exact only if each model change precedes the requests that it affects
                await self._follower.catch_up(self._pipeline.name)
                await self._pipeline.features.wait_for(max(time_ms for _, _, time_ms in requests))
            part = await self._batcher.submit([(event, time_ms) for _, event, time_ms in requests])
            scored = part.result.scored
            scored.check_available(part.rows)  # else the slice waits, without the others of its batch
            if not (self._is_replay and scored.lag_ms[part.start : part.stop].any()):
                return part
            # A view is being built again since the wait: its values would be missing.

    async def _score_batch(self, rows: Sequence[tuple[Any, int]]) -> _AgentBatch:
        """Score the requests of slices that wait at the same time; a replay waits for every shadow."""
        events = [event for event, _ in rows]
        times_ms = np.array([time_ms for _, time_ms in rows], dtype=np.int64)
        with collected_stages() as stages:
            scored, shadows = await self._pipeline.score(events, times_ms)
            shadow_scores = await shadows.scores(wait_for_all=self._is_replay)
        self._observe_stages(stages)
        count_predictions(self._pipeline.name, scored)
        self._unanswered.inc(len(scored.failed.keys() - scored.rejected - scored.unavailable.keys()))
        self._event_age.set(time.time() - int(times_ms[-1]) / 1000)
        return _AgentBatch(scored, shadow_scores, stages)

    def _predictions(
        self, requests: Sequence[_Request], part: BatchPart[_AgentBatch], partition: int
    ) -> list[records.Prediction]:
        return to_records(
            part.result.scored,
            part.result.shadow_scores,
            self._pipeline.task,
            self._pipeline.name,
            partition=partition,
            offsets=[record.offset for record, _, _ in requests],
            now_ms=times.now_ms(),
            rows=part.rows,
            source=self.source,
        )

    def _failed(self, requests: Sequence[_Request], part: BatchPart[_AgentBatch]) -> list[records.DeadLetter]:
        return [
            codec.dead_letter("scoring", requests[row - part.start][0], reason)
            for row, reason in part.result.scored.failed.items()
            if row in part.rows
        ]

    def _observe_stages(self, stages: Iterable[StageTiming]) -> None:
        for each in stages:
            seconds = (each.stop_ns - each.start_ns) / 1e9
            metrics.SCORING_STAGE_DURATION.labels(self._pipeline.name, each.name).observe(seconds)

    def _observe(self, letters: Sequence[records.DeadLetter], seconds: float) -> None:
        self._duration.observe(seconds)
        for letter in letters:
            metrics.DEAD_LETTERS.labels("scoring", letter.topic, letter.kind).inc()

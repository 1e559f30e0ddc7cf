"""The Faust agent of one model: slices of requests in, predictions out.

Delivery: a slice is acknowledged after its predictions and dead letters are acknowledged by the
broker. After a crash the slices since the last commit are scored again; their predictions carry the
same source offsets, so consumers drop them (`streams.codec.RepeatFilter`). Predictions keep the
partition number and order of their requests, and heartbeats travel with them.

While a slice is written, the next one of its partition is scored already; it is written in its turn.
What the slices of several partitions ask at the same time is answered together: one reading of features and
one call of the model, instead of one for each partition. Each slice is decoded, written and acknowledged by
itself, so that no partition waits for another's sink, nor in a replay for another's features.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from services.runtime import metrics
from services.scoring.batching import Batcher, Part
from services.scoring.inference import Scored, Scorer, count_answers, to_predictions
from services.scoring.models_follower import ModelFollower
from services.scoring.tracing import Stage, Traces, Tracing, carrying, noted_stages, stage
from streams import codec, records, schemas, topics
from streams.batches import Slice
from streams.cloud_events import Envelope
from streams.producer import BatchProducer, Record

_Request = tuple[Any, Any, int]
"""Record, decoded event, event time in Unix ms."""
SLICES_AT_ONCE = 2
"""Of one partition: one is being written while the next one is scored."""
READING_BATCHES = 1
"""More than the model's threads can take: so that one has its features when a thread is free."""


class ScoringAgent:
    """Scores the slices of one model's request topic."""

    def __init__(
        self,
        scorer: Scorer,
        follower: ModelFollower,
        producer: BatchProducer,
        *,
        record_bytes_max: int,
        cloud_events: bool,
        tracing: Tracing,
        registry: schemas.Registry | None = None,
    ) -> None:
        """Take the collaborators; larger records become dead letters. `SchemaError` if a registry lacks."""
        self._scorer = scorer
        self._decoder = scorer.declaration.request.wire_decoder(registry)
        self._follower = follower
        self._producer = producer
        self._record_bytes_max = record_bytes_max
        self._is_replay = scorer.declaration.features.wait_seconds > 0
        self._tracing = tracing
        self._topic = topics.predictions(scorer.name)
        self._unanswered = metrics.REQUESTS_UNANSWERED.labels(scorer.name, "kafka")
        self._envelope = Envelope("scoring", scorer.name, enabled=cloud_events)
        limits = scorer.declaration.limits
        self._batcher = Batcher(
            self._answer, rows_max=limits.slice_records_max, batches_max=limits.threads + READING_BATCHES
        )
        self._event_age = metrics.EVENT_AGE.labels(scorer.name)
        self._duration = metrics.PREDICTION_DURATION.labels(scorer.name, "kafka")

    async def write_predictions(self, slice_: Slice) -> None:
        """Receive, decode, score, write; acknowledge when the broker has acknowledged all."""
        with noted_stages() as stages:
            traces, shared = await self._write(slice_)
        self._observe_stages(stages)
        self._tracing.end(traces, [*stages, *shared], self._scorer.name, slice_.partition)

    async def _write(self, slice_: Slice) -> tuple[Traces, Sequence[Stage]]:
        """Return what is traced, and the stages that the slice had in common with others."""
        began, began_ns = time.perf_counter(), time.time_ns()
        with stage("decode"):
            await schemas.learn(self._decoder, (record.value for record in slice_.records))
            requests, letters, watermark_ms = self._decode(slice_)
        traces = self._tracing.begin(((record, event) for record, event, _ in requests), began_ns)
        batch: list[Record] = []
        shared: Sequence[Stage] = ()
        if requests:
            part = await self._score(requests)
            await slice_.turn()
            if part.scored.arms is not self._scorer.models.routes.answering:
                part = await self._score(requests)  # scored ahead, and the arms changed before its turn came
            shared = part.scored.stages
            letters += self._failed(requests, part)
            keys = {record.offset: record.key for record, _, _ in requests}
            batch = self._records(keys, self._predictions(requests, part, slice_.partition), traces)
        if watermark_ms is not None:
            batch.append((None, None, codec.heartbeat(watermark_ms)))
        await slice_.turn()  # of heartbeats alone, too
        with stage("write"):
            await self._producer.send_dead_letters(letters)
            if batch:
                await self._producer.send(self._topic, slice_.partition, batch)
        slice_.ack()
        self._observe(letters, time.perf_counter() - began)
        return traces, shared

    def _decode(self, slice_: Slice) -> tuple[list[_Request], list[records.DeadLetter], int | None]:
        decode, bytes_max = self._decoder.decode, self._record_bytes_max
        event_time_ms = self._scorer.event_time_ms
        requests, letters, watermark_ms = list[_Request](), list[records.DeadLetter](), None
        for record in slice_.records:
            value = record.value
            if value is None:
                watermark_ms = codec.watermark_of(record.headers) or watermark_ms
                continue
            try:
                if len(value) > bytes_max:
                    raise codec.InvalidRecordError(
                        f"the record has {len(value)} bytes, the limit is {bytes_max}"
                    )
                event = decode(value)
                time_ms = event_time_ms(event)
                codec.check_event_time(time_ms, record.timestamp)
                requests.append((record, event, time_ms))
            except codec.InvalidRecordError as error:
                letters.append(codec.dead_letter("scoring", record, str(error)))
        return requests, letters, watermark_ms

    def _records(
        self, keys: Mapping[int, Any], predictions: Sequence[records.Prediction], traces: Traces
    ) -> list[Record]:
        places = ((p.source_partition, p.source_offset) for p in predictions)
        time_ms = predictions[0].scored_time_ms if predictions else None
        headers = self._envelope.bulk(records.Prediction, places, time_ms)
        headers = carrying(headers, (p.source_offset for p in predictions), traces)
        return [
            (keys[p.source_offset], records.encode(p), own)
            for p, own in zip(predictions, headers, strict=False)
        ]

    async def _score(self, requests: Sequence[_Request]) -> Part:
        if self._is_replay:  # which is exact only if each model change precedes the requests it is for
            await self._follower.catch_up(self._scorer.name)
            await self._scorer.wait_for_features(max(time_ms for _, _, time_ms in requests))
        return await self._batcher.ask([(event, time_ms) for _, event, time_ms in requests])

    async def _answer(self, rows: Sequence[tuple[Any, int]]) -> Scored:
        """Answer the requests of slices that wait at the same time, together."""
        events = [event for event, _ in rows]
        times_ms = np.array([time_ms for _, time_ms in rows], dtype=np.int64)
        with noted_stages() as stages:
            scored = await self._scorer.score(events, times_ms, replay=self._is_replay)
        self._observe_stages(stages)
        count_answers(self._scorer.name, scored)
        self._unanswered.inc(len(scored.failed.keys() - scored.refused))
        self._event_age.set(time.time() - int(times_ms[-1]) / 1000)
        return dataclasses.replace(scored, stages=stages)

    def _predictions(
        self, requests: Sequence[_Request], part: Part, partition: int
    ) -> list[records.Prediction]:
        return to_predictions(
            part.scored,
            self._scorer.task,
            self._scorer.name,
            partition=partition,
            offsets=[record.offset for record, _, _ in requests],
            now_ms=time.time_ns() // 1_000_000,
            rows=part.rows,
        )

    def _failed(self, requests: Sequence[_Request], part: Part) -> list[records.DeadLetter]:
        return [
            codec.dead_letter("scoring", requests[row - part.first][0], reason)
            for row, reason in part.scored.failed.items()
            if row in part.rows
        ]

    def _observe_stages(self, stages: Iterable[Stage]) -> None:
        for each in stages:
            seconds = (each.ended_ns - each.began_ns) / 1e9
            metrics.SCORING_STAGE_DURATION.labels(self._scorer.name, each.name).observe(seconds)

    def _observe(self, letters: Sequence[records.DeadLetter], seconds: float) -> None:
        self._duration.observe(seconds)
        for letter in letters:
            metrics.DEAD_LETTERS.labels("scoring", letter.topic).inc()

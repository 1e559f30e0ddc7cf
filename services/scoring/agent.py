"""The Faust agent of one model: slices of requests in, predictions out.

Delivery: a slice is acknowledged after its predictions and dead letters are acknowledged by the
broker. After a crash the slices since the last commit are scored again; their predictions carry the
same source offsets, so consumers drop them (`streams.codec.RepeatFilter`). Predictions keep the
partition number and order of their requests, and heartbeats travel with them.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from services import telemetry
from services.scoring.engine import Scorer, count_answers, to_predictions
from services.scoring.following import ModelFollower
from services.tracing import Traces, Tracing, carrying, noted_stages, stage
from streams import codec, records, topics
from streams.batches import Slice
from streams.cloud_events import Envelope
from streams.producer import BatchProducer, Record


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
    ) -> None:
        """Take the collaborators; larger records become dead letters."""
        self._scorer = scorer
        self._follower = follower
        self._producer = producer
        self._record_bytes_max = record_bytes_max
        self._is_replay = scorer.declaration.features.wait_seconds > 0
        self._tracing = tracing
        self._topic = topics.predictions(scorer.name)
        self._envelope = Envelope("scoring", scorer.name, enabled=cloud_events)

    async def write_predictions(self, slice_: Slice) -> None:
        """Receive, decode, score, write; acknowledge when the broker has acknowledged all."""
        with noted_stages() as stages:
            traces = await self._write(slice_)
        for each in stages:
            seconds = (each.ended_ns - each.began_ns) / 1e9
            telemetry.SCORING_STAGE_DURATION.labels(self._scorer.name, each.name).observe(seconds)
        self._tracing.end(traces, stages, self._scorer.name, slice_.partition)

    async def _write(self, slice_: Slice) -> Traces:
        began, began_ns = time.perf_counter(), time.time_ns()
        with stage("decode"):
            requests, letters, watermark_ms = self._decode(slice_)
        traces = self._tracing.begin(requests, began_ns)
        batch: list[Record] = []
        if requests:
            predictions, failed = await self._score(requests, slice_)
            letters += failed
            keys = {record.offset: record.key for record, _ in requests}
            batch = self._records(keys, predictions, traces)
        if watermark_ms is not None:
            batch.append((None, None, codec.heartbeat(watermark_ms)))
        with stage("write"):
            await self._producer.send_dead_letters(letters)
            if batch:
                await self._producer.send(self._topic, slice_.partition, batch)
        slice_.ack()
        self._observe(letters, time.perf_counter() - began)
        return traces

    def _decode(self, slice_: Slice) -> tuple[list[tuple[Any, Any]], list[records.DeadLetter], int | None]:
        decode, bytes_max = self._scorer.decoder.decode, self._record_bytes_max
        requests, letters, watermark_ms = [], [], None
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
                codec.check_event_time(self._scorer.event_time_ms(event), record.timestamp)
                requests.append((record, event))
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

    async def _score(
        self, requests: Sequence[tuple[Any, Any]], slice_: Slice
    ) -> tuple[list[records.Prediction], list[records.DeadLetter]]:
        if self._is_replay:  # which is exact only if each model change precedes the requests it is for
            await self._follower.catch_up(self._scorer.name)
        scored = await self._scorer.score([event for _, event in requests], replay=self._is_replay)
        offsets = [record.offset for record, _ in requests]
        now_ms = time.time_ns() // 1_000_000
        predictions = to_predictions(
            scored,
            self._scorer.task,
            self._scorer.name,
            partition=slice_.partition,
            offsets=offsets,
            now_ms=now_ms,
        )
        count_answers(self._scorer.name, scored)
        telemetry.EVENT_AGE.labels(self._scorer.name).set(
            now_ms / 1000 - int(scored.event_times_ms[-1]) / 1000
        )
        return predictions, [
            codec.dead_letter("scoring", requests[row][0], reason) for row, reason in scored.failed.items()
        ]

    def _observe(self, letters: Sequence[records.DeadLetter], seconds: float) -> None:
        telemetry.PREDICTION_DURATION.labels(self._scorer.name, "kafka").observe(seconds)
        for letter in letters:
            telemetry.DEAD_LETTERS.labels("scoring", letter.topic).inc()

"""The tables: their columns, and how records become rows. Pure."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from services.monitoring import inference_log
from streams import records
from streams.codec import KafkaRecord


class DecodedRecord(NamedTuple):
    """A record of Kafka with what was decoded from it: of a heartbeat the time that it promises."""

    record: KafkaRecord
    decoded: Any


@dataclasses.dataclass(frozen=True)
class Table:
    """One Delta table."""

    name: str
    schema: pa.Schema
    partition_by: str
    """Topic or model: readers ask for one of these, and each is a handful of files a commit."""
    decode: Callable[[bytes], Any]
    """Raises `msgspec.DecodeError`. With ``repeats``: has ``source_partition`` and ``source_offset``."""
    columns: Callable[[Sequence[DecodedRecord]], list[Sequence[Any]]]
    repeats: bool
    """Whether the topic itself can hold a record twice."""
    heartbeats: bool = False
    """Whether heartbeats are rows, too: without them nobody can tell later which events were late."""

    def batch(self, rows: Sequence[DecodedRecord]) -> pa.Table:
        """Return the rows as columns of the schema."""
        columns = self.columns(rows)
        return pa.Table.from_arrays(
            [pa.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)],
            schema=self.schema,
        )


def split_features(features: Sequence[records.FeatureValue]) -> tuple[list[float | None], list[str | None]]:
    """Split a row of mixed values into numbers and texts, both as long as the row.

    >>> split_features([7, "UA", None, True])
    ([7.0, None, None, 1.0], [None, 'UA', None, None])
    """
    return (
        [None if value is None or value.__class__ is str else float(value) for value in features],
        [value if value.__class__ is str else None for value in features],
    )


def _event_columns(rows: Sequence[DecodedRecord]) -> list[Sequence[Any]]:
    found = [row.record for row in rows]
    return [
        [record.topic for record in found],
        [record.partition for record in found],
        [record.offset for record in found],
        [record.timestamp for record in found],
        [record.key for record in found],
        [record.value for record in found],
        [row.decoded if row.record.value is None else None for row in rows],
    ]


def _prediction_columns(rows: Sequence[DecodedRecord]) -> list[Sequence[Any]]:
    found: list[records.Prediction] = [row.decoded for row in rows]
    features = [split_features(prediction.features) for prediction in found]
    return [
        [prediction.model for prediction in found],
        [row.record.partition for row in rows],
        [row.record.offset for row in rows],
        [prediction.prediction_id for prediction in found],
        [prediction.version for prediction in found],
        [prediction.arm for prediction in found],
        [prediction.arm_weight for prediction in found],
        [prediction.event_time_ms for prediction in found],
        [prediction.scored_time_ms for prediction in found],
        [prediction.source_partition for prediction in found],
        [prediction.source_offset for prediction in found],
        [numbers for numbers, _ in features],
        [texts for _, texts in features],
        [prediction.features_lag_ms for prediction in found],
        [prediction.score for prediction in found],
        [None if p.prediction is None else msgspec.json.encode(p.prediction).decode() for p in found],
        [list(prediction.shadow_scores.items()) for prediction in found],
    ]


def _outcome_columns(rows: Sequence[DecodedRecord]) -> list[Sequence[Any]]:
    found: list[records.Outcome] = [row.decoded for row in rows]
    return [
        [outcome.model for outcome in found],
        [row.record.partition for row in rows],
        [row.record.offset for row in rows],
        [outcome.prediction_id for outcome in found],
        [outcome.version for outcome in found],
        [outcome.arm for outcome in found],
        [outcome.event_time_ms for outcome in found],
        [outcome.label_time_ms for outcome in found],
        [outcome.source_partition for outcome in found],
        [outcome.source_offset for outcome in found],
        [outcome.label for outcome in found],
        [outcome.score for outcome in found],
        [outcome.loss for outcome in found],
        [list(outcome.shadow_scores.items()) for outcome in found],
    ]


EVENTS = Table(
    name=inference_log.EVENTS,
    schema=pa.schema(
        [
            ("topic", pa.string()),
            ("partition", pa.int32()),
            ("offset", pa.int64()),
            ("timestamp_ms", pa.int64()),
            ("key", pa.binary()),
            ("value", pa.binary()),
            ("watermark_ms", pa.int64()),  # of a heartbeat, whose value is null
        ]
    ),
    partition_by="topic",
    decode=lambda value: value,
    columns=_event_columns,
    repeats=False,
    heartbeats=True,
)
PREDICTIONS = Table(
    name=inference_log.PREDICTIONS,
    schema=pa.schema(
        [
            ("model", pa.string()),
            ("partition", pa.int32()),
            ("offset", pa.int64()),
            ("prediction_id", pa.string()),
            ("version", pa.int32()),
            ("arm", pa.string()),
            ("arm_weight", pa.int32()),
            ("event_time_ms", pa.int64()),
            ("scored_time_ms", pa.int64()),
            ("source_partition", pa.int32()),
            ("source_offset", pa.int64()),
            ("features_number", pa.list_(pa.float64())),
            ("features_text", pa.list_(pa.string())),
            ("features_lag_ms", pa.int64()),
            ("score", pa.float64()),
            ("prediction", pa.string()),  # as JSON: its type is the task's
            ("shadow_scores", pa.map_(pa.string(), pa.float64())),
        ]
    ),
    partition_by="model",
    decode=records.decoder_of(records.Prediction).decode,
    columns=_prediction_columns,
    repeats=True,
)
OUTCOMES = Table(
    name=inference_log.OUTCOMES,
    schema=pa.schema(
        [
            ("model", pa.string()),
            ("partition", pa.int32()),
            ("offset", pa.int64()),
            ("prediction_id", pa.string()),
            ("version", pa.int32()),
            ("arm", pa.string()),
            ("event_time_ms", pa.int64()),
            ("label_time_ms", pa.int64()),
            ("source_partition", pa.int32()),
            ("source_offset", pa.int64()),
            ("label", pa.float64()),
            ("score", pa.float64()),
            ("loss", pa.float64()),
            ("shadow_scores", pa.map_(pa.string(), pa.float64())),
        ]
    ),
    partition_by="model",
    decode=records.decoder_of(records.Outcome).decode,
    columns=_outcome_columns,
    repeats=True,
)
ALL = (EVENTS, PREDICTIONS, OUTCOMES)

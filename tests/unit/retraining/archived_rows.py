"""The archive of a model's predictions and outcomes, as Delta tables in a folder."""

from typing import Any

from services.archive import row_schemas
from services.archive.delta_writer import DeltaWriter
from services.archive.row_schemas import DecodedRecord
from services.runtime.settings import Settings
from streams import records, topics
from tests.unit.archive.kafka_records import Record

MODEL = "arrival_delay"


def prediction(
    key: str, event_time_ms: int, features: list[records.FeatureValue], digest: str = ""
) -> records.Prediction:
    return records.Prediction(
        prediction_id=key,
        model=MODEL,
        version=0,
        arm="collecting",
        arm_weight=10_000,
        event_time_ms=event_time_ms,
        scored_time_ms=0,
        source_partition=0,
        source_offset=event_time_ms,
        features=features,
        features_lag_ms=None,
        score=None,
        prediction=None,
        feature_set=digest,
    )


def outcome(key: str, event_time_ms: int, label: float = 1.0) -> records.Outcome:
    return records.Outcome(
        prediction_id=key,
        model=MODEL,
        version=0,
        arm="collecting",
        event_time_ms=event_time_ms,
        label_time_ms=event_time_ms + 100,
        source_partition=0,
        source_offset=event_time_ms,
        label=label,
        score=None,
        loss=None,
    )


def write(settings: Settings, table: row_schemas.Table, topic: str, found: list[Any]) -> None:
    rows = [DecodedRecord(Record(offset, b"", topic=topic), each) for offset, each in enumerate(found)]
    DeltaWriter(settings, table).append(rows, {(topic, 0): len(rows)})


def archive(
    settings: Settings, predictions: list[records.Prediction], outcomes: list[records.Outcome]
) -> None:
    write(settings, row_schemas.PREDICTIONS, topics.predictions(MODEL), predictions)
    write(settings, row_schemas.OUTCOMES, topics.outcomes(MODEL), outcomes)

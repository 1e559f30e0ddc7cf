"""Finds a prediction and its outcome by the id of the request: in the archive, else in the topic."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from services.monitoring import inference_log
from services.runtime import kafka_consumers
from services.runtime.kafka_consumers import MissingTopicError
from services.runtime.settings import Settings
from streams import records, topics
from streams.json_decoder import InvalidRecordError
from streams.records import FeatureValue, Prediction

if TYPE_CHECKING:
    from kafka import KafkaConsumer

_decode = records.decoder_of(Prediction).decode


class FoundPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction as it was given."""

    prediction_id: str
    model: str
    version: int
    arm: str
    arm_weight: int
    event_time_ms: int
    scored_time_ms: int
    features: list[FeatureValue]
    features_lag_ms: int | None
    score: float | None
    prediction: FeatureValue
    feature_set: str
    place: str
    """``archive``, or topic, partition and offset."""


class FoundOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The latest label of a prediction."""

    label: float
    label_time_ms: int
    loss: float | None
    cost: float | None
    class_name: str | None
    correction: int | None


_PREDICTIONS = """
SELECT prediction_id, model, version, arm, arm_weight, event_time_ms, scored_time_ms, features_number,
    features_text, features_lag_ms, score, prediction, coalesce(feature_set, '')
FROM predictions WHERE prediction_id = ? AND model = ? ORDER BY event_time_ms, scored_time_ms
"""
_OUTCOMES = """
SELECT label, label_time_ms, loss, cost, class_name, correction
FROM outcomes WHERE prediction_id = ? AND model = ? AND event_time_ms = ?
ORDER BY coalesce(correction, 0) DESC LIMIT 1
"""


def predictions(settings: Settings, model: str, prediction_id: str) -> list[FoundPrediction]:
    """Return the predictions of a model for one request, by event time.

    Raises:
        KafkaError: The broker cannot be reached.
    """
    found = [*_archived(settings, model, prediction_id), *_recent(settings, model, prediction_id)]
    return sorted(found, key=lambda each: (each.event_time_ms, each.scored_time_ms))


def outcome(settings: Settings, found: FoundPrediction) -> FoundOutcome | None:
    """Return the latest label of a prediction in the archive; None without one."""
    opened = inference_log.tables(settings)
    if inference_log.OUTCOMES not in opened:
        return None
    with inference_log.connect(settings, opened) as log:
        row = log.execute(_OUTCOMES, [found.prediction_id, found.model, found.event_time_ms]).fetchone()
    return (
        None if row is None else FoundOutcome(**dict(zip(FoundOutcome.__struct_fields__, row, strict=True)))
    )


def _archived(settings: Settings, model: str, prediction_id: str) -> Iterator[FoundPrediction]:
    opened = inference_log.tables(settings)
    if inference_log.PREDICTIONS not in opened:
        return
    with inference_log.connect(settings, opened) as log:
        rows = log.execute(_PREDICTIONS, [prediction_id, model]).fetchall()
    for *start, numbers, texts, lag_ms, score, prediction, feature_set in rows:
        yield FoundPrediction(
            **dict(zip(FoundPrediction.__struct_fields__[:7], start, strict=True)),
            features=[number if text is None else text for number, text in zip(numbers, texts, strict=True)],
            features_lag_ms=lag_ms,
            score=score,
            prediction=None if prediction is None else msgspec.json.decode(prediction),
            feature_set=feature_set,
            place="archive",
        )


def _recent(settings: Settings, model: str, prediction_id: str) -> Iterator[FoundPrediction]:
    """Yield what the topic has beyond the archive."""
    topic = topics.predictions(model)
    consumer = kafka_consumers.connect(settings, "explain-prediction")
    try:
        yield from _matching(settings, consumer, topic, prediction_id)
    except MissingTopicError:
        return
    finally:
        consumer.close(timeout_ms=kafka_consumers.CLOSE_MS)


def _matching(
    settings: Settings, consumer: "KafkaConsumer", topic: str, prediction_id: str
) -> Iterator[FoundPrediction]:
    from kafka import TopicPartition

    count = kafka_consumers.partition_count(consumer, topic)
    partitions = [TopicPartition(topic, number) for number in range(count)]
    archived = inference_log.positions(settings, inference_log.PREDICTIONS, {topic: range(count)})[topic]
    begins = consumer.beginning_offsets(partitions)
    consumer.assign(partitions)
    for partition in partitions:
        consumer.seek(partition, max(begins[partition], archived[partition.partition]))
    quoted = msgspec.json.encode(prediction_id)
    for record in kafka_consumers.read_to_end(consumer, partitions):
        if record.value is None or quoted not in record.value:  # few need to be decoded
            continue
        try:
            decoded = _decode(record.value)
        except InvalidRecordError:
            continue
        if decoded.prediction_id == prediction_id:
            yield _found(decoded, f"{topic}, partition {record.partition}, offset {record.offset}")


def _found(decoded: Prediction, place: str) -> FoundPrediction:
    names = [name for name in FoundPrediction.__struct_fields__ if name != "place"]
    return FoundPrediction(**{name: getattr(decoded, name) for name in names}, place=place)

"""The kinds of records in each topic, and their encoding."""

from typing import Any

import msgspec

from streams.json_decoder import JsonDecoder
from streams.records.alarms import DriftAlarm, Notified, Silence
from streams.records.drift_reports import DriftReport
from streams.records.model_changes import FeatureSet, ModelChanged
from streams.records.performance_reports import PerformanceReport
from streams.records.retrainings import RetrainingFinished, RetrainingRequested
from streams.records.rollouts import RolloutEnded, RolloutRequested, RolloutStarted, RolloutStepped

ModelsRecord = ModelChanged | FeatureSet
DriftRecord = DriftReport | DriftAlarm | PerformanceReport
AlertRecord = Notified | Silence
RetrainingRecord = RetrainingRequested | RetrainingFinished
RolloutRecord = RolloutRequested | RolloutStarted | RolloutStepped | RolloutEnded
_ENCODER = msgspec.json.Encoder()


def encode(record: msgspec.Struct) -> bytes:
    """Encode any record as JSON."""
    return _ENCODER.encode(record)


def decoder_of(kind: Any) -> JsonDecoder[Any]:
    """Make a reusable strict decoder for a record type or a union of tagged ones."""
    return JsonDecoder(kind)

"""Every record that Driftline writes to Kafka, as JSON.

Times are milliseconds since the epoch in UTC. "Event time" is when something happened in the world,
"wall time" is when a process handled it. Records of different kinds in one topic carry their kind in the
field ``type``. Fields are only added, and have a default: an old record can always be decoded.
"""

from streams.records.alarms import Alert, DriftAlarm, Notified, Severity, Silence
from streams.records.arm_figures import (
    ArmFigures,
    CallTimes,
    LossDifference,
    LossSums,
    MeasureFigures,
    RequestSums,
)
from streams.records.dead_letters import DeadLetter, ReplayMark
from streams.records.drift_reports import (
    Bins,
    ConfidenceDrift,
    Contribution,
    DriftReport,
    FeatureDrift,
    FeatureQuality,
    PairDrift,
    RelationDrift,
    SegmentDrift,
    ValueStatistics,
)
from streams.records.erasures import Erasure
from streams.records.field_types import ASKED_OVER_HTTP, FeatureValue, Int32, Int64, TimeMs
from streams.records.ledger_entries import LedgerEntry
from streams.records.model_changes import (
    Arm,
    FeatureSet,
    LearnedModel,
    LearnedSpan,
    ModelChanged,
    ReferenceName,
)
from streams.records.performance_reports import CostAccount, Figure, PerformanceReport, SegmentPerformance
from streams.records.predictions import FeatureRow, Label, Outcome, Prediction
from streams.records.references import FeatureReference, IndicatorReference, PairReference, Reference
from streams.records.retrainings import RetrainingFinished, RetrainingRequested, Trigger
from streams.records.rollouts import (
    GuardrailFigures,
    RolloutEnded,
    RolloutOutcome,
    RolloutRequested,
    RolloutStarted,
    RolloutStepped,
)
from streams.records.wire_format import (
    AlertRecord,
    DriftRecord,
    ModelsRecord,
    RetrainingRecord,
    RolloutRecord,
    decoder_of,
    encode,
)

__all__ = [
    "ASKED_OVER_HTTP",
    "Alert",
    "AlertRecord",
    "Arm",
    "ArmFigures",
    "Bins",
    "CallTimes",
    "ConfidenceDrift",
    "Contribution",
    "CostAccount",
    "DeadLetter",
    "DriftAlarm",
    "DriftRecord",
    "DriftReport",
    "Erasure",
    "FeatureDrift",
    "FeatureQuality",
    "FeatureReference",
    "FeatureRow",
    "FeatureSet",
    "FeatureValue",
    "Figure",
    "GuardrailFigures",
    "IndicatorReference",
    "Int32",
    "Int64",
    "Label",
    "LearnedModel",
    "LearnedSpan",
    "LedgerEntry",
    "LossDifference",
    "LossSums",
    "MeasureFigures",
    "ModelChanged",
    "ModelsRecord",
    "Notified",
    "Outcome",
    "PairDrift",
    "PairReference",
    "PerformanceReport",
    "Prediction",
    "Reference",
    "ReferenceName",
    "RelationDrift",
    "ReplayMark",
    "RequestSums",
    "RetrainingFinished",
    "RetrainingRecord",
    "RetrainingRequested",
    "RolloutEnded",
    "RolloutOutcome",
    "RolloutRecord",
    "RolloutRequested",
    "RolloutStarted",
    "RolloutStepped",
    "SegmentDrift",
    "SegmentPerformance",
    "Severity",
    "Silence",
    "TimeMs",
    "Trigger",
    "ValueStatistics",
    "decoder_of",
    "encode",
]

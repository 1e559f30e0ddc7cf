"""The declaration of a model, ``models/<name>/model.yaml``, decoded strictly.

An error names file, line and column; all errors are reported at once.
"""

from services.runtime.declaration.alerts import ALERT_KINDS, AlertRoute, Alerts
from services.runtime.declaration.application_topics import ApplicationTopic, LabelTopic, RequestTopic
from services.runtime.declaration.business import Business
from services.runtime.declaration.features import Features, MissingValues
from services.runtime.declaration.gates import (
    LOSSES,
    MEASURES,
    CalibrationGate,
    FairnessGate,
    Gates,
    LatencyGate,
    MeasureLimit,
    SegmentGate,
)
from services.runtime.declaration.governance import Governance
from services.runtime.declaration.learning import (
    INTERVALS_AHEAD_MAX,
    REFERENCE_ROWS_MIN,
    Learning,
    LearningGates,
    LearningReference,
)
from services.runtime.declaration.limits import Limits
from services.runtime.declaration.model import EACH_ALONE, MULTICLASS_MIN, ModelDeclaration, learning_models
from services.runtime.declaration.monitoring import (
    LATE_WINDOWS_MAX,
    Detector,
    Monitoring,
    Part,
    QualityBounds,
)
from services.runtime.declaration.objectives import (
    LATENCY_BOUNDS_MS,
    AccuracyObjective,
    LatencyObjective,
    Objective,
    Slo,
)
from services.runtime.declaration.retraining import ParameterSearch, Retraining
from services.runtime.declaration.rollout import Guardrails, Rollout, RolloutStep
from services.runtime.declaration.strict import (
    DAY_MS,
    FILE,
    HOUR_MS,
    MONTH_MS,
    SECOND_HOURS,
    DeclarationError,
)

__all__ = [
    "ALERT_KINDS",
    "DAY_MS",
    "EACH_ALONE",
    "FILE",
    "HOUR_MS",
    "INTERVALS_AHEAD_MAX",
    "LATENCY_BOUNDS_MS",
    "LATE_WINDOWS_MAX",
    "LOSSES",
    "MEASURES",
    "MONTH_MS",
    "MULTICLASS_MIN",
    "REFERENCE_ROWS_MIN",
    "SECOND_HOURS",
    "AccuracyObjective",
    "AlertRoute",
    "Alerts",
    "ApplicationTopic",
    "Business",
    "CalibrationGate",
    "DeclarationError",
    "Detector",
    "FairnessGate",
    "Features",
    "Gates",
    "Governance",
    "Guardrails",
    "LabelTopic",
    "LatencyGate",
    "LatencyObjective",
    "Learning",
    "LearningGates",
    "LearningReference",
    "Limits",
    "MeasureLimit",
    "MissingValues",
    "ModelDeclaration",
    "Monitoring",
    "Objective",
    "ParameterSearch",
    "Part",
    "QualityBounds",
    "RequestTopic",
    "Retraining",
    "Rollout",
    "RolloutStep",
    "SegmentGate",
    "Slo",
    "learning_models",
]

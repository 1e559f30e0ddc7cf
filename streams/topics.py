"""Every internal topic: name, key, record, producer, consumers, retention.

The topics of the applications (requests, labels, events) are declared by model.yaml and by the Feast
repository.
"""

import dataclasses
import re

MESSAGE_BYTES_MAX = "max.message.bytes"
"""The broker's name of a topic's limit for a record, with Kafka's overhead of some 80 bytes."""
DAY_MS = 86_400_000
RECORD_BYTES_MAX = 1 << 20
"""Default of the setting ``record_bytes_max``: the maximum size of a record of an application."""
PREFIX = "driftline."
"""How the names of all internal topics begin."""
STATE_PARTITIONS = 32
"""Partitions of the topics of snapshots, which workers share: more than workers of one kind."""
OVERHEAD_BYTES = 64 << 10
"""Room for what a record of ours holds besides that of an application: headers, identities, Kafka's own."""


@dataclasses.dataclass(frozen=True)
class InternalTopic:
    """One topic. ``partitions`` None: as many as the topic that it follows, partition by partition."""

    name: str
    key: str
    record: str
    producer: str
    consumers: tuple[str, ...]
    partitions: int | None = 1
    retention_ms: int = 30 * DAY_MS
    """-1: unlimited."""
    compacted: bool = False
    bytes_min: int = 1 << 20
    """Least limit for a record."""
    grows: bool = False
    """Whether an existing topic with fewer partitions gets more: readers look for a key in all of them."""
    copies: int = 0
    """How many records of applications a record of this topic may hold: the limit is at least this many times
    the setting ``record_bytes_max``. A text may take more room in JSON than in its record."""

    def message_bytes_max(self, record_bytes_max: int = RECORD_BYTES_MAX) -> int:
        """Return the topic's limit for a record, given that for records of applications."""
        needed_bytes = self.copies * record_bytes_max + OVERHEAD_BYTES if self.copies else 0
        return max(self.bytes_min, needed_bytes)

    def config(self, record_bytes_max: int = RECORD_BYTES_MAX) -> dict[str, str]:
        """Return the broker's settings for this topic, given the limit for records of applications."""
        return {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "retention.ms": str(self.retention_ms),
            MESSAGE_BYTES_MAX: str(self.message_bytes_max(record_bytes_max)),
        }


PREDICTIONS = InternalTopic(
    name="driftline.predictions.{model}",
    key="the request's key",
    record="Prediction",
    producer="scoring",
    consumers=("drift", "learning", "rollout", "archive", "demo", "applications"),
    partitions=None,
    copies=2,
)
OUTCOMES = InternalTopic(
    name="driftline.outcomes.{model}",
    key="prediction_id",
    record="Outcome",
    producer="drift",
    consumers=("archive", "demo"),
    partitions=None,
    copies=1,
)
DRIFT = InternalTopic(
    name="driftline.drift",
    key="model",
    record="DriftReport | DriftAlarm | PerformanceReport",
    producer="drift",
    consumers=("dashboard", "alerting", "demo"),
    bytes_min=8 << 20,
)
RETRAINING = InternalTopic(
    name="driftline.retraining",
    key="model",
    record="RetrainingRequested | RetrainingFinished",
    producer="drift, retraining, demo (bootstrap), operators (retrain)",
    consumers=("retraining", "rollout", "drift", "archive", "dashboard", "alerting", "demo"),
    retention_ms=-1,
)
ROLLOUTS = InternalTopic(
    name="driftline.rollouts",
    key="model",
    record="RolloutRequested | RolloutStarted | RolloutStepped | RolloutEnded",
    producer="rollout, operators",
    consumers=("rollout", "drift", "retraining", "operators"),
    retention_ms=-1,
)
MODELS = InternalTopic(
    name="driftline.models",
    key="model, or model/features/digest",
    record="ModelChanged | FeatureSet",
    producer="retraining, learning, rollout, scoring (FeatureSet), operators",
    consumers=("scoring", "drift", "learning", "retraining", "rollout", "dashboard", "alerting", "demo"),
    compacted=True,
    bytes_min=16 << 20,
)
REFERENCES = InternalTopic(
    name="driftline.references",
    key="model/number, where versions take turns",
    record="a reference that is too large for driftline.models, compressed and in parts; see "
    "services/model_registry/large_references.py",
    producer="retraining, rollout",
    consumers=("drift",),
    compacted=True,
)
ALERTS = InternalTopic(
    name="driftline.alerts",
    key="notified/destination/alert, or silence/id",
    record="Notified | Silence",
    producer="alerting, operators (silences)",
    consumers=("alerting", "operators"),
    compacted=True,
)
LEDGER = InternalTopic(
    name="driftline.ledger",
    key="model",
    record="LedgerEntry",
    producer="retraining, rollout, learning, operators",
    consumers=("archive", "rollout", "operators"),
    retention_ms=-1,
    bytes_min=8 << 20,
)
DRIFT_STATE = InternalTopic(
    name="driftline.drift-state",
    key="model",
    record="the snapshot of a model in drift with its offsets, a large one in parts; see "
    "services/runtime/large_records.py",
    producer="drift",
    consumers=("drift",),
    partitions=STATE_PARTITIONS,
    compacted=True,
    grows=True,
)
LEARNING_STATE = InternalTopic(
    name="driftline.learning-state",
    key="model",
    record="the checkpoint of a model that learns, with its offsets; a large one in parts",
    producer="learning",
    consumers=("learning",),
    partitions=STATE_PARTITIONS,
    compacted=True,
    grows=True,
)
ROLLOUT_STATE = InternalTopic(
    name="driftline.rollout-state",
    key="model",
    record="the evidence of a model's rollout, with its offsets; a large one in parts",
    producer="rollout",
    consumers=("rollout",),
    partitions=STATE_PARTITIONS,
    compacted=True,
    grows=True,
)
LEARNED = InternalTopic(
    name="driftline.learned",
    key="model/number of a place",
    record="LearnedModel; a large one in parts",
    producer="learning",
    consumers=("learning", "scoring"),
    compacted=True,
)
DEAD_LETTERS = InternalTopic(
    name="driftline.dead-letters",
    key="topic of the failed record",
    record="DeadLetter; ReplayMark in a header",
    producer="features, scoring, drift, learning, rollout, dead-letters replay",
    consumers=("dead-letters list and replay", "demo", "operators"),
    retention_ms=-1,
    bytes_min=8 << 20,
    copies=2,
)
ERASURES = InternalTopic(
    name="driftline.erasures",
    key="erasure",
    record="Erasure",
    producer="operators (erase)",
    consumers=("features", "operators"),
    compacted=True,
)
FEATURE_LOG = InternalTopic(
    name="driftline.features",
    key="view",
    record="FeatureRow",
    producer="features",
    consumers=("operators",),
    partitions=4,
    copies=2,
)
REPARTITION = InternalTopic(
    name="driftline.repartition.{view}",
    key="the view's entity",
    record="the source event, unchanged",
    producer="features",
    consumers=("features",),
    partitions=None,
    retention_ms=7 * DAY_MS,
    copies=2,
)
LATE = InternalTopic(
    name="driftline.late.{view}",
    key="the source event's own",
    record="the source event, unchanged",
    producer="features",
    consumers=("operators",),
    partitions=None,
    copies=2,
)

ALL = (
    PREDICTIONS,
    OUTCOMES,
    DRIFT,
    RETRAINING,
    ROLLOUTS,
    MODELS,
    REFERENCES,
    ALERTS,
    LEDGER,
    DRIFT_STATE,
    LEARNING_STATE,
    ROLLOUT_STATE,
    LEARNED,
    DEAD_LETTERS,
    ERASURES,
    FEATURE_LOG,
    REPARTITION,
    LATE,
)


WRITTEN_BY_FEATURES = (DEAD_LETTERS, FEATURE_LOG, REPARTITION, LATE)
"""What the features process makes of the records that it reads: as a source they would have no end."""


def check_name(name: str) -> None:
    """Raise ValueError unless Kafka accepts this name of a topic."""
    if not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", name) or name in (".", ".."):
        raise ValueError(
            f"{name!r} is not a valid topic name: Kafka accepts 1 to 249 letters, digits, '.', '_' and '-'"
        )


def check_application_topic(name: str) -> None:
    """Raise ValueError unless this may be the topic of the requests or labels of a model.

    A process that reads its own records would never finish.
    """
    check_name(name)
    if name.startswith(PREFIX):
        raise ValueError(
            f"{name!r} is a name of Driftline's own topics, which all begin with {PREFIX!r}: "
            "write requests and labels to another topic"
        )


def check_source_topic(name: str) -> None:
    """Raise ValueError unless this may be the source of a feature view: see `WRITTEN_BY_FEATURES`."""
    check_name(name)
    for topic in WRITTEN_BY_FEATURES:
        start, variable, _ = topic.name.partition("{")
        if name == topic.name or (variable and name.startswith(start)):
            raise ValueError(f"{name!r} is a topic that features writes: it cannot be a source as well")


def predictions(model: str) -> str:
    """Name the predictions topic of a model."""
    return PREDICTIONS.name.format(model=model)


def outcomes(model: str) -> str:
    """Name the outcomes topic of a model."""
    return OUTCOMES.name.format(model=model)


def model_of(topic: str) -> str:
    """Return the model of a topic of predictions or outcomes.

    >>> model_of(outcomes("fraud"))
    'fraud'
    """
    return topic.rpartition(".")[2]


def repartition(view: str) -> str:
    """Name the topic of a view's events with the view's entity as key."""
    return REPARTITION.name.format(view=view)


def late(view: str) -> str:
    """Name the topic of the events that were too late for a view."""
    return LATE.name.format(view=view)

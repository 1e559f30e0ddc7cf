"""A small project as a user writes one: a model of payments with its training code and Feast repository."""

from pathlib import Path

MODEL_FILE = "models/fraud/model.yaml"
TRAINING_FILE = "models/fraud/training.py"
DEFINITIONS_FILE = "feature_repo/definitions.py"
STORE_FILE = "feature_repo/feature_store.yaml"
MODEL = """\
name: fraud
owner: payments@example.org
task: binary
threshold: 0.7
request:
  topic: payments
  id: payment_id
  event_time: paid_at
  key: user
  schema:
    payment_id: string
    paid_at: timestamp
    user: string
    amount: float
    device: string
    country: string?
features:
  service: fraud
  from_request: [amount, device, country]
  missing:
    fill: {country: unknown}
label:
  topic: chargebacks
  id: payment_id
  event_time: known_at
  value: fraud
  positive_above: 0
  horizon_hours: 480
  schema: {payment_id: string, known_at: timestamp, fraud: int, reason: string}
monitoring:
  window_hours: 24
  psi_threshold: 0.2
  season: {spent_1h: [hour]}
  quality:
    amount: {min: 0, max: 100000}
  segments: [device]
  detectors: [adwin]
business:
  unit: EUR
  costs:
    0: {0: 0, 1: 80}
    1: {0: 2, 1: 0}
retraining:
  minimum_labels: 2000
  search: {trials: 10}
gates:
  metric: log_loss
  floor: 0.3
  limits:
    average_precision: {min: 0.2}
  segments: {tolerance: 0.05}
  fairness: {groups: [country]}
slo:
  latency: {objective: 0.99, within_ms: 250}
rollout:
  keep_first_as_shadow: first
  steps:
    - {share: shadow}
    - {share: 5%}
    - {share: 25%}
  guardrails:
    loss: {margin: 0.02}
alerts:
  routes:
    - {to: oncall, kinds: [loss], minimum_severity: critical}
    - {to: team, segments: [device=phone]}
governance:
  risk: limited
  approval: required
  intended_use: Stops payments that will be charged back.
"""
TRAINING = '''\
"""The estimator of fraud."""

from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder


def estimator(categorical: list[str], numeric: list[str]) -> Any:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer([("codes", codes, categorical), ("numbers", "passthrough", numeric)])
    return Pipeline([("columns", columns), ("trees", HistGradientBoostingClassifier())])


def search_space(trial: Any) -> dict[str, Any]:
    return {"trees__learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3)}
'''
DEFINITIONS = """\
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, KafkaSource
from feast import StreamFeatureView, ValueType
from feast.aggregation import Aggregation
from feast.data_format import JsonFormat
from feast.types import Float64, Int64, String

user = Entity(name="user", join_keys=["user"], value_type=ValueType.STRING)

payments = KafkaSource(
    name="payments",
    topic="payments",
    timestamp_field="paid_at",
    message_format=JsonFormat(
        schema_json="payment_id string not null, paid_at timestamp not null, "
        "user string not null, amount double"
    ),
    watermark_delay_threshold=timedelta(0),
    batch_source=FileSource(name="spending_past", path="spending.parquet", timestamp_field="paid_at"),
    tags={"message_key": "user"},
)

spending = StreamFeatureView(
    name="spending",
    entities=[user],
    source=payments,
    timestamp_field="paid_at",
    aggregations=[
        Aggregation("amount", "sum", timedelta(hours=1), name="spent_1h"),
        Aggregation("amount", "count", timedelta(days=1), name="payments_1d"),
    ],
    schema=[
        Field(name="user", dtype=String),
        Field(name="spent_1h", dtype=Float64),
        Field(name="payments_1d", dtype=Int64),
    ],
    enable_tiling=True,
    tiling_hop_size=timedelta(minutes=10),
)

profiles = FeatureView(
    name="profiles",
    entities=[user],
    source=FileSource(name="profiles", path="profiles.parquet", timestamp_field="event_timestamp"),
    schema=[
        Field(name="user", dtype=String),
        Field(name="age", dtype=Int64),
        Field(name="city", dtype=String),
    ],
)

fraud = FeatureService(name="fraud", features=[spending, profiles])
"""
STORE = """\
project: payments
provider: local
registry:
  registry_type: file
  path: ${DRIFTLINE_HOME}/registry.db
online_store:
  type: redis
  connection_string: ${DRIFTLINE_ONLINE_STORE}
offline_store:
  type: dask
entity_key_serialization_version: 3
"""
FILES = {MODEL_FILE: MODEL, TRAINING_FILE: TRAINING, DEFINITIONS_FILE: DEFINITIONS, STORE_FILE: STORE}


def write(folder: Path) -> None:
    """Write the project, in which nothing is wrong."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

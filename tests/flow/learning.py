"""Small synthetic models for the tests of the archive and of retraining."""

import contextlib
import math
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from services.feature_store import plan_cache
from services.feature_store.plan import Column, FeaturePlan, ServiceFeature, ValueType, View, ViewKind
from services.operations.local_servers import ports
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import codec, records, topics
from tests.processes import Process
from tests.waiting import LIVENESS_SECONDS

PARTITIONS = 4
START_MS = 1_700_000_000_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000
ROWS = 2000
LAST_MS = START_MS + ROWS * 10 * MINUTE_MS + 2 * DAY_MS
"""By then every label of `history` is mature: about a fortnight, and one label horizon."""

Answered = tuple[records.Prediction, records.Outcome]

MODEL_YAML = """
name: {name}
owner: tests@driftline.example
task: binary
request:
  topic: {name}.requests
  id: id
  event_time: at
  schema: {{id: string, at: timestamp, x: float, colour: string?}}
features:
  service: {name}
  from_request: [x, colour]
label:
  topic: {name}.labels
  id: id
  event_time: at
  value: truth
  positive_above: 0.5
  horizon_hours: 48
  schema: {{id: string, at: timestamp, truth: float}}
monitoring:
  quality: {{colour: {{null_share_max: 0.5}}, noise: {{null_share_max: 0.2}}}}
retraining:
  cooldown_days: 2
  minimum_labels: 500
  holdout_days: 3
  effective_after_hours: 6
gates:
  floor: 0.69
  margin: 0.0
  block_hours: 12
rollout:
  keep_first_as_shadow: frozen
"""
TRAINING = """
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder


def estimator(categorical, numeric):
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=float("nan"))
    columns = ColumnTransformer([("codes", codes, categorical), ("numbers", "passthrough", numeric)])
    trees = HistGradientBoostingClassifier(
        max_iter=20, early_stopping=False, categorical_features=list(range(len(categorical))), random_state=1
    )
    return Pipeline([("columns", columns), ("trees", trees)])
"""


class World:
    """Synthetic models on real servers, under names of their own, and the processes that serve them."""

    def __init__(self, broker: str, mlflow_uri: str, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(
            broker=broker, mlflow_uri=mlflow_uri, models=folder / "models", home=folder / "home"
        )
        self.models: list[Model] = []
        self._processes: list[Process] = []
        self.producer = KafkaProducer(bootstrap_servers=broker, acks="all")
        ensure_topics(self.settings, {})

    def model(self) -> "Model":
        """Add a model. Processes know those that were there when they started."""
        made = Model(self)
        self.models.append(made)
        self._store_plan()
        ensure_topics(self.settings, load_all(self.settings.models))
        return made

    def _store_plan(self) -> None:
        registry = plan_cache.registry_path(self.settings)
        registry.parent.mkdir(parents=True, exist_ok=True)
        registry.write_bytes(b"of no importance: the plan beside it is up to date")
        view = View(
            name="noise",
            kind=ViewKind.BATCH,
            join_keys=(Column("id", ValueType.STRING),),
            features=(Column("noise", ValueType.DOUBLE),),
            ttl_ms=0,
        )
        services: dict[str, tuple[ServiceFeature, ...]] = {
            model.name: (ServiceFeature("noise", "noise"),) for model in self.models
        }
        plan_cache.store(self.settings, FeaturePlan("tests", (view,), services))

    def start(self, service: str) -> Process:
        """Start a process with a port of its own; it is killed with the world, if it still runs."""
        own = self.settings.model_copy(update={f"{service}_port": ports.free_port()})
        log = self.folder / f"{service}-{len(self._processes)}.log"
        process = Process(service, own, log=log)
        process.start()
        self._processes.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.alive:
                process.kill()
        self.producer.close()


class Model:
    """One synthetic model."""

    def __init__(self, world: World) -> None:
        self.name = f"model_{uuid.uuid4().hex[:8]}"
        self.settings = world.settings
        self.offsets: dict[str, list[int]] = {}
        """As a request for retraining names them: set by `send_rows`."""
        self.script = world.settings.models / self.name / "training.py"
        self.script.parent.mkdir(parents=True)
        self.script.write_text(TRAINING)
        (self.script.parent / "model.yaml").write_text(MODEL_YAML.format(name=self.name))
        self._producer = world.producer

    def send(self, topic: str, partition: int, value: bytes | None, headers: codec.Headers = ()) -> None:
        self._producer.send(topic, key=b"any", value=value, partition=partition, headers=list(headers))

    def send_rows(self, rows: Sequence[Answered]) -> None:
        """Send predictions and their outcomes, then heartbeats; remember the end offsets."""
        for prediction, outcome in rows:
            self.send(topics.predictions(self.name), prediction.source_partition, records.encode(prediction))
            self.send(topics.outcomes(self.name), outcome.source_partition, records.encode(outcome))
        names = (topics.predictions(self.name), topics.outcomes(self.name))
        for topic in names:
            for partition in range(PARTITIONS):
                self.send(topic, partition, None, codec.heartbeat(LAST_MS))
        self._producer.flush()
        with contextlib.closing(KafkaConsumer(bootstrap_servers=self.settings.broker)) as consumer:
            for topic in names:
                ends = consumer.end_offsets([TopicPartition(topic, n) for n in range(PARTITIONS)])
                self.offsets[topic] = [ends[TopicPartition(topic, n)] for n in range(PARTITIONS)]

    def history(self, rows: int = ROWS, *, seed: int = 1) -> list[Answered]:
        """Make rows at ten-minute intervals whose label follows ``x`` and ``colour`` with some noise."""
        chance = random.Random(seed)
        return [self._row(index, chance) for index in range(rows)]

    def _row(self, index: int, chance: random.Random) -> Answered:
        x, colour = chance.gauss(0, 1), chance.choice(["red", "green", None])
        at = START_MS + index * 10 * MINUTE_MS
        likelihood = 1 / (1 + math.exp(-(2 * x + (1 if colour == "red" else 0))))
        common: dict[str, Any] = {
            "prediction_id": f"{self.name}-{index}",
            "model": self.name,
            "version": 0,
            "arm": "collecting",
            "event_time_ms": at,
            "source_partition": index % PARTITIONS,
            "source_offset": index // PARTITIONS,
            "score": None,
        }
        features = [x, colour, chance.gauss(0, 1) if chance.random() > 0.1 else None]
        prediction = records.Prediction(
            **common,
            arm_weight=10_000,
            scored_time_ms=at,
            features=features,
            features_lag_ms=0,
            prediction=None,
        )
        label = float(chance.random() < likelihood)
        return prediction, records.Outcome(**common, label_time_ms=at + MINUTE_MS, label=label, loss=None)

    def request(
        self,
        request_id: str,
        *,
        trigger: records.Trigger = "manual",
        at_ms: int = LAST_MS,
        name: str | None = None,
    ) -> records.RetrainingRequested:
        """Ask for a retraining, of another model if named."""
        made = self.request_record(request_id, trigger=trigger, at_ms=at_ms, name=name)
        self.send(topics.RETRAINING.name, 0, records.encode(made))
        self._producer.flush()
        return made

    def request_record(
        self,
        request_id: str,
        *,
        trigger: records.Trigger = "manual",
        at_ms: int = LAST_MS,
        name: str | None = None,
    ) -> records.RetrainingRequested:
        return records.RetrainingRequested(
            request_id=f"{self.name}-{request_id}",
            model=name or self.name,
            trigger=trigger,
            requested_at_ms=at_ms,
            reason="a test asks for it",
            offsets=self.offsets,
        )


def follow(
    broker: str, topic: str, kind: Any, wanted: Callable[[Any], bool], seconds: float = LIVENESS_SECONDS
) -> Iterator[Any]:
    """Yield the wanted records of a topic from its beginning on; fail when none comes within the time."""
    decode = records.decoder_of(kind).decode
    consumer = KafkaConsumer(topic, bootstrap_servers=broker, auto_offset_reset="earliest")
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            for batch in consumer.poll(200).values():
                for record in batch:
                    decoded = None if record.value is None else decode(record.value)
                    if decoded is not None and wanted(decoded):
                        deadline = time.monotonic() + seconds
                        yield decoded
        raise AssertionError(f"no such record on {topic} within {seconds} s")
    finally:
        consumer.close()

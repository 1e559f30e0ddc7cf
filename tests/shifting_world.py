"""Applications whose stream changes: they ask for predictions of models of three tasks, and send labels.

Each model gets one number with each request. At a moment that the test chooses, the label follows the number
the other way round.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from services.feature_store import plan_cache
from services.feature_store.plan import FeaturePlan
from services.model_registry import mlflow_client, models_topic
from services.operations.local_servers import ports
from services.runtime import kafka_consumers
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from streams import records, topics
from streams.records import ModelChanged, Prediction
from tests.processes import Process
from tests.rollout_world import DECLARED, HOUR_MS, PARTITIONS, START_MS, rfc3339
from tests.waiting import until

REQUESTS_AN_HOUR = 60
PROCESSES = ("scoring", "drift", "archive", "retraining", "rollout")
LAG_MAX = 10 * REQUESTS_AN_HOUR
"""Requests without an outcome that the next hours may follow: of their last hour none has its label."""
TASKS = ("binary", "multiclass", "regression")
CLASSES = ("low", "middle", "high")
MODEL_YAML = (
    DECLARED
    + """
monitoring: {{window_hours: 6, lateness_hours: 1, block_hours: 1, loss_tolerance: 0.1}}
retraining: {{window: since_change, cooldown_days: 3, minimum_labels: 500, holdout_days: 0.5}}
gates: {{floor: {floor}, block_hours: 1}}
rollout:
  steps:
    - {{share: shadow, maximum_hours: 2000, minimum_labels: 500, passed_when: not_worse}}
    - {{share: 50%, maximum_hours: 2000}}
  guardrails: {{loss: {{margin: {margin}, maximum: {maximum}}}, errors: {{margin: 0.1}}, latency: null}}
  block_hours: 1
{classes}
"""
)
TRAINING = """
from sklearn.linear_model import LinearRegression, LogisticRegression

def estimator(categorical, numeric):
    return {estimator}()
"""


class ShiftingModel:
    """One model, its requests and its labels."""

    def __init__(self, settings: Settings, name: str, task: str, producer: KafkaProducer) -> None:
        self.name, self.task, self.settings = name, task, settings
        self.has_shifted = False
        self._producer = producer
        self._random = np.random.default_rng(TASKS.index(task))
        self._number = 0
        folder = settings.models / name
        folder.mkdir(parents=True)
        is_regression = task == "regression"
        text = MODEL_YAML.format(
            name=name,
            task=task,
            kind="string" if task == "multiclass" else "float",
            label="positive_above: 0.5" if task == "binary" else "",
            floor=20 if is_regression else 2,
            margin=1 if is_regression else 0.2,
            maximum=60 if is_regression else 4,
            classes=f"classes: [{', '.join(CLASSES)}]" if task == "multiclass" else "",
        )
        (folder / "model.yaml").write_text(text)
        estimator = "LinearRegression" if is_regression else "LogisticRegression"
        (folder / "training.py").write_text(TRAINING.format(estimator=estimator))

    def send_hour(self) -> None:
        """Send the requests of an hour, each with its label ten minutes later."""
        for _ in range(REQUESTS_AN_HOUR):
            number, self._number = self._number, self._number + 1
            at_ms = START_MS + number * HOUR_MS // REQUESTS_AN_HOUR
            identity, x = f"{self.name}-{number}", float(self._random.normal())
            asked = {"id": identity, "at": rfc3339(at_ms), "x": x}
            labelled = {"id": identity, "at": rfc3339(at_ms + HOUR_MS // 6), "truth": self._truth(x)}
            for kind, value in (("requests", asked), ("labels", labelled)):
                topic, partition = f"{self.name}.{kind}", number % PARTITIONS
                self._producer.send(topic, msgspec.json.encode(value), identity.encode(), partition=partition)

    def _truth(self, x: float) -> Any:
        level = 3 * (-x if self.has_shifted else x)
        if self.task == "regression":
            return 10 + level + float(self._random.normal())
        noisy = level + float(self._random.logistic())
        return float(noisy > 0) if self.task == "binary" else CLASSES[int(noisy > -1) + int(noisy > 1)]

    @property
    def asked(self) -> int:
        """Number of requests."""
        return self._number

    def follows(self, consumer: KafkaConsumer) -> bool:
        """Tell whether all requests have their prediction, and all but the last ones their outcome."""
        predictions, outcomes = (
            sum(consumer.end_offsets([TopicPartition(topic, n) for n in range(PARTITIONS)]).values())
            for topic in (topics.predictions(self.name), topics.outcomes(self.name))
        )
        return bool(predictions >= self.asked and outcomes >= self.asked - LAG_MAX)

    @property
    def latest(self) -> ModelChanged | None:
        return models_topic.read(self.settings).get(self.name)

    @property
    def aliases(self) -> dict[str, int]:
        found = mlflow_client.connect(self.settings).get_registered_model(self.name).aliases
        return {name: int(version) for name, version in found.items()}

    def of_topic(self, topic: str, kind: Any) -> list[Any]:
        """Return the records of this model in a topic, in order within partitions."""
        decode = records.decoder_of(kind).decode
        messages = kafka_consumers.read_topic(self.settings, "tests", topic)
        found = [decode(message.value) for message in messages if message.value is not None]
        return [record for record in found if record.model == self.name]

    @property
    def predictions(self) -> list[Prediction]:
        return self.of_topic(topics.predictions(self.name), Prediction)


class ShiftingWorld:
    """One model of each task, and all processes from scoring to the rollout."""

    def __init__(self, settings: Settings, prefix: str) -> None:
        changes: dict[str, Any] = {"models": settings.home.parent / "models", "partitions": PARTITIONS}
        self.settings = settings.model_copy(update=changes)
        registry = plan_cache.registry_path(self.settings)
        registry.parent.mkdir(parents=True)
        registry.touch()  # the models have no features of a store
        plan_cache.store(self.settings, FeaturePlan(project="p", views=(), services={}))
        self._producer = KafkaProducer(bootstrap_servers=settings.broker, acks="all")
        self.models = [
            ShiftingModel(self.settings, f"{prefix}{task}", task, self._producer) for task in TASKS
        ]
        ensure_topics(self.settings, load_all(self.settings.models))

    def hours(self, count: int, processes: Mapping[str, Process]) -> None:
        """Let hours of traffic pass; return when the processes have followed."""
        for _ in range(count):
            for each in self.models:
                each.send_hour()
        self._producer.flush()

        def check() -> None:
            for process in processes.values():
                process.check()

        with contextlib.closing(KafkaConsumer(bootstrap_servers=self.settings.broker)) as consumer:
            until(lambda: all(each.follows(consumer) for each in self.models), "all follow", check=check)

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[dict[str, Process]]:
        """Run all processes; by name."""
        with contextlib.ExitStack() as stack:
            started = {
                name: stack.enter_context(
                    Process(
                        name,
                        self.settings.model_copy(update={f"{name}_port": ports.free_port()}),
                        log=folder / f"{name}.log",
                    )
                )
                for name in PROCESSES
            }
            for process in started.values():
                process.wait_ready()
            yield started

    def close(self) -> None:
        self._producer.close()

"""A model whose requests are answered by its arms, on a real Kafka and registry, for tests of rollouts.

The scoring process is played: requests go to the arms that the models topic has at that moment, and labels
follow. So it is known how good, how fast and how reliable each version is, and time passes as fast as the
test wants.
"""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaProducer

from services.model_registry import ledger, mlflow_client, models_topic
from services.model_registry.traffic_split import CHAMPION
from services.operations.local_servers import ports
from services.runtime import kafka_consumers
from services.runtime.declaration_file import load_all
from services.runtime.settings import Settings
from services.runtime.topic_creation import ensure_topics
from services.scoring.arm_router import ArmRouter
from streams import records, topics
from streams.records import Arm, LedgerEntry, ModelChanged, RolloutEnded, RolloutRecord, RolloutRequested

HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000
PARTITIONS = 2
SESSION_SECONDS = 2
"""A killed process is soon replaced."""
OLD, NEW = 1, 2
REQUESTS_AN_HOUR = 240
DECLARED = """
name: {name}
owner: tests@driftline.example
task: {task}
request:
  topic: {name}.requests
  id: id
  event_time: at
  schema: {{id: string, at: timestamp, x: float}}
features: {{from_request: [x]}}
label:
  topic: {name}.labels
  id: id
  event_time: at
  value: truth
  {label}
  horizon_hours: 1
  schema: {{id: string, at: timestamp, truth: {kind}}}
"""
"""A model that gets one number with each request."""
MODEL_YAML = (
    DECLARED
    + """
rollout:
  steps:
    - {{share: shadow, maximum_hours: 2000}}
    - {{share: 20%, maximum_hours: 2000}}
    - {{share: 50%, maximum_hours: 2000}}
  guardrails:
    loss: {{margin: {margin}, maximum: {maximum}}}
    latency: {{margin: 0.3}}
  block_hours: 1
"""
)


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """How a version behaves on requests that it answers, beside the champion."""

    worse: float = 0.0
    """Added to the log odds of its scores, or to its values."""
    slow: float = 1.0
    """Factor of the time of its calls."""
    fails: float = 0.0
    """Share of the requests that the champion has to answer for it."""


class RolloutWorld:
    """One model, its two versions, and its traffic."""

    def __init__(self, kafka: str, mlflow: str, folder: Path, name: str, task: str = "binary") -> None:
        self.name, self.task = name, task
        declared = folder / "models" / name
        declared.mkdir(parents=True)
        is_binary = task == "binary"
        text = MODEL_YAML.format(
            name=name,
            task=task,
            label={"binary": "positive_above: 0.5"}.get(task, ""),
            kind="string" if task == "multiclass" else "float",
            margin=0.3 if is_binary else 0.6 if task == "multiclass" else 3,
            maximum=60 if task == "regression" else 4,
        )
        if task == "multiclass":
            text += "classes: [red, green, blue]\n"
        (declared / "model.yaml").write_text(text)
        self.settings = Settings(
            broker=kafka,
            mlflow_uri=mlflow,
            models=folder / "models",
            home=folder / "home",
            partitions=PARTITIONS,
            session_timeout_seconds=SESSION_SECONDS,
            rollout_port=ports.free_port(),
        )
        self.behaviour = Behaviour()
        ensure_topics(self.settings, load_all(self.settings.models))
        self._register()
        self._producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
        self._random = np.random.default_rng(3)
        self._number = 0
        self.arms([Arm(name=CHAMPION, version=OLD, weight=10_000)], "the first champion")
        self.hours(1)

    def close(self) -> None:
        self._producer.close()

    def _register(self) -> None:
        client = mlflow_client.connect(self.settings)
        client.create_registered_model(self.name)
        run = client.create_run(mlflow_client.experiment_id(client, self.name)).info
        for _ in (OLD, NEW):
            client.create_model_version(self.name, f"{run.artifact_uri}/model", run.run_id)
        client.set_registered_model_alias(self.name, CHAMPION, str(OLD))

    # -- what happens ------------------------------------------------------------------------------

    def arms(self, arms: list[Arm], reason: str) -> None:
        """Change the arms by hand."""

        def make(latest: ModelChanged | None) -> list[ModelChanged]:
            at_ms = START_MS if latest is None else latest.changed_at_ms
            return [ModelChanged(model=self.name, arms=arms, changed_at_ms=at_ms, reason=reason)]

        with models_topic.opened(self.settings, "operator") as models:
            models.publish_on_latest(self.name, make)

    def request(self, request_id: str = "r1", version: int = NEW) -> None:
        """Ask for the rollout of a version."""
        request = RolloutRequested(
            request_id=f"{self.name}-{request_id}",
            model=self.name,
            version=version,
            requested_at_ms=0,
            reason="a test asks for it",
            actor="tests",
        )
        self._producer.send(topics.ROLLOUTS.name, records.encode(request), self.name.encode())
        self._producer.flush()

    def hours(self, count: int) -> None:
        """Let hours of traffic pass with the arms of now."""
        router = ArmRouter(self.name, self.latest.arms)
        for _ in range(count * REQUESTS_AN_HOUR):
            self._ask(router)
        self._producer.flush()

    def _ask(self, router: ArmRouter) -> None:
        number, self._number = self._number, self._number + 1
        at_ms = START_MS + number * HOUR_MS // REQUESTS_AN_HOUR
        identity = f"{self.name}-{number}"
        index = int(router.assign(np.array([at_ms]), [identity], {})[0])
        own, level = router.answering[index], float(self._random.normal())
        partition = number % PARTITIONS
        given = self._prediction(router, own, level, identity, at_ms)
        self._producer.send(
            topics.predictions(self.name),
            records.encode(
                records.Prediction(
                    **given, source_partition=partition, source_offset=number // PARTITIONS, features=[level]
                )
            ),
            identity.encode(),
            partition=partition,
        )
        label = {"id": identity, "at": rfc3339(at_ms + HOUR_MS // 6), "truth": self._truth(level)}
        self._producer.send(
            f"{self.name}.labels", msgspec.json.encode(label), identity.encode(), partition=partition
        )

    def _prediction(
        self, router: ArmRouter, own: Arm, level: float, identity: str, at_ms: int
    ) -> dict[str, Any]:
        fallback = {}
        if own.version == NEW and self._random.random() < self.behaviour.fails:
            champion = next(arm for arm in reversed(router.answering) if arm.name == CHAMPION)
            fallback = {"fallback_from": own.name, "fallback_version": own.version}
            own = champion
        outputs = {arm.name: self._output(arm.version, level) for arm in router.shadows}
        score, prediction, probabilities = self._output(own.version, level)
        found: dict[str, Any] = {
            "prediction_id": identity,
            "model": self.name,
            "version": own.version,
            "arm": own.name,
            "arm_weight": own.weight,
            "call_us": self._call_us(own.version),
            "event_time_ms": at_ms,
            "scored_time_ms": at_ms,
            "features_lag_ms": 0,
            "score": score,
            "prediction": prediction,
            **fallback,
        }
        if probabilities:
            found["probabilities"] = probabilities
        if outputs:
            found["shadow_versions"] = {arm.name: arm.version for arm in router.shadows}
            found["shadow_scores"] = {name: output[0] for name, output in outputs.items()}
            found["shadow_call_us"] = {arm.name: self._call_us(arm.version) for arm in router.shadows}
            if probabilities:
                found["shadow_probabilities"] = {name: output[2] for name, output in outputs.items()}
        return found

    def _output(self, version: int, level: float) -> tuple[float, Any, list[float]]:
        """Return score, prediction and probabilities of a version."""
        added = self.behaviour.worse if version == NEW else 0.0
        noisy = level + float(self._random.normal()) * 0.05
        if self.task == "regression":
            return 10 * noisy + 10 * added, 10 * noisy + 10 * added, []
        if self.task == "binary":
            score = float(1 / (1 + np.exp(-(noisy + added))))
            return score, int(score >= 0.5), []
        odds = np.exp([noisy, -noisy, added])
        shares = (odds / odds.sum()).tolist()
        best = int(np.argmax(shares))
        return shares[best], ("red", "green", "blue")[best], shares

    def _truth(self, level: float) -> float | str:
        if self.task == "regression":
            return 10 * level + float(self._random.normal())
        if self.task == "binary":
            return float(self._random.random() < 1 / (1 + np.exp(-level)))
        odds = np.exp([level, -level, 0.0])
        return str(self._random.choice(["red", "green", "blue"], p=odds / odds.sum()))

    def _call_us(self, version: int) -> int:
        factor = self.behaviour.slow if version == NEW else 1.0
        return int(factor * self._random.gamma(4, 250))

    # -- what can be seen --------------------------------------------------------------------------

    @property
    def latest(self) -> ModelChanged:
        return models_topic.read(self.settings)[self.name]

    @property
    def history(self) -> list[RolloutRecord]:
        decode = records.decoder_of(records.RolloutRecord).decode
        found = kafka_consumers.read_topic(self.settings, "tests", topics.ROLLOUTS.name)
        decoded = [decode(message.value) for message in found]
        return [record for record in decoded if record.model == self.name]

    @property
    def ended(self) -> list[RolloutEnded]:
        return [record for record in self.history if isinstance(record, RolloutEnded)]

    @property
    def entries(self) -> list[LedgerEntry]:
        return [entry for entry in ledger.read(self.settings) if entry.model == self.name]

    @property
    def aliases(self) -> dict[str, int]:
        found = mlflow_client.connect(self.settings).get_registered_model(self.name).aliases
        return {name: int(version) for name, version in found.items()}


def rfc3339(time_ms: int) -> str:
    """Return an event time as applications write it."""
    return str(np.datetime64(time_ms, "ms")) + "Z"

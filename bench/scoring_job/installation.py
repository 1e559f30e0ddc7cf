"""A small installation without stream features, for the benchmarks and for the fault tests of scoring."""

import asyncio
import contextlib
import datetime as dt
import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from services.operations.local_servers import ports
from services.operations.local_servers.cluster import Embedded
from services.runtime import declaration_file, topic_creation
from services.runtime.settings import Settings
from streams import records
from streams.producer import BatchProducer, Record
from streams.topics import MODELS

JOB = Path(__file__).parent
MODEL = "propensity"
REQUESTS = "bench.requests"
PARTITIONS = 4
USERS = 5000
NAMES = [f"f{number}" for number in range(10)]


@contextlib.contextmanager
def installed(sinks: Sequence[str]) -> Iterator[tuple[Settings, Any]]:
    """Run the servers with all that the job needs; yield the settings and the champion's estimator.

    The sinks are topics for predictions in which a record's time is that of its arrival at the broker.
    """
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        base = Settings(
            home=Path(folder),
            models=JOB / "models",
            feature_repo=JOB / "feature_repo",
            scoring_port=ports.free_port(),
        )
        with Embedded(base) as servers:
            settings = servers.settings
            os.environ |= settings.environment()
            if sinks:
                create_topics(settings, sinks)
            topic_creation.ensure_topics(settings, declaration_file.load_all(settings.models), views=[])
            write_features(settings)
            estimator = train(seed=1)
            announce(settings, register(settings, estimator))
            yield settings, estimator


def create_topics(settings: Settings, names: Sequence[str]) -> None:
    """Create topics whose record times are those of the broker."""
    from kafka.admin import KafkaAdminClient, NewTopic

    broker_time = {"message.timestamp.type": "LogAppendTime"}
    admin = KafkaAdminClient(**settings.kafka_options())
    admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=broker_time) for name in names])
    admin.close()


def write_features(settings: Settings) -> None:
    """Apply the feature repository and write the users' features with Feast itself."""
    import pandas as pd
    from feast import FeatureStore

    from services.feature_store import repository

    generator = np.random.default_rng(1)
    frame = pd.DataFrame(generator.normal(size=(USERS, len(NAMES))), columns=NAMES)
    frame["user_id"] = [f"user-{number}" for number in range(USERS)]
    frame["event_timestamp"] = pd.Timestamp("2026-01-01", tz="UTC")
    frame.to_parquet(settings.home / "users.parquet")
    repository.apply(settings)
    os.environ["DRIFTLINE_ONLINE_STORE"] = repository.online_store_address(settings.redis_url)
    FeatureStore(repo_path=str(settings.feature_repo)).write_to_online_store("profile", frame)


def train(seed: int) -> Any:
    """Fit a logistic regression on ten numbers."""
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(2000, len(NAMES)))
    return LogisticRegression().fit(inputs, inputs.sum(axis=1) + generator.normal(size=2000) > 0)


def register(settings: Settings, estimator: Any, model: str = MODEL) -> int:
    """Register a model of the ten numbers as retraining does; return its version."""
    import pandas as pd

    from services.model_registry import mlflow_client, model_inputs, registration
    from services.runtime.declaration import FILE
    from services.runtime.declaration_file import load_named

    mlflow_client.connect(settings)
    declaration = load_named(settings.models / model / FILE)
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(64, len(NAMES))), columns=NAMES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / registration.FOLDER
        given = model_inputs.of_model(settings, declaration)
        tags = registration.seal_estimator(settings, declaration, given, estimator, rows, folder)
        return registration.register(settings, model, folder, tags)


def announce(settings: Settings, version: int, model: str = MODEL) -> None:
    """Make a version the champion."""
    change = records.ModelChanged(
        model=model,
        arms=[records.Arm(name="champion", version=version, weight=10_000)],
        changed_at_ms=0,
        reason="chosen by hand",
    )
    send(settings, MODELS.name, {0: [(model.encode(), records.encode(change), [])]})


def fill(settings: Settings, topic: str, events: int, *, first: int) -> None:
    """Write requests, numbered from ``first`` on, evenly to the partitions."""
    send(settings, topic, requests(events, first=first))


def requests(events: int, *, first: int) -> dict[int, list[Record]]:
    """Return requests by partition, numbered from ``first`` on and evenly distributed."""
    chooser = random.Random(first)
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC).isoformat()
    batches: dict[int, list[Record]] = {partition: [] for partition in range(PARTITIONS)}
    for number in range(first, first + events):
        user = f"user-{chooser.randrange(USERS)}"
        request = {"request_id": f"request-{number}", "event_time": now, "user_id": user}
        batches[number % PARTITIONS].append((user.encode(), msgspec.json.encode(request), []))
    return batches


def send(settings: Settings, topic: str, batches: Mapping[int, list[Record]]) -> None:
    """Write records by partition."""

    async def write() -> None:
        producer = BatchProducer(settings.kafka_options())
        await producer.start()
        try:
            await asyncio.gather(
                *(producer.send(topic, partition, batch) for partition, batch in batches.items())
            )
        finally:
            await producer.stop()

    asyncio.run(write())

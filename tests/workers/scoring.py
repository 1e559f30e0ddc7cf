"""The scoring process for tests, which sends itself a signal at a named point.

Environment: FAULT_POINT is ``before write`` (nothing of a slice is written yet), ``mid batch`` (half of its
predictions are written), ``written`` (all are written, but nothing is acknowledged or committed) or
``loading`` (a version is being loaded). FAULT_SIGNAL is the signal that the process sends itself when it
reaches this point for the FAULT_COUNT-th time. With FAULT_USER, the features of this user cannot be read.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

from services.model_registry.contract import LoadedVersion
from services.model_registry.model_inputs import Inputs
from services.runtime import logs
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from services.scoring import version_loaders
from services.scoring.loaded_versions import VersionLoader
from services.scoring.process import Scoring
from services.scoring.request_features import FeatureRows, RequestFeatures
from services.scoring.scored_batch import EventTimes
from streams import garbage, producer, topics

PREDICTIONS = topics.predictions("")


class Fault:
    """Counts how often the point was reached."""

    left = int(os.environ["FAULT_COUNT"])

    @classmethod
    def reach(cls, point: str) -> None:
        if point == os.environ["FAULT_POINT"]:
            cls.left -= 1
            if cls.left == 0:
                os.kill(os.getpid(), int(os.environ["FAULT_SIGNAL"]))


class FaultyProducer(producer.BatchProducer):
    """The real producer, with a signal at one point of the write of a slice's predictions."""

    async def send(self, topic: str, partition: int, batch: Iterable[producer.Record]) -> None:
        records = list(batch)
        if not topic.startswith(PREDICTIONS):
            await super().send(topic, partition, records)
            return
        half = len(records) // 2
        Fault.reach("before write")
        await super().send(topic, partition, records[:half])
        Fault.reach("mid batch")
        await super().send(topic, partition, records[half:])
        Fault.reach("written")


def faulty(factory: version_loaders.LoaderFactory) -> version_loaders.LoaderFactory:
    """Return loaders with a signal at their end: the version is loaded, but not yet in the cache."""

    def loader_of(declaration: ModelDeclaration, inputs: Inputs) -> VersionLoader:
        real = factory(declaration, inputs)

        def load(name: str, version: int) -> LoadedVersion:
            loaded = real(name, version)
            Fault.reach("loading")
            return loaded

        return load

    return loader_of


def fail_on(user: str) -> None:
    """Let the reading of features fail with an unexpected error if a request is of this user."""
    real = RequestFeatures.read

    async def read(self: RequestFeatures, events: Sequence[Any], times_ms: EventTimes) -> FeatureRows:
        if any(event.user_id == user for event in events):
            raise KeyError(user)
        return await real(self, events, times_ms)

    RequestFeatures.read = read  # type: ignore[method-assign]  # the fault of this test


def main() -> None:
    """Run until the signal."""
    garbage.collect_rarely()
    if user := os.environ.get("FAULT_USER"):
        fail_on(user)
    settings = Settings()
    logs.configure_logging("scoring", settings.log_level)
    Scoring(
        settings,
        producer=FaultyProducer(settings.kafka_options()),
        loader_factory=faulty(version_loaders.loader_factory(settings)),
    ).run()

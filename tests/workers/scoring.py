"""The scoring process for tests, ended or stopped at a named point.

Environment: FAULT_POINT is ``before write`` (nothing of a slice is written yet), ``mid batch`` (half of its
predictions are), ``written`` (all of them, but nothing is acknowledged or committed) or ``loading`` (a
version is being loaded); FAULT_SIGNAL the signal that the process sends itself there, the FAULT_COUNT-th
time.
"""

import os
from collections.abc import Iterable

from services.model_registry.contract import Model
from services.model_registry.model_inputs import Inputs
from services.runtime import logs
from services.runtime.declaration import ModelDeclaration
from services.runtime.settings import Settings
from services.scoring import model_loading
from services.scoring.model_versions import VersionLoader
from services.scoring.process import Scoring
from streams import producer, topics

PREDICTIONS = topics.predictions("")


class Fault:
    """Counts how often the point is reached."""

    left = int(os.environ["FAULT_COUNT"])

    @classmethod
    def reach(cls, point: str) -> None:
        if point == os.environ["FAULT_POINT"]:
            cls.left -= 1
            if cls.left == 0:
                os.kill(os.getpid(), int(os.environ["FAULT_SIGNAL"]))


class FaultyProducer(producer.BatchProducer):
    """The real producer, with a signal at one point of a slice's predictions."""

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


def faulty(loader: model_loading.LoaderFactory) -> model_loading.LoaderFactory:
    """Return a loader with a signal in the middle: the version is read, but in no cache yet."""

    def of_model(declaration: ModelDeclaration, given: Inputs) -> VersionLoader:
        real = loader(declaration, given)

        def load(name: str, version: int) -> Model:
            loaded = real(name, version)
            Fault.reach("loading")
            return loaded

        return load

    return of_model


def main() -> None:
    """Run until something happens."""
    # In the places where the process looks for them.
    real = model_loading.loader_factory
    model_loading.loader_factory = lambda settings: faulty(real(settings))
    producer.BatchProducer = FaultyProducer  # type: ignore[misc]
    settings = Settings()
    logs.configure_logging("scoring", settings.log_level)
    Scoring(settings).run()


if __name__ == "__main__":
    main()
